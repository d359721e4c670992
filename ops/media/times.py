"""Times of frames that rise: clocks that start anew where parts were joined, single wild stamps,
frames without any time.

Frames come in the order of showing, and that order is right: a decoder takes it from the pictures.
Times are what recorders, muxers and `cat` get wrong. All times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# frames: so far at most does a decoder reorder (H.264 and HEVC allow 16, twice that for fields)
REORDER = 32
WILD_S = 2.0  # a stamp at least so far, and by REORDER frames, from both its neighbours is wild
# a first or last frame so far from all others, and so many times farther than they reach, is wild
LEAP_S, LEAPS = 600.0, 10
# share of frames that go back in time where stamps belong to other frames, and no clock starts anew
SHUFFLED = 0.1
NEVER = float("inf")
# of a frame's period: frames closer or farther than this after sorting did not belong among each
# other
CROWDED, SPREAD = 0.5, 4


class Clock(NamedTuple):
    """Times float64 [T], rising, and in words what was put right ("" for nothing)."""

    times_s: np.ndarray
    mended: str


def rising(times: Sequence[float] | np.ndarray, period: float, leap_s: float = NEVER) -> Clock:
    """Times of frames in the order of showing.

    A single stamp far off its neighbours gets a time between them; where the clock starts anew, the
    next part follows the last; times that are merely out of order are sorted; a frame without time
    follows the one before.

    Args:
        times: one for each frame, in seconds; NaN is none.
        period: seconds that a frame is shown by the rate, if anything.
        leap_s: where the clock leaps by more, it starts anew as well.
    """
    own = np.array(times, np.float64)
    if not len(own):
        return Clock(own, "")
    blank = np.isnan(own)
    if blank.all():
        return Clock(np.arange(len(own)) * period, "")
    if (
        not blank.any()
        and not _leaps(own)
        and (np.diff(own) >= 0).all()
        and np.diff(own).max(initial=0.0) <= leap_s
    ):
        return Clock(own, "")
    own = _filled(own, blank, period)
    step = _step(own, period)
    own, wild = _tamed(own, step)
    own, restarts, more = _joined(own, step, leap_s)
    wild += more
    said = (
        [f"{restarts} restarts of the clock" if restarts > 1 else "the clock restarts"]
        if restarts
        else []
    )
    said += [f"{wild} wild stamps" if wild > 1 else "a wild stamp"] if wild else []
    return Clock(own, " and ".join(said))


def packets_in_order(
    shown: np.ndarray, decoded: np.ndarray, period: float, leap_s: float = NEVER
) -> tuple[np.ndarray, Clock]:
    """(places int64 [T] of the packets in the order of showing, their clock) of packets in the
    order of the file.

    `shown` and `decoded` are the packets' times of showing and of decoding, NaN for none.
    """
    decoded = np.where(np.isnan(decoded), shown, decoded)
    shown = np.where(np.isnan(shown), decoded, shown)
    known = ~np.isnan(shown)
    if not known.all() or not len(shown):  # nothing to sort by
        return np.arange(len(shown)), rising(shown, period, leap_s)
    steps = np.diff(decoded)
    if (
        (steps >= 0).all()
        and steps.max(initial=0.0) <= leap_s
        and not len(_far(shown, decoded, period))
        and not _leaps(decoded)
    ):
        order = np.argsort(shown, kind="stable")
        return order, rising(shown[order], period, leap_s)
    step = _step(decoded, period)
    steady, wild = _tamed(decoded, step)
    off = _far(shown, steady, step)
    shown = shown.copy()
    shown[off] = steady[off] + np.median(shown - steady)
    steps = np.diff(steady)
    starts = np.flatnonzero((steps < -CROWDED * step) | (steps > leap_s)) + 1
    order = np.concatenate(
        [
            part[0] + np.argsort(shown[part], kind="stable")
            for part in np.split(np.arange(len(shown)), starts)
        ]
    )
    clock = rising(shown[order], period, leap_s)
    wild = max(wild, len(off))
    said = [f"{wild} wild stamps" if wild > 1 else "a wild stamp"] if wild else []
    if "wild" in clock.mended:
        said = []
    return order, Clock(
        clock.times_s, " and ".join([*([clock.mended] if clock.mended else []), *said])
    )


def _far(shown: np.ndarray, decoded: np.ndarray, step: float) -> np.ndarray:
    """Places of packets whose two times are wild to each other: sooner where a stamp has fallen
    among those of other frames.
    """
    lag = np.abs(shown - decoded - np.median(shown - decoded))
    crowded = (np.diff(np.sort(shown)) < CROWDED * step).any()
    return np.flatnonzero(
        lag > (REORDER // 2 + 1) * step if crowded else lag > max(WILD_S, REORDER * step)
    )


def _leaps(times: np.ndarray) -> bool:
    """Whether the first or the last frame, or one on its own, could be wild although the times
    rise.
    """
    return len(times) > 2 and bool(_lone_end(times) or _lone_end(-times[::-1]))


def _lone_end(times: np.ndarray) -> bool:
    rest = times[:-1]
    return bool(times[-1] - rest[-1] > max(LEAP_S, LEAPS * (rest.max() - rest.min())))


def _step(times: np.ndarray, period: float) -> float:
    """How long a frame is usually shown."""
    steps = np.diff(times)
    if (steps < 0).sum() > SHUFFLED * len(steps):  # steps between frames out of order say nothing
        steps = np.diff(np.sort(times))
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else period


def _filled(times: np.ndarray, blank: np.ndarray, period: float) -> np.ndarray:
    """Frames without a time follow the one before, the first ones lead up to the first time that
    there is.
    """
    first = int(np.flatnonzero(~blank)[0])
    times[:first] = times[first] - period * np.arange(first, 0, -1)
    for place in np.flatnonzero(blank):
        if place > first:
            times[place] = times[place - 1] + period
    return times


def _tamed(times: np.ndarray, step: float) -> tuple[np.ndarray, int]:
    """Single wild stamps get a time between their neighbours'; and how many there were."""
    times, far, wild = times.copy(), max(WILD_S, REORDER * step), 0
    if len(times) > 2 and (_lone_end(-times[::-1]) or times[0] - times[1] > far):
        times[0], wild = times[1] - step, 1
    if len(times) > 2 and (_lone_end(times) or times[-2] - times[-1] > far):
        times[-1], wild = times[-2] + step, wild + 1
    for place in np.flatnonzero(np.diff(times) < -far).tolist():
        # the stamp before the fall is too high, or the one after it too low
        for one in (place, place + 1):
            if 0 < one < len(times) - 1:
                before, after = times[one - 1], times[one + 1]
                outside = min(abs(times[one] - before), abs(times[one] - after))
                if before <= after and not before <= times[one] <= after and outside > far:
                    times[one], wild = (before + after) / 2, wild + 1
    return times, wild


