"""Windows over the frames of one video, batch by batch: every frame is read once, however much
windows overlap, and few are kept.

Memory holds the frames of one batch of windows, resized and cropped: at most (batch_size - 1) *
stride + num_frames of them per model, and READ_FRAMES frames as stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

READ_FRAMES = 32


@dataclass
class View:
    """What one model sees: `frames` int64 [steps, F], ascending along both axes, and uint8 [n, H,
    W, 3] -> float32 [3, n, S, S].
    """

    frames: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray]
    ready: dict[int, np.ndarray] = field(default_factory=dict)  # frame -> float32 [3, S, S]

    def __post_init__(self) -> None:
        self.ever = set(self.frames.reshape(-1).tolist())


def batches(
    read: Callable[[Sequence[int]], np.ndarray], views: Sequence[View], batch_size: int
) -> Iterator[list[np.ndarray]]:
    """For every `batch_size` steps in turn, one float32 [steps, 3, F, S, S] per view.

    Args:
        read: gives frames uint8 [n, H, W, 3] by their indices; it is asked for each index once, in
            ascending order.
        views: one for each model, with the same number of steps.
        batch_size: steps at once, at most.
    """
    steps = len(views[0].frames)
    for first in range(0, steps, batch_size):
        rows = [view.frames[first : first + batch_size] for view in views]
        for view, row in zip(views, rows, strict=True):
            view.ready = {frame: image for frame, image in view.ready.items() if frame >= row[0, 0]}
        wanted = {
            frame
            for view, row in zip(views, rows, strict=True)
            for frame in row.reshape(-1).tolist()
            if frame not in view.ready
        }
        _read(read, views, sorted(wanted))
        yield [
            np.stack([_window(view, window) for window in row])
            for view, row in zip(views, rows, strict=True)
        ]


def _read(
    read: Callable[[Sequence[int]], np.ndarray], views: Sequence[View], wanted: list[int]
) -> None:
    """Reads frames and prepares each for all the views that see it, now or in a later batch."""
    for start in range(0, len(wanted), READ_FRAMES):
        some = wanted[start : start + READ_FRAMES]
        frames = read(some)
        for view in views:
            places = [place for place, frame in enumerate(some) if frame in view.ever]
            if places:
                prepared = view.prepare(frames if len(places) == len(some) else frames[places])
                view.ready |= {
                    some[place]: np.ascontiguousarray(prepared[:, at])
                    for at, place in enumerate(places)
                }


def _window(view: View, window: np.ndarray) -> np.ndarray:
    return np.stack([view.ready[frame] for frame in window.tolist()], axis=1)
