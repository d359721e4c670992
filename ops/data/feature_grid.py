"""The time grid of features, as in ActionFormer (Zhang et al., ECCV 2022): steps of `stride`
frames, windows of `num_frames`.

Step i covers the frames [i * stride, i * stride + num_frames) on a clock of `fps` that starts at
the video's time zero; its time is the window's middle. A place on the grid is a real number, and
one a little below zero is allowed: it lies before the first window's middle.

Only windows that lie inside the video count, as the lengths of the published features have it (T
steps stand for (T - 1) * stride + num_frames frames): up to stride - 1 frames of the tail are
covered by no window of their own. A video that is shorter than one window gives one step, whose
missing frames repeat the last one.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Number = TypeVar("Number", float, np.ndarray)


def to_grid(seconds: Number, fps: float, stride: float, num_frames: float) -> Number:
    """Time in seconds -> place on the grid, in steps: seconds * fps / stride - 0.5 * num_frames /
    stride.

    Args:
        seconds: on the video's clock, from its time zero; any shape.
        fps: of the grid's clock.
        stride: frames of a step.
        num_frames: frames of a window.
    """
    return seconds * fps / stride - 0.5 * num_frames / stride


def num_steps(video_frames: int, stride: int, num_frames: int) -> int:
    """Steps of a video, at least one.

    Args:
        video_frames: frames of the video on the grid's clock.
        stride: frames of a step.
        num_frames: frames of a window.

    Raises:
        ValueError: the video is empty.
    """
    if video_frames < 1:
        raise ValueError(f"a video needs at least one frame, found {video_frames}")
    return max(0, video_frames - num_frames) // stride + 1


def covered_frames(steps: int, stride: int, num_frames: int) -> int:
    """Frames from the start of the first window to the end of the last one."""
    return (steps - 1) * stride + num_frames


def end_of(timestamps_s: np.ndarray, alone_s: float) -> float:
    """When the last frame ends, in seconds.

    Args:
        timestamps_s: ascending [T]; the last frame lasts as long as the median one.
        alone_s: how long a single frame lasts.

    Raises:
        ValueError: no frames.
    """
    times = np.asarray(timestamps_s, np.float64)
    if times.size == 0:
        raise ValueError("a video needs at least one frame, found 0")
    return float(times[-1] + (np.median(np.diff(times)) if times.size > 1 else alone_s))


def clock(timestamps_s: np.ndarray, fps: float) -> np.ndarray:
    """For every tick of a clock, the stored frame that is nearest in time: int64 [ticks],
    ascending.

    The clock runs to the end of the last frame (`end_of`); of two frames equally near, the earlier
    is taken. On the video's own constant rate every tick is its own frame.

    Args:
        timestamps_s: ascending [T], at or after the video's time zero, where the clock starts too.
        fps: of the clock: tick k is at k / fps.

    Raises:
        ValueError: no frames.
    """
    times = np.asarray(timestamps_s, np.float64)
    ticks = max(1, int(end_of(times, 1.0 / fps) * fps + 0.5))
    # [T - 1]: a tick before the middle of two frames is nearer to the first; `searchsorted` counts
    # the middles before it.
    middles = (times[1:] + times[:-1]) / 2
    # a tick that rounding puts behind a middle by less than a microsecond is on it
    return np.searchsorted(middles, np.arange(ticks) / fps - 1e-6).astype(np.int64)


def sampled(num_frames: int, frames: int) -> np.ndarray:
    """Which frames of a window a model sees: the middle of each equal share, int64 [frames]. The
    rule of TSN's test samples.

    Args:
        num_frames: frames of the window.
        frames: how many the model sees; all of them when the numbers are equal.

    Raises:
        ValueError: more than there are.
    """
    if not 1 <= frames <= num_frames:
        raise ValueError(f"frames of a window: found {frames}; allowed: 1..{num_frames}")
    return ((np.arange(frames) + 0.5) * num_frames / frames).astype(np.int64)


def window_frames(ticks: np.ndarray, stride: int, num_frames: int, frames: int) -> np.ndarray:
    """The stored frames that a model sees of every window: int64 [steps, frames].

    Args:
        ticks: stored frames of the clock, int64 [N] (`clock`, or 0..N-1 where frames are counted as
            they are).
        stride: ticks from one window to the next.
        num_frames: ticks of a window; past the clock's end the last frame is repeated.
        frames: how many of a window the model sees (`sampled`).
    """
    steps = num_steps(len(ticks), stride, num_frames)
    # [steps, 1] + [frames]: places on the timeline; past its end the last frame is repeated.
    places = np.arange(steps)[:, None] * stride + sampled(num_frames, frames)
    return ticks[np.minimum(places, len(ticks) - 1)]