def _joined(times: np.ndarray, step: float, leap_s: float) -> tuple[np.ndarray, int, int]:
    """Every part of a clock that starts anew follows the part before; small disorder is sorted, a
    single stamp that is not in order gets a time between its neighbours'. And how many parts
    followed, and stamps were wild.
    """
    times, restarts, wild, place = times.copy(), 0, 0, 1
    top = times[0]
    while place < len(times):
        if top <= times[place] <= top + leap_s:
            top, place = times[place], place + 1
            continue
        window = _disorder(times, place, top) if times[place] < top else slice(place, place)
        ordered = np.sort(times[window])
        gaps = np.diff(
            np.concatenate(
                [
                    times[max(window.start - 1, 0) : window.start],
                    ordered,
                    times[window.stop : window.stop + 1],
                ]
            )
        )
        if (
            0 < len(ordered) <= REORDER
            and gaps.min(initial=step) >= CROWDED * step
            and gaps.max(initial=step) <= SPREAD * step
        ):
            times[window], place = ordered, window.stop
        # one too low
        elif place + 1 < len(times) and times[place] < top <= times[place + 1] <= top + leap_s:
            times[place], wild, place = (top + times[place + 1]) / 2, wild + 1, place + 1
        elif 1 < place and times[place - 2] <= times[place] < top:  # the one before is too high
            times[place - 1], wild, place = (
                (times[place - 2] + times[place]) / 2,
                wild + 1,
                place + 1,
            )
            top = times[place - 1]
        else:
            times[place:] += top + step - times[place]
            restarts, place = restarts + 1, place + 1
        top = max(top, times[place - 1])
    return times, restarts, wild


def _disorder(times: np.ndarray, place: int, top: float) -> slice:
    """The frames around a fall of the clock at `place` that lie among each other: up to the first
    one past all before.
    """
    last = place
    while last < len(times) and last - place <= REORDER and times[last] < top:
        last += 1
    first = place
    while first > 0 and times[first - 1] > times[place:last].min():
        first -= 1
    return slice(first, last)
