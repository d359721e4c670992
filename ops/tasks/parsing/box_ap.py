"""Average precision of boxes of one class over many images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BoxScores:
    """True and found boxes of one class, xyxy in one unit, with the number of the image that each
    is in, and the found ones' scores.

    true_images [G], truth [G, 4]; images [N], boxes [N, 4], scores [N].
    """

    true_images: np.ndarray
    truth: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def ap(self, iou: float = 0.5) -> float:
        """Area under the precision that is never lower further left (all points), at one IoU
        threshold; 0 without true boxes.

        In the order of scores (equal ones as given) a found box takes the free true box of its
        image that it overlaps most, if their IoU is at least the threshold. IoU counts areas, not
        pixels.
        """
        if not len(self.truth):
            return 0.0
        order = np.argsort(-self.scores, kind="stable")
        hits = self.hits(order, iou)
        right = np.cumsum(hits)
        # Both [N], after each found box; the steps of recall, each times the highest precision from
        # there on, are the area.
        recall, precision = right / len(self.truth), right / np.arange(1, len(right) + 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(recall, prepend=0.0) * highest).sum())

    def hits(self, order: np.ndarray, iou: float) -> np.ndarray:
        """Whether each found box, in this order, takes a true one: bool [N]."""
        # True boxes by image: those of a found box's image are rows starts:ends.
        own = np.argsort(self.true_images, kind="stable")
        sorted_images = self.true_images[own]
        starts = np.searchsorted(sorted_images, self.images[order], side="left")
        ends = np.searchsorted(sorted_images, self.images[order], side="right")
        taken, hits = np.zeros(len(own), bool), np.zeros(len(order), bool)
        truth = np.asarray(self.truth, np.float64)[own]
        for place, (box, start, end) in enumerate(
            zip(np.asarray(self.boxes, np.float64)[order], starts, ends, strict=True)
        ):
            if start == end:
                continue
            ious = np.where(taken[start:end], -1.0, _ious(truth[start:end], box))
            best = int(ious.argmax())
            if ious[best] >= iou:
                taken[start + best] = hits[place] = True
        return hits


def _ious(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    size = np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0)
    inside = size[:, 0] * size[:, 1]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) + (box[2] - box[0]) * (
        box[3] - box[1]
    )
    return inside / np.maximum(areas - inside, 1e-12)
