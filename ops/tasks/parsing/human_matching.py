"""Which predicted human is taken for which true one, frame by frame, as the Kinetics-TPS evaluator
decides it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment


class Pairs(NamedTuple):
    """Places of humans in the two lists of boxes, int64 [pairs] each and by the true ones' places,
    and their IoU float64 [pairs].
    """

    truth: np.ndarray
    found: np.ndarray
    iou: np.ndarray


def match(
    true_counts: np.ndarray,
    true_boxes: np.ndarray,
    found_counts: np.ndarray,
    found_boxes: np.ndarray,
    above: float = 0.5,
) -> Pairs:
    """Pairs of every frame's humans, one to one at the largest total IoU. IoU is float32. Frames
    with the same numbers of humans are worked on together.

    Args:
        true_counts: int [F], humans of each frame.
        true_boxes: [humans, 4], one frame after another, xyxy in pixels, edges included.
        found_counts: int [F], as the true ones, of the same frames.
        found_boxes: [humans, 4], as the true ones.
        above: pairs with an IoU above it count.

    Raises:
        ValueError: a box is not finite.
        ZeroDivisionError: two boxes have no area at all.
    """
    ones, others = (
        np.asarray(boxes, np.float32).reshape(-1, 4) for boxes in (true_boxes, found_boxes)
    )
    if not (np.isfinite(ones).all() and np.isfinite(others).all()):
        raise ValueError("a human's box is not four finite numbers")
    true_starts, found_starts = (
        np.cumsum(true_counts) - true_counts,
        np.cumsum(found_counts) - found_counts,
    )
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    # One number a (true humans, found humans), so that frames of one shape are one stack.
    shapes = true_counts * (1 + int(found_counts.max(initial=0))) + found_counts
    for frames in _groups(shapes):
        count, found = int(true_counts[frames[0]]), int(found_counts[frames[0]])
        if not count or not found:
            continue
        # [frames, true] and [frames, found]: rows of the boxes; IoUs of all pairs of a frame are
        # [frames, true, found].
        rows = true_starts[frames][:, None] + np.arange(count)
        places = found_starts[frames][:, None] + np.arange(found)
        ious = pixel_ious(ones[rows][:, :, None], others[places][:, None])
        columns = _columns(ious)
        # The IoU of each true human with its own; -1 (nobody) looks at column 0 and is sorted out
        # by `good`.
        picked = np.take_along_axis(ious, np.maximum(columns, 0)[..., None], 2)[..., 0].astype(
            np.float64
        )
        # without padding the original compares in float32
        least = float(np.float32(above)) if count == found else above
        good = (columns >= 0) & (picked > least)
        chosen = np.take_along_axis(places, np.maximum(columns, 0), 1)
        parts.append((rows[good], chosen[good], picked[good]))
    if not parts:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    truth, found_at, iou = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(truth, kind="stable")
    return Pairs(truth[order], found_at[order], iou[order])


def pixel_ious(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU, in their own precision, of xyxy boxes (..., 4) that broadcast against each other; width
    = x2 - x1 + 1, -1 without a common pixel. Raises ZeroDivisionError for two boxes that overlap
    and have no area together (corners swapped).
    """
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    size = high - low + 1
    apart = (size <= 0).any(-1)
    inside = size[..., 0] * size[..., 1]
    areas = [
        (boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)
        for boxes in (one, other)
    ]
    union = np.where(apart, inside.dtype.type(1), areas[0] + areas[1] - inside)
    if not union.all():
        raise ZeroDivisionError("two boxes have no area together")
    return np.where(apart, inside.dtype.type(-1), inside / union)


def _groups(values: np.ndarray) -> list[np.ndarray]:
    """Places of equal values."""
    # Sorted, equal values follow each other: cut where the next one differs.
    order = np.argsort(values, kind="stable")
    return [
        part for part in np.split(order, np.nonzero(np.diff(values[order]))[0] + 1) if len(part)
    ]


def _columns(ious: np.ndarray) -> np.ndarray:
    """The found human of each true one, int64 [frames, true humans], -1 for none, of IoUs [frames,
    true, found].

    Where the best ones of the side with fewer humans are all different, and each is better than the
    next best, nothing has to be searched.
    """
    # The side with fewer humans as rows: [frames, few, many].
    few = ious if ious.shape[1] <= ious.shape[2] else ious.swapaxes(1, 2)
    best = few.argmax(2)
    top = np.take_along_axis(few, best[..., None], 2)
    # Frames where each has one best, and no two have the same: sorted, neighbours differ.
    clear = ((few == top).sum(2) == 1).all(1) & (np.diff(np.sort(best, 1), axis=1) != 0).all(1)
    columns = np.full(ious.shape[:2], -1, np.int64)
    if few is ious:
        columns[clear] = best[clear]
    else:
        frames = np.nonzero(clear)[0]
        columns[frames[:, None], best[clear]] = np.arange(ious.shape[2])
    for frame in np.nonzero(~clear)[0].tolist():
        columns[frame] = _searched(ious[frame])
    return columns


def _searched(ious: np.ndarray) -> np.ndarray:
    """Each row's column or -1. Missing rows and columns are filled up with IoU 0, in float64, as
    the original does.
    """
    count, found = ious.shape
    padded = ious
    if count != found:
        padded = np.zeros((max(count, found),) * 2)
        padded[:count, :found] = ious
    columns = linear_sum_assignment(1 - padded)[1][:count]
    return np.where(columns < found, columns, -1)
