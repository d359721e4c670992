"""Found boxes against true ones, frame by frame and label by label, for all labels at once.

Boxes are xyxy in any unit. Nothing depends on the order of the rows: found boxes are taken by
falling score, equal scores by frame and place, true boxes by place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Boxes:
    """Labelled boxes of many frames, one row each: `frames` int64 [N] (any numbering), `labels`
    int64 [N], `boxes` float64 [N, 4] xyxy, `scores` float64 [N] (ones for true boxes).
    """

    frames: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def taken(self, rows: np.ndarray) -> Boxes:
        """These rows."""
        return Boxes(self.frames[rows], self.labels[rows], self.boxes[rows], self.scores[rows])

    def __len__(self) -> int:
        return len(self.frames)


def boxes_of(
    frames: Sequence[int] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    scores: Sequence[float] | np.ndarray | None = None,
) -> Boxes:
    """The columns as arrays.

    Args:
        frames: [N], in any numbering.
        labels: [N].
        boxes: [N, 4] xyxy, in any unit.
        scores: [N]; None are ones, as of true boxes.

    Raises:
        ValueError: columns have different lengths, or a box or score is not finite.
    """
    own = np.asarray(frames, np.int64).reshape(-1)
    count = len(own)
    sides = np.asarray(boxes, np.float64).reshape(-1, 4)
    marks = np.ones(count) if scores is None else np.asarray(scores, np.float64).reshape(-1)
    kinds = np.asarray(labels, np.int64).reshape(-1)
    if not count == len(kinds) == len(sides) == len(marks):
        raise ValueError(
            f"boxes: {count} frames, {len(kinds)} labels, {len(sides)} boxes, {len(marks)} scores;"
            " one of each per row"
        )
    for name, values in (("box", sides), ("score", marks)):
        if not np.isfinite(values).all():
            row = int(np.nonzero(~np.isfinite(values.reshape(count, -1)).all(axis=1))[0][0])
            raise ValueError(f"{name} of row {row} is {values[row]}: not a finite number")
    return Boxes(own, kinds, sides, marks)


def joined(parts: Sequence[Boxes]) -> Boxes:
    """All rows one after another."""
    if not parts:
        return boxes_of([], [], np.empty((0, 4)))
    columns = ("frames", "labels", "boxes", "scores")
    return Boxes(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def ordered(found: Boxes) -> np.ndarray:
    """Rows by label, in each by falling score; equal scores by frame and box, so that no order of
    the input matters.
    """
    x1, y1, x2, y2 = found.boxes.T
    return np.lexsort((y2, x2, y1, x1, found.frames, -found.scores, found.labels))


class Pairs(NamedTuple):
    """Every found box with every true one of the same frame and label: `found` and `true` int64 [P]
    are rows, `ious` float64 [P].

    Sorted by found row; the true boxes of one found box follow each other by place.
    """

    found: np.ndarray
    true: np.ndarray
    ious: np.ndarray


def overlapping_pairs(found: Boxes, true: Boxes, pixels: float = 0.0) -> Pairs:
    """All pairs that share frame and label.

    Args:
        found: boxes in the unit of the true ones.
        true: boxes to be found.
        pixels: 1 measures widths as x2 - x1 + 1, as evaluators in whole pixels do; 0 as x2 - x1.
    """
    own, other = _keys(found, true)
    # True boxes by (frame, label), then place: each group is a run of `counts` rows from `starts`
    # on.
    order = np.lexsort((*true.boxes.T[::-1], other))
    groups, starts, counts = np.unique(other[order], return_index=True, return_counts=True)
    if not len(groups) or not len(own):
        nothing = np.empty(0, np.int64)
        return Pairs(nothing, nothing, np.empty(0))
    # The group of each found box, where there is one (`sizes` 0: none); clamped, as a number past
    # the last has no place.
    place = np.minimum(np.searchsorted(groups, own), len(groups) - 1)
    sizes = np.where(groups[place] == own, counts[place], 0)
    # Every found box once for each of its mates; `within` counts 0, 1, ... in each one's run.
    rows = np.repeat(np.arange(len(own)), sizes)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    mates = order[starts[place[rows]] + within]
    return Pairs(rows, mates, ious(found.boxes[rows], true.boxes[mates], pixels))


def ious(a: np.ndarray, b: np.ndarray, pixels: float = 0.0) -> np.ndarray:
    """Intersection over union float64 [N] of boxes with their mates; boxes without area give 0.

    Args:
        a: [N, 4] xyxy.
        b: [N, 4], the mates of `a` row by row.
        pixels: as in `overlapping_pairs`.
    """
    # Corners of the common rectangle [N, 2]; sides below zero mean that there is none.
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inside = np.maximum(high - low + pixels, 0.0).prod(axis=1)
    areas = (a[:, 2:] - a[:, :2] + pixels).prod(axis=1) + (b[:, 2:] - b[:, :2] + pixels).prod(
        axis=1
    )
    union = areas - inside
    return np.divide(inside, union, out=np.zeros(len(a)), where=union > 0)


def _keys(found: Boxes, true: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """One number per (frame, label), the same for both."""
    # Frames renumbered from 0 without gaps, so that frame * labels + label is small and different
    # for each pair.
    _frames, inverse = np.unique(np.concatenate([found.frames, true.frames]), return_inverse=True)
    labels = np.concatenate([found.labels, true.labels])
    low, high = (labels.min(), labels.max()) if len(labels) else (0, 0)
    both = inverse * (high - low + 1) + labels - low
    return both[: len(found)], both[len(found) :]


def best_only(found: Boxes, true: Boxes, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Hits where each found box may only take the true box that it overlaps best, the surest one
    first (PASCAL VOC).

    Args:
        found: boxes in the unit of the true ones.
        true: boxes to be found.
        threshold: least IoU of a hit, 0..1.

    Returns:
        Hits bool [N], and mates int64 [N]: the row of that true box, -1 for a found box below the
            threshold.
    """
    pairs = overlapping_pairs(found, true)
    hits, mate = np.zeros(len(found), bool), np.full(len(found), -1, np.int64)
    if not len(pairs.found):
        return hits, mate
    # The first pair of each found box in this order is its best one.
    order = np.lexsort((-pairs.ious, pairs.found))  # stable: of equal overlaps the first true box
    rows, first = np.unique(pairs.found[order], return_index=True)
    best = order[first]
    good = pairs.ious[best] >= threshold
    rows, best = rows[good], best[good]
    mate[rows] = pairs.true[best]
    # Place of every found box by falling score; of those that want one true box, the first in this
    # order has it.
    rank = np.empty(len(found), np.int64)
    rank[ordered(found)] = np.arange(len(found))
    sure = rows[np.argsort(rank[rows], kind="stable")]
    # `np.unique` gives the first place of each true box: its surest found box.
    _, winners = np.unique(mate[sure], return_index=True)
    hits[sure[winners]] = True
    return hits, mate


def any_free(found: Boxes, true: Boxes, threshold: float, pixels: float = 1.0) -> np.ndarray:
    """Hits bool [N] where a found box takes the best of the true boxes that are still free, the
    surest one first (ACT, MOC).

    Args:
        found: boxes in the unit of the true ones.
        true: boxes to be found.
        threshold: least IoU of a hit, 0..1.
        pixels: as in `overlapping_pairs`.
    """
    pairs = overlapping_pairs(found, true, pixels)
    hits, free = np.zeros(len(found), bool), np.ones(len(true), bool)
    # Pairs are sorted by found row: those of row i are starts[i]:starts[i + 1].
    starts = np.searchsorted(pairs.found, np.arange(len(found) + 1))
    near = np.zeros(len(found), bool)
    # Only boxes with some mate near enough are walked through: each may take a box from the next.
    near[pairs.found[pairs.ious >= threshold]] = True
    for row in ordered(found)[near[ordered(found)]].tolist():
        span = slice(starts[row], starts[row + 1])
        open_ones = np.where(free[pairs.true[span]], pairs.ious[span], -1.0)
        best = int(open_ones.argmax())
        if open_ones[best] >= threshold:
            hits[row] = True
            free[pairs.true[span][best]] = False
    return hits
