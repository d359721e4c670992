"""The time grid against ActionFormer's rule, and which frames a window sees."""

from __future__ import annotations

import numpy as np
import pytest

from ops.data.feature_grid import clock, covered_frames, num_steps, sampled, to_grid, window_frames


@pytest.mark.parametrize(
    ("fps", "stride", "num_frames", "seconds", "grid"),
    [
        (30.0, 4, 16, 0.0, -2.0),  # THUMOS14: the first window's middle is at frame 8
        (30.0, 4, 16, 8 / 30, 0.0),
        (30.0, 16, 32, 16 / 30, 0.0),  # EPIC-Kitchens, Ego4D
        (15.0, 16, 16, 8 / 15, 0.0),  # ActivityNet, TSP
        (25.0, 16, 16, 10.0, 15.125),
    ],
)
def test_grid_and_seconds_are_inverse(
    fps: float, stride: int, num_frames: int, seconds: float, grid: float
) -> None:
    assert to_grid(seconds, fps, stride, num_frames) == pytest.approx(grid)
    assert (grid * stride + 0.5 * num_frames) / fps == pytest.approx(seconds)


def test_the_number_of_steps_is_that_of_the_whole_windows() -> None:
    assert [num_steps(n, 4, 16) for n in (1, 15, 16, 19, 20, 23, 24, 300)] == [
        1,
        1,
        1,
        1,
        2,
        2,
        3,
        72,
    ]
    assert num_steps(100, 16, 16) == 6 and num_steps(96, 16, 16) == 6 and num_steps(95, 16, 16) == 5
    # the published length rule: T steps stand for (T - 1) * stride + num_frames frames
    for steps in (1, 2, 50):
        assert num_steps(covered_frames(steps, 16, 32), 16, 32) == steps
    with pytest.raises(ValueError, match="at least one frame"):
        num_steps(0, 4, 16)


def test_the_frames_of_a_window() -> None:
    np.testing.assert_array_equal(sampled(16, 16), np.arange(16))
    np.testing.assert_array_equal(sampled(16, 8), np.arange(8) * 2 + 1)
    np.testing.assert_array_equal(sampled(16, 3), [2, 8, 13])
    for wrong in (0, 17):
        with pytest.raises(ValueError, match=r"allowed: 1\.\.16"):
            sampled(16, wrong)
    frames = window_frames(np.arange(40), 4, 16, 8)
    assert frames.shape == (7, 8)
    np.testing.assert_array_equal(frames[3], 12 + np.arange(8) * 2 + 1)


def test_a_short_video_repeats_its_last_frame() -> None:
    np.testing.assert_array_equal(window_frames(np.arange(5), 4, 16, 8), [[1, 3, 4, 4, 4, 4, 4, 4]])


def test_the_clock_is_the_identity_on_the_videos_own_rate() -> None:
    for fps in (10.0, 25.0, 29.97, 30.0, 59.94):
        for count in (1, 2, 7, 300, 4001):
            times = np.round(np.arange(count) / fps, 6)  # as they are stored
            np.testing.assert_array_equal(
                clock(times, fps), np.arange(count), err_msg=f"{fps} {count}"
            )


def test_the_clock_of_another_rate_takes_the_nearest_frame() -> None:
    times = np.arange(10) / 10
    np.testing.assert_array_equal(clock(times, 5), [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(
        clock(times, 20), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    )
    variable = np.array([0.0, 0.1, 0.2, 1.0, 1.1])  # a frame that stands for 0.8 s
    np.testing.assert_array_equal(clock(variable, 10), [0, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4])
    late = 0.5 + np.arange(4) / 10  # the picture starts half a second after time zero
    np.testing.assert_array_equal(clock(late, 10), [0, 0, 0, 0, 0, 0, 1, 2, 3])
    with pytest.raises(ValueError, match="found 0"):
        clock(np.array([]), 10)
