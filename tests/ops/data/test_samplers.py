"""Frame indices against answers worked out by hand from the original rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from configs.schema import ConfigError, Sampling
from ops.data.samplers import fixed_indices, num_fixed, random_indices


class Draws:
    """A generator that returns what it is told and notes what it was asked."""

    def __init__(self, *values: Any) -> None:
        self.values, self.asked = list(values), []

    def integers(self, low: Any, high: Any = None, size: int | None = None) -> Any:
        bounds = low if high is None else (np.asarray(low).tolist(), np.asarray(high).tolist())
        self.asked.append(bounds if size is None else (bounds, size))
        value = self.values.pop(0)
        return np.array(value) if isinstance(value, list) else value

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        self.asked.append((low, high, size))
        return np.array(self.values.pop(0))

    def choice(self, values: np.ndarray, size: int) -> np.ndarray:
        self.asked.append((values.tolist(), size))
        return values[self.values.pop(0)]


def segments(count: int, clip_len: int = 1, interval: int = 1, **more: Any) -> Sampling:
    return Sampling(
        kind="segments", num_segments=count, clip_len=clip_len, frame_interval=interval, **more
    )


def dense(clip_len: int, interval: int, **more: Any) -> Sampling:
    return Sampling(
        kind="dense", num_segments=1, clip_len=clip_len, frame_interval=interval, **more
    )


def uniform(clip_len: int) -> Sampling:
    return Sampling(kind="uniform", clip_len=clip_len)


def spread(
    count: int, sample_range: int, positions: int = 3, clip_len: int = 1, interval: int = 1
) -> Sampling:
    values = dict(
        num_segments=count,
        clip_len=clip_len,
        frame_interval=interval,
        sample_range=sample_range,
        num_positions=positions,
    )
    return Sampling(kind="dense_sample", **values)


def pan(count: int, clip_len: int) -> Sampling:
    return Sampling(kind="pan", num_segments=count, clip_len=clip_len)


def sliding(clip_len: int, interval: int, stride: int) -> Sampling:
    return Sampling(kind="sliding", clip_len=clip_len, frame_interval=interval, stride=stride)


@pytest.mark.parametrize(
    ("sampling", "frames", "clips", "expected"),
    [
        (segments(3), 10, 1, [[1, 5, 8]]),  # 10/3 * (i + 1/2) = 1.67, 5, 8.33, cut
        (segments(8), 250, 1, [[15, 46, 78, 109, 140, 171, 203, 234]]),
        (segments(25), 50, 1, [list(range(1, 50, 2))]),  # 2i + 1
        (segments(3), 10, 2, [[1, 5, 8], [0, 3, 6]]),
        (segments(4), 2, 1, [[0, 0, 1, 1]]),
        (dense(4, 2), 20, 1, [[6, 8, 10, 12]]),  # span 7, last start 13, 13 // 2
        # round(6.5) is 6: half to even
        (dense(4, 2), 20, 3, [[0, 2, 4, 6], [6, 8, 10, 12], [13, 15, 17, 19]]),
        (dense(4, 2), 5, 1, [[0, 2, 4, 1]]),  # past the end: from the beginning again
        (dense(4, 2, beyond_end="repeat_last"), 5, 1, [[0, 2, 4, 4]]),
        # the snippet's last frame, not the clip's (5)
        (dense(4, 2, beyond_end="repeat_last"), 6, 1, [[0, 2, 4, 4]]),
        (dense(4, 2), 5, 2, [[0, 2, 4, 1], [0, 2, 4, 1]]),
        (segments(3, clip_len=2, interval=2), 11, 1, [[0, 2, 4, 6, 8, 10]]),
        # share 9/4: starts round(0, 2.25, 4.5, 6.75) = 0, 2, 4, 7, plus int(9/8)
        (uniform(4), 10, 1, [[1, 3, 5, 8]]),
        (uniform(4), 10, 2, [[0, 2, 4, 7], [1, 3, 5, 8]]),  # share / 3 * (1, 2) = 0.75, 1.5
        # 0.45, 0.9, 1.35, 1.8
        (uniform(4), 10, 4, [[0, 2, 4, 7], [0, 2, 4, 7], [1, 3, 5, 8], [1, 3, 5, 8]]),
        (uniform(8), 3, 1, [[0, 0, 0, 1, 1, 1, 2, 2]]),  # share 1/4: round(0.5) = 0, round(1.5) = 2
        (uniform(4), 1, 2, [[0, 0, 0, 0], [0, 0, 0, 0]]),
        # positions 0..9: linspace 0, 4.5, 9, cut
        (spread(4, 8), 17, 1, [[0, 2, 4, 6], [4, 6, 8, 10], [9, 11, 13, 15]]),
        (spread(4, 8), 6, 1, [[0, 2, 4, 0]] * 3),  # shorter than the window: one position, modulo 6
        (spread(3, 8, positions=2), 10, 1, [[0, 2, 4], [2, 4, 6]]),  # interval 8 // 3
        (spread(1, 8, positions=2, clip_len=4, interval=2), 10, 1, [[0, 2, 4, 6], [2, 4, 6, 8]]),
        (spread(4, 8, positions=1), 17, 1, [[4, 6, 8, 10]]),  # a single one is in the middle
        (pan(2, 4), 20, 1, [[4, 5, 6, 7, 12, 13, 14, 15]]),  # tick 17/2: int(4.25), int(12.75)
        (pan(3, 2), 5, 1, [[0, 1, 2, 3, 3, 4]]),  # tick 4/3: 0.67, 2, 3.33
        (pan(2, 4), 3, 1, [[0, 1, 2, 2, 0, 1, 2, 2]]),  # the last frame stands still
        (sliding(2, 2, 3), 10, 1, [[0, 2], [3, 5], [6, 8]]),  # starts up to 10 - 3
        (sliding(4, 1, 2), 3, 1, [[0, 1, 2, 0]]),  # a clip shorter than a window has one
    ],
)
def test_fixed_indices_known_answers(
    sampling: Sampling, frames: int, clips: int, expected: list[list[int]]
) -> None:
    found = fixed_indices(sampling, frames, clips)
    assert found.tolist() == expected
    assert found.dtype == np.int64
    if sampling.kind != "sliding":
        assert found.shape == (num_fixed(sampling, clips), sampling.num_frames)


@pytest.mark.parametrize(
    ("sampling", "frames", "clips", "expected"),
    [
        (segments(3), 10, 1, [[1, 5, 8], [0, 3, 6]]),  # the second view without the half step
        # distance 10 / (2 - 1): 0, 10, 20, 30, modulo 12
        (dense(2, 1), 12, 2, [[0, 1], [10, 11], [8, 9], [6, 7]]),
        # distance 5: 15, 20, 25
        (dense(2, 1), 12, 3, [[0, 1], [5, 6], [10, 11], [3, 4], [8, 9], [1, 2]]),
        (segments(2, clip_len=2), 12, 1, [[0, 1, 10, 11], [8, 9, 6, 7]]),
        # nothing of the snippet is inside
        (dense(2, 1, beyond_end="repeat_last"), 12, 2, [[0, 1], [10, 11], [0, 0], [0, 0]]),
        (pan(2, 4), 20, 1, [[4, 5, 6, 7, 12, 13, 14, 15], [0, 1, 2, 3, 8, 9, 10, 11]]),
    ],
)
def test_twice_sample_known_answers(
    sampling: Sampling, frames: int, clips: int, expected: list[list[int]]
) -> None:
    found = fixed_indices(sampling, frames, clips, twice=True)
    assert found.tolist() == expected and len(found) == num_fixed(sampling, clips, twice=True)


@pytest.mark.parametrize(
    ("sampling", "frames", "draws", "asked", "expected"),
    [
        (segments(3), 10, [[2, 0, 1]], [(3, 3)], [2, 3, 7]),  # shares of (10 - 1 + 1) // 3 frames
        (segments(8), 8, [[0] * 8], [(1, 8)], list(range(8))),
        # fewer frames than segments: around(i * 3/4), banker's rounding
        (segments(4), 3, [], [], [0, 1, 2, 2]),
        # share 0, more frames than one snippet
        (segments(3, 4), 5, [[1, 0, 1]], [(2, 3)], [0, 1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4]),
        # 3.33 + 3.0, 6.67 + 3.3
        (segments(3, keep_tail=True), 10, [[0.5, 3.0, 3.3]], [(0, 10 / 3, 3)], [0, 6, 9]),
        (segments(2, 4, keep_tail=True), 3, [], [], [0, 1, 2, 0] * 2),  # no room at all
        # the original reserves clip_len * interval frames
        (dense(4, 2), 20, [[5]], [(13, 1)], [5, 7, 9, 11]),
        (dense(4, 2), 5, [], [], [0, 2, 4, 1]),
        (dense(4, 2), 7, [], [], [0, 2, 4, 6]),
        # both edges may be drawn
        (uniform(4), 10, [[2, 2, 7, 9]], [([0, 2, 4, 7], [3, 5, 8, 10])], [2, 2, 7, 9]),
        # 10 positions, of which the last is never drawn
        (spread(4, 8), 17, [6], [9], [6, 8, 10, 12]),
        (spread(4, 8), 8, [], [], [0, 2, 4, 6]),  # one position, nothing to draw
        # shares of (20 - 4 + 1) // 2
        (pan(2, 4), 20, [[7, 0]], [(8, 2)], [7, 8, 9, 10, 8, 9, 10, 11]),
        (pan(3, 4), 5, [[1, 0, 1]], [(2, 3)], [0, 1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4]),  # sorted
        (pan(4, 2), 4, [], [], [0, 1] * 4),
        (sliding(2, 2, 3), 10, [[1]], [([0, 3, 6], 1)], [3, 5]),
    ],
)
def test_random_indices_known_answers(
    sampling: Sampling, frames: int, draws: list, asked: list, expected: list[int]
) -> None:
    generator = Draws(*draws)
    assert random_indices(sampling, frames, generator).tolist() == expected  # type: ignore[arg-type]
    assert generator.asked == asked


@pytest.mark.parametrize(
    ("clip_len", "interval", "key_frame", "expected"),
    [
        (16, 4, 50, list(range(18, 82, 4))),  # range(c - 32, c + 32, 4): the key frame is number 8
        (4, 2, 1, [0, 0, 1, 3]),  # -3, -1, 1, 3
        (4, 2, 99, [95, 97, 99, 99]),
        (3, 2, 10, [8, 10, 12]),
    ],
)
def test_key_frames_stand_in_the_middle(
    clip_len: int, interval: int, key_frame: int, expected: list[int]
) -> None:
    sampling = Sampling(kind="key_frame", clip_len=clip_len, frame_interval=interval)
    assert fixed_indices(sampling, 100, key_frame=key_frame).tolist() == [expected]
    assert random_indices(sampling, 100, Draws(), key_frame=key_frame).tolist() == expected  # type: ignore[arg-type]


EVERY = [
    segments(8),
    segments(3, 5, 2),
    segments(8, keep_tail=True),
    dense(16, 4),
    uniform(16),
    spread(8, 64),
    pan(8, 4),
    sliding(8, 2, 3),
]


@pytest.mark.parametrize("sampling", EVERY, ids=lambda sampling: sampling.kind)
@pytest.mark.parametrize("beyond_end", ["loop", "repeat_last"])
@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 63, 64, 65, 300])
def test_indices_stay_inside_and_depend_on_the_seed_alone(
    sampling: Sampling, beyond_end: str, frames: int
) -> None:
    sampling = sampling.model_copy(update={"beyond_end": beyond_end})
    first, again = (random_indices(sampling, frames, np.random.default_rng(4)) for _ in range(2))
    assert first.tolist() == again.tolist()
    views = [fixed_indices(sampling, frames)]
    views += (
        [fixed_indices(sampling, frames, 3)]
        if sampling.kind in ("segments", "dense", "uniform")
        else []
    )
    for indices in (first, *views):
        assert (
            indices.min() >= 0
            and indices.max() < frames
            and indices.shape[-1] == sampling.num_frames
        )


def test_every_segment_is_hit_at_random() -> None:
    drawn = np.array(
        [random_indices(segments(4), 40, np.random.default_rng(seed)) for seed in range(300)]
    )
    for segment in range(4):
        assert set(drawn[:, segment]) == set(range(10 * segment, 10 * segment + 10))


@pytest.mark.parametrize(
    ("sampling", "clips", "twice", "message"),
    [
        (
            Sampling(kind="dense", num_segments=2, clip_len=4),
            1,
            False,
            r"sampling\.num_segments.*found 2.*allowed: 1.*'dense_sample'",
        ),
        (
            Sampling(kind="uniform", num_segments=2),
            1,
            False,
            r"sampling\.num_segments.*allowed: 1 with kind 'uniform'",
        ),
        (spread(9, 8), 1, False, r"sampling\.sample_range.*found 8.*at least num_segments = 9"),
        (spread(4, 8), 2, False, r"views\.num_clips.*found 2.*allowed: 1 with kind 'dense_sample'"),
        (uniform(4), 1, True, r"views\.twice.*false with kind 'uniform'"),
        (segments(3), 2, True, r"views\.num_clips.*found 2.*allowed: 1 with views\.twice"),
        (dense(4, 2), 1, True, r"views\.twice.*false with a single snippet"),
    ],
)
def test_contradictions_are_named(
    sampling: Sampling, clips: int, twice: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fixed_indices(sampling, 10, clips, twice)


def test_other_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="at least one frame, found 0"):
        random_indices(segments(2), 0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="kind 'key_frame' needs a key frame"):
        fixed_indices(Sampling(kind="key_frame", clip_len=4), 10)
    with pytest.raises(ValueError, match="kind 'segments' has no key frame"):
        fixed_indices(segments(2), 10, key_frame=3)
    with pytest.raises(ValueError, match="key frame 10 is outside the 10 frames"):
        fixed_indices(Sampling(kind="key_frame", clip_len=4), 10, key_frame=10)
    with pytest.raises(ConfigError, match=r"sampling\.kind.*found 'sliding'"):
        num_fixed(sliding(2, 2, 3))
