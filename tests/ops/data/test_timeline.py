"""Times to frames, on videos of fixed and variable rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ops.data.timeline import TimeError, end_of, frames_at, span, ticks, timeline, timestamps

TEN = np.arange(20) / 10  # 2 s at 10 frames per second
VARIABLE = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 3.0])


def test_a_frame_is_shown_until_the_next_one() -> None:
    assert frames_at(TEN, np.array([0.0, 0.05, 0.0999, 0.1, 0.45, 1.9, 7.0, -1.0])).tolist() == [
        0,
        0,
        1,
        1,
        4,
        19,
        19,
        0,
    ]
    assert frames_at(VARIABLE, np.array([0.5, 0.99, 1.0, 2.9, 3.5])).tolist() == [2, 2, 3, 4, 5]


def test_timestamps_rounded_to_milliseconds_are_the_same_frames() -> None:
    rounded = np.round(np.arange(90) / 30, 3)
    assert frames_at(rounded, np.arange(90) / 30).tolist() == list(range(90))
    assert span(rounded, 20 / 30, 50 / 30) == range(20, 50)


@pytest.mark.parametrize(
    ("times", "start", "end", "expected"),
    [
        (TEN, None, None, range(0, 20)),
        (TEN, 0.5, 1.0, range(5, 10)),  # the end is not in it
        (TEN, 0.51, 1.01, range(6, 11)),
        (TEN, None, 0.3, range(0, 3)),
        (TEN, 1.5, None, range(15, 20)),
        (TEN, 1.5, 99.0, range(15, 20)),
        (TEN, 0.52, 0.55, range(5, 6)),  # between two timestamps: what is shown there
        (TEN, 1.95, 2.5, range(19, 20)),
        (VARIABLE, 0.15, 1.05, range(2, 4)),
        (VARIABLE, 1.5, 2.5, range(4, 5)),
        (np.array([0.0]), None, None, range(0, 1)),
        # a video that starts late keeps its own clock
        (np.array([5.0, 5.1, 5.2]), None, 5.15, range(0, 2)),
    ],
)
def test_spans_known_answers(
    times: np.ndarray, start: float | None, end: float | None, expected: range
) -> None:
    assert span(times, start, end) == expected


def test_a_place_outside_is_named() -> None:
    assert end_of(TEN) == pytest.approx(2.0)
    with pytest.raises(
        TimeError, match=r"begins at 2\.500 s, after the video's last frame at 1\.900 s"
    ):
        span(TEN, 2.5, 3.0)
    with pytest.raises(TimeError, match=r"from 1\.000 s to 1\.000 s is empty"):
        span(TEN, 1.0, 1.0)
    with pytest.raises(TimeError, match=r"from 5\.000 s to 1\.000 s is empty"):
        span(np.array([5.0, 5.1]), None, 1.0)


def test_clocks_known_answers() -> None:
    assert ticks(TEN, None, None, 5).tolist() == list(range(0, 20, 2))
    assert ticks(TEN, None, None, 20).tolist() == np.repeat(np.arange(20), 2).tolist()
    assert ticks(TEN, 0.5, 1.5, 4).tolist() == [5, 7, 10, 12]  # 0.5, 0.75, 1.0, 1.25 s
    # 0 to 3.1 s, the last frame lasts 0.1 s
    assert ticks(VARIABLE, None, None, 2).tolist() == [0, 2, 3, 4, 4, 4, 5]
    assert ticks(TEN, 0.52, 0.55, 10).tolist() == [5]
    assert ticks(np.array([0.0]), None, None, 30).tolist() == [0]
    ntsc = np.arange(300) * 1001 / 30000
    assert ticks(ntsc, None, None, 30000 / 1001).tolist() == list(range(300))


def test_a_clock_stays_inside_its_place() -> None:
    for start, end in ((0.33, 1.21), (0.0, 2.0), (1.01, 1.02), (1.94, 5.0)):
        frames = span(TEN, start, end)
        found = ticks(TEN, start, end, 7.3)
        assert (
            found.min() >= frames.start
            and found.max() < frames.stop
            and (np.diff(found) >= 0).all()
        )


def test_a_timeline_is_what_samplers_choose_from() -> None:
    stored: dict[str, Any] = {"timestamps_s": TEN.tolist()}
    assert timeline(20, {}).tolist() == list(range(20))  # needs no timestamps
    assert timeline(20, stored, start_s=0.5, end_s=0.8).tolist() == [5, 6, 7]
    assert timeline(20, stored, start_s=0.5, fps=5).tolist() == [5, 7, 9, 11, 13, 15, 17, 19]
    with pytest.raises(TimeError, match="20 timestamps for 21 frames"):
        timeline(21, stored, fps=5)
    with pytest.raises(TimeError, match="no timestamps_s; store the video's frames again"):
        timestamps({"fps": 10.0})
