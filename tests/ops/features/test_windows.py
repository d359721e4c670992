"""Windows in batches: right whatever the overlap, each frame read once and in order, few kept."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ops.data.feature_grid import window_frames
from ops.features.windows import READ_FRAMES, View, batches


def prepare(frames: np.ndarray) -> np.ndarray:
    """float32 [3, n, 2, 2] of uint8 [n, 2, 2, 3]."""
    return frames.transpose(3, 0, 1, 2).astype(np.float32)


@pytest.mark.parametrize(("stride", "num_frames"), [(1, 1), (1, 6), (3, 6), (6, 6), (9, 6)])
def test_every_window_is_right_and_every_frame_is_read_once(stride: int, num_frames: int) -> None:
    video = np.random.default_rng(0).integers(0, 256, (101, 2, 2, 3), dtype=np.uint8)
    for batch_size, length in itertools.product((1, 2, 7, 1000), (1, 5, 6, 50, 101)):
        read: list[int] = []
        largest = 0

        def reading(indices, read=read):
            assert len(indices) <= READ_FRAMES
            read.extend(indices)
            return video[list(indices)]

        plans = [
            window_frames(np.arange(length), stride, num_frames, seen)
            for seen in {num_frames, max(1, num_frames // 2)}
        ]
        views = [View(plan, prepare) for plan in plans]
        found: list[list[np.ndarray]] = []
        for batch in batches(reading, views, batch_size):
            found.append(batch)
            largest = max(largest, *(len(view.ready) for view in views))
        for at, plan in enumerate(plans):
            whole = np.concatenate([batch[at] for batch in found])
            np.testing.assert_array_equal(whole, np.stack([prepare(video[row]) for row in plan]))
        assert read == sorted(set(read)) and set(read) == {
            frame for plan in plans for frame in plan.reshape(-1).tolist()
        }
        assert largest <= (batch_size - 1) * stride + num_frames
