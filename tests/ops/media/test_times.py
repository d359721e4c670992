"""Times that rise, whatever recorders, muxers and `cat` have written."""

from __future__ import annotations

import numpy as np
import pytest

from ops.media.times import packets_in_order, rising

STEP = 0.04
NAN = float("nan")


@pytest.mark.parametrize("stamps, right, said", [
    ([0, 1, 2, 3], [0, 1, 2, 3], ""),
    ([0, 1, 1, 2], [0, 1, 1, 2], ""),
    ([0, 1, 2, 252, 253], [0, 1, 2, 252, 253], ""),  # a pause
    ([0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7], "2 restarts of the clock"),
    ([0, 2, 1, 3, 5, 4], [0, 1, 2, 3, 4, 5], ""),  # they belong to other frames
    ([1, 2, 4, 3, 5, 7, 8, 6], [1, 2, 3, 4, 5, 6, 7, 8], ""),
    ([0, 1, 2, 9e6, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6], "a wild stamp"),
    ([0, 1, 2, -9e6, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6], "a wild stamp"),
    ([0, 1, 2, 30, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6], "a wild stamp"),
    ([0, 1, 2, 3, 4, 9e6], [0, 1, 2, 3, 4, 5], "a wild stamp"),
    ([9e6, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], "a wild stamp"),
    ([NAN, NAN, NAN], [0, 1, 2], ""),
    ([NAN, 1, NAN, 3], [0, 1, 2, 3], ""),
])  # fmt: skip
def test_frames_get_times_that_rise(stamps, right, said):
    clock = rising(np.array(stamps) * STEP, STEP)
    assert np.allclose(clock.times_s, np.array(right) * STEP) and clock.mended == said


def test_a_leap_is_a_pause_or_another_clock():
    stamps = np.array([0, 1, 2, 900, 901]) * STEP
    assert np.array_equal(rising(stamps, STEP).times_s, stamps)
    assert np.allclose(rising(stamps, STEP, leap_s=10).times_s, np.arange(5) * STEP)


def test_packets_are_sorted_part_by_part():
    shown, decoded = np.array([0, 4, 2, 1, 3]) * STEP, np.array([-2, -1, 0, 1, 2]) * STEP
    order, clock = packets_in_order(np.tile(shown, 2), np.tile(decoded, 2), STEP)
    assert order.tolist() == [0, 3, 2, 4, 1, 5, 8, 7, 9, 6] and np.allclose(
        clock.times_s, np.arange(10) * STEP
    )
    assert clock.mended == "the clock restarts"
    order, clock = packets_in_order(shown, decoded, STEP)
    assert order.tolist() == [0, 3, 2, 4, 1] and clock.mended == ""
    wild = np.arange(40.0)
    wild[20] = 9e5
    assert packets_in_order(wild * STEP, np.arange(40.0) * STEP, STEP)[1].mended == "a wild stamp"


def test_any_stamps_rise():
    rng = np.random.default_rng(0)
    for number in range(200):
        stamps = np.cumsum(rng.integers(0, 3, 30)) * STEP
        for _ in range(number % 5):
            kind, place = rng.integers(0, 4), rng.integers(0, 30)
            stamps[place:] -= [0, 0, stamps[place], 100][kind]
            stamps[place] += [0, rng.normal() * 1e4, 0, 0][kind]
        times = rising(stamps, STEP, leap_s=10 if number % 2 else float("inf")).times_s
        assert len(times) == 30 and np.isfinite(times).all() and (np.diff(times) >= 0).all()
