"""Times to frames: places inside a video and clocks of a fixed rate, by the timestamps that are
stored with the frames.

All times are seconds on the video's own clock. Frame i is shown from its timestamp until the next
one's, whatever the rate does in between, so a video of variable rate is cut and sampled as exactly
as any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from configs.errors import KinographError

TOLERANCE_S = 1e-3  # containers round timestamps to milliseconds, annotations to decimals


class TimeError(KinographError, ValueError):
    """A time that a video does not have: names it, and what the video has."""


def timestamps(attributes: dict[str, Any]) -> np.ndarray:
    """Timestamps float64 [T] of a stored array's attributes. Raises TimeError for an array without
    them.
    """
    stored = attributes.get("timestamps_s")
    if stored is None or not len(stored):
        raise TimeError("the stored array has no timestamps_s; store the video's frames again")
    return np.asarray(stored, np.float64)


def end_of(times: np.ndarray) -> float:
    """When the last frame ends: it lasts as long as the frames of this video do in the middle (a
    lone frame: no time).
    """
    return float(times[-1] + (np.median(np.diff(times)) if len(times) > 1 else 0.0))


def shown_until(times: np.ndarray) -> float:
    """The last second at which a place may begin; a lone frame is there at its own time."""
    return max(end_of(times), float(times[-1]) + TOLERANCE_S)


def frames_at(times: np.ndarray, at_s: np.ndarray | float) -> np.ndarray:
    """Index of the frame that is shown at each time, int64.

    Args:
        times: the frames' timestamps in seconds, float64 [T], ascending.
        at_s: seconds on the same clock, any shape; before and after the video stand the first and
            the last frame.
    """
    # The last frame that began at or before each time: the number of timestamps up to it, less one.
    found = np.searchsorted(times, np.asarray(at_s, np.float64) + TOLERANCE_S, side="right") - 1
    return np.clip(found, 0, len(times) - 1).astype(np.int64)


def span(times: np.ndarray, start_s: float | None, end_s: float | None) -> range:
    """The frames whose timestamps lie in [start_s, end_s).

    A place between two timestamps has the one frame that is shown there.

    Args:
        times: the frames' timestamps in seconds, float64 [T], ascending.
        start_s: seconds on the same clock; None is the video's start.
        end_s: as `start_s`; None is the video's end.

    Raises:
        TimeError: the place is outside the video or empty.
    """
    # The first frame that begins at the place's start or later, and the first one at its end or
    # later, which is outside.
    first = (
        0 if start_s is None else int(np.searchsorted(times, start_s - TOLERANCE_S, side="left"))
    )
    stop = (
        len(times)
        if end_s is None
        else int(np.searchsorted(times, end_s - TOLERANCE_S, side="left"))
    )
    begin = times[0] if start_s is None else start_s
    if end_s is not None and end_s <= begin:
        raise TimeError(f"the place from {begin:.3f} s to {end_s:.3f} s is empty")
    if begin > shown_until(times):
        raise TimeError(
            f"the place begins at {begin:.3f} s, after the video's last frame at {times[-1]:.3f} s"
        )
    if first < stop:
        return range(first, stop)
    shown = int(frames_at(times, begin))
    return range(shown, shown + 1)


def ticks(times: np.ndarray, start_s: float | None, end_s: float | None, fps: float) -> np.ndarray:
    """The frame shown at every tick of a clock, int64 [N], from the place's start to its end.

    A frame that is shown for longer than a tick stands there more than once, one that is shown for
    less may be missing.

    Args:
        times: the frames' timestamps in seconds, float64 [T], ascending.
        start_s: the place's start, in seconds; None is the video's.
        end_s: the place's end, in seconds; None is the video's.
        fps: ticks per second; the first is at the place's start.

    Raises:
        TimeError: the place is outside the video or empty.
    """
    frames = span(times, start_s, end_s)
    begin = times[frames.start] if start_s is None else start_s
    end = end_of(times) if end_s is None else min(end_s, end_of(times))
    # Ticks before the end; one that rounding puts within a millisecond of it is the end itself.
    count = max(1, int(np.ceil((end - begin) * fps - fps * TOLERANCE_S)))
    return np.clip(frames_at(times, begin + np.arange(count) / fps), frames.start, frames.stop - 1)


def timeline(
    num_frames: int,
    attributes: dict[str, Any],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | None = None,
) -> np.ndarray:
    """The frames that a sampler chooses from, int64 [N]: those of a place inside a video, by frame
    or on a clock.

    Args:
        num_frames: of the stored array.
        attributes: of the stored array; its timestamps are needed for a place or a clock.
        start_s: the place's start, in seconds; None is the video's.
        end_s: the place's end, in seconds; None is the video's.
        fps: rate of the clock; None takes each frame once.

    Raises:
        TimeError: the place is outside the video or empty, or the array has no timestamps, or not
            one for each frame.
    """
    if start_s is None and end_s is None and fps is None:
        return np.arange(num_frames)
    times = timestamps(attributes)
    if len(times) != num_frames:
        raise TimeError(f"{len(times)} timestamps for {num_frames} frames")
    if fps is not None:
        return ticks(times, start_s, end_s, fps)
    frames = span(times, start_s, end_s)
    return np.arange(frames.start, frames.stop)
