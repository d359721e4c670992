"""Frame indices against answers worked out by hand from the original rules."""

from __future__ import annotations

import numpy as np
import pytest

from configs.schema import ConfigError, Sampling
from ops.data.samplers import fixed_indices, random_indices


class Draws:
    """A generator that returns what it is told and notes what it was asked."""

    def __init__(self, *values: list[int]) -> None:
        self.values, self.asked = list(values), []

    def integers(self, high: int, size: int) -> np.ndarray:
        self.asked.append((high, size))
        return np.array(self.values.pop(0))


def segments(count: int, clip_len: int = 1, interval: int = 1) -> Sampling:
    return Sampling(kind="segments", num_segments=count, clip_len=clip_len, frame_interval=interval)


def dense(clip_len: int, interval: int) -> Sampling:
    return Sampling(kind="dense", num_segments=1, clip_len=clip_len, frame_interval=interval)


@pytest.mark.parametrize(
    ("sampling", "frames", "clips", "expected"),
    [
        (segments(3), 10, 1, [[1, 5, 8]]),  # 10/3 * (i + 1/2) = 1.67, 5, 8.33, cut
        (segments(8), 250, 1, [[15, 46, 78, 109, 140, 171, 203, 234]]),
        (segments(3), 10, 2, [[1, 5, 8], [0, 3, 6]]),  # the second view is the originals' twice-sample
        (segments(4), 2, 1, [[0, 0, 1, 1]]),
        (dense(4, 2), 20, 1, [[6, 8, 10, 12]]),  # span 7, last start 13, 13 // 2
        (dense(4, 2), 20, 3, [[0, 2, 4, 6], [6, 8, 10, 12], [13, 15, 17, 19]]),  # round(6.5) is 6: half to even
        (dense(4, 2), 5, 1, [[0, 2, 4, 1]]),  # past the end: from the beginning again
        (dense(4, 2), 5, 2, [[0, 2, 4, 1], [0, 2, 4, 1]]),
        (segments(3, clip_len=2, interval=2), 11, 1, [[0, 2, 4, 6, 8, 10]]),
    ],
)
def test_fixed_indices_known_answers(sampling: Sampling, frames: int, clips: int, expected: list[list[int]]) -> None:
    found = fixed_indices(sampling, frames, clips)
    assert found.tolist() == expected
    assert found.shape == (clips, sampling.num_frames)


@pytest.mark.parametrize(
    ("sampling", "frames", "draws", "asked", "expected"),
    [
        (segments(3), 10, [[2, 0, 1]], [(3, 3)], [2, 3, 7]),  # shares of (10 - 1 + 1) // 3 frames
        (segments(8), 8, [[0] * 8], [(1, 8)], list(range(8))),
        (segments(4), 3, [], [], [0, 1, 2, 2]),  # fewer frames than segments: around(i * 3/4), banker's rounding
        (segments(3, 4), 5, [[1, 0, 1]], [(2, 3)], [0, 1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4]),  # share 0, more frames than one snippet
        (dense(4, 2), 20, [[5]], [(13, 1)], [5, 7, 9, 11]),  # the original reserves clip_len * interval frames
        (dense(4, 2), 5, [], [], [0, 2, 4, 1]),
        (dense(4, 2), 7, [], [], [0, 2, 4, 6]),
    ],
)
def test_random_indices_known_answers(sampling: Sampling, frames: int, draws: list, asked: list, expected: list[int]) -> None:
    generator = Draws(*draws)
    assert random_indices(sampling, frames, generator).tolist() == expected  # type: ignore[arg-type]
    assert generator.asked == asked


@pytest.mark.parametrize("sampling", [segments(8), segments(3, 5, 2), dense(16, 4)])
@pytest.mark.parametrize("frames", [1, 7, 64, 300])
def test_indices_stay_inside_and_depend_on_the_seed_alone(sampling: Sampling, frames: int) -> None:
    first, again = (random_indices(sampling, frames, np.random.default_rng(4)) for _ in range(2))
    assert first.tolist() == again.tolist()
    for indices in (first, fixed_indices(sampling, frames, 3)):
        assert indices.min() >= 0 and indices.max() < frames


def test_every_segment_is_hit_at_random() -> None:
    drawn = np.array([random_indices(segments(4), 40, np.random.default_rng(seed)) for seed in range(300)])
    for segment in range(4):
        assert set(drawn[:, segment]) == set(range(10 * segment, 10 * segment + 10))


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.num_segments.*found 2.*allowed: 1"):
        fixed_indices(Sampling(kind="dense", num_segments=2, clip_len=4), 10)
    with pytest.raises(ValueError, match="at least one frame, found 0"):
        random_indices(segments(2), 0, np.random.default_rng(0))
