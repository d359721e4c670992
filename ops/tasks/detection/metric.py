"""Frame-mAP of AVA, person AP and the pixels-inclusive frame-mAP of UCF101-24 and JHMDB, as pure
functions and an update/compute pair.

Where AVA's evaluators differ these follow the one of SlowFast, with which EVAD and most end-to-end
detectors report: a class with true boxes and without a found one counts 0, found boxes on key
frames without true ones are false positives, excluded key frames do not exist. Rows are sorted by
score, so that no order of a file matters. The 50 boxes a frame of the 2018 challenge are an option.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ops.tasks.detection.matching import Boxes, any_free, best_only, boxes_of, joined, ordered

# ids of AVA's 80 actions
GROUPS = {"movement": range(1, 15), "object": range(15, 64), "interaction": range(64, 81)}


class FrameMap(NamedTuple):
    """`mean_ap` is the mean over the classes that have true boxes, NaN without any; `per_class`
    float64 [classes] is NaN elsewhere.
    """

    mean_ap: float
    per_class: np.ndarray


def frame_map(
    found: Boxes, true: Boxes, num_classes: int, threshold: float = 0.5, cap: int | None = None
) -> FrameMap:
    """AVA's frame-mAP at an IoU.

    A found box counts when it is the surest of those whose best true box of its class and frame is
    the same; average precision is the whole area below the precision envelope (PASCAL VOC 2010).

    Args:
        found: boxes in the unit of the true ones.
        true: boxes to be found; classes without any have no part in the mean.
        num_classes: labels are 0..num_classes-1.
        threshold: least IoU of a hit.
        cap: so many of the surest rows of every frame are kept; None keeps all.

    Raises:
        ValueError: a label is outside the classes.
    """
    _check(found, true, num_classes)
    if cap is not None:
        found = capped(found, cap)
    return _mean(best_only(found, true, threshold)[0], found, true, num_classes, envelope)


def tube_frame_map(found: Boxes, true: Boxes, num_classes: int, threshold: float = 0.5) -> FrameMap:
    """Frame-mAP as UCF101-24 and JHMDB have it (ACT, MOC): boxes in pixels, both edges included; a
    found box takes the best free true one.

    Average precision is the trapezoid rule from the point (recall 0, precision 1). Classes without
    true boxes are left out.
    """
    _check(found, true, num_classes)
    return _mean(any_free(found, true, threshold), found, true, num_classes, trapezoid)


def capped(found: Boxes, cap: int) -> Boxes:
    """The surest `cap` rows of every frame, whatever their labels."""
    x1, y1, x2, y2 = found.boxes.T
    order = np.lexsort((y2, x2, y1, x1, found.labels, -found.scores, found.frames))
    frames = found.frames[order]
    # First row of every frame in that order; `within` is a row's place in its frame, the surest 0.
    starts = np.r_[0, np.nonzero(np.diff(frames))[0] + 1] if len(frames) else np.empty(0, np.int64)
    within = np.arange(len(frames)) - np.repeat(starts, np.diff(np.r_[starts, len(frames)]))
    return found.taken(order[within < cap])


def _check(found: Boxes, true: Boxes, num_classes: int) -> None:
    for name, rows in (("found", found), ("true", true)):
        if len(rows) and not 0 <= rows.labels.min() <= rows.labels.max() < num_classes:
            raise ValueError(
                f"{name} boxes have labels {rows.labels.min()}..{rows.labels.max()}; allowed:"
                f" 0..{num_classes - 1}"
            )


def _mean(hits: np.ndarray, found: Boxes, true: Boxes, num_classes: int, area: Any) -> FrameMap:
    order = ordered(found)
    # Rows are by label: those of class c are bounds[c]:bounds[c + 1].
    bounds = np.searchsorted(found.labels[order], np.arange(num_classes + 1))
    totals = np.bincount(true.labels, minlength=num_classes)
    per_class = np.full(num_classes, np.nan)
    for label in np.nonzero(totals)[0].tolist():
        per_class[label] = area(hits[order[bounds[label] : bounds[label + 1]]], int(totals[label]))
    present = totals > 0
    return FrameMap(float(per_class[present].mean()) if present.any() else float("nan"), per_class)


def envelope(hits: np.ndarray, total: int) -> float:
    """Area below the precision envelope; `hits` bool [N] by falling score, `total` true boxes."""
    if not hits.any():
        return 0.0
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    # The largest precision at this recall or beyond; each hit adds 1 / total of recall at it.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[hits].sum() / total)


def trapezoid(hits: np.ndarray, total: int) -> float:
    """Area below the straight lines between the points of precision and recall, from (recall 0,
    precision 1) on.
    """
    if not hits.any():
        return 0.0
    right = np.cumsum(hits)
    # With the point before the first box; at each hit recall grows by 1 / total under a straight
    # line.
    precision = np.r_[1.0, right / np.arange(1, len(hits) + 1)]
    return float(((precision[1:] + precision[:-1])[hits] / 2).sum() / total)


def person_ap(found: Boxes, true: Boxes, threshold: float = 0.5) -> float:
    """Average precision of persons, whatever they do; NaN without a true person. Labels are not
    looked at.
    """
    found, true = (replace(rows, labels=np.zeros(len(rows), np.int64)) for rows in (found, true))
    return frame_map(found, true, 1, threshold).mean_ap


class DetectionMetric:
    """Frame-mAP, person AP and the figures of groups of classes, over rows of key frames.

    A row has `video_id`, `timestamp_s` or `frame`, `boxes` [N, 4] as shares of the frame,
    `person_scores` [N], `scores` [N, classes], `true_boxes` [M, 4] and `true_labels` bool [M,
    classes]; with `pixels`, `width` and `height` also. Person AP is that of all `proposals` [Q, 4]
    and `proposal_scores` [Q] where the row has them: those that are too unsure to be persons belong
    to it. `groups` are class indices by name; `scored` are the class indices that count (None:
    all); with `pixels` frame-mAP is that of UCF101-24 and JHMDB.
    """

    def __init__(
        self,
        labels: Sequence[str],
        groups: Mapping[str, Sequence[int]] | None = None,
        *,
        scored: Sequence[int] | None = None,
        cap: int | None = None,
        pixels: bool = False,
    ) -> None:
        self.labels, self.groups, self.cap, self.pixels = (
            list(labels),
            dict(groups or {}),
            cap,
            pixels,
        )
        self.scored = np.zeros(len(self.labels), bool)
        self.scored[list(range(len(self.labels)) if scored is None else scored)] = True
        self._frames: dict[tuple[str, float], int] = {}
        self._found: list[Boxes] = []
        self._true: list[Boxes] = []
        self._persons: tuple[list[Boxes], list[Boxes]] = ([], [])

    def update(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add key frames. Raises ValueError for one that came before."""
        for row in rows:
            place = (
                row["video_id"],
                row["timestamp_s"] if row.get("timestamp_s") is not None else row["frame"],
            )
            if place in self._frames:
                raise ValueError(f"key frame {place[1]} of video '{place[0]}' came twice")
            number = self._frames[place] = len(self._frames)
            size = np.tile([row["width"], row["height"]], 2) if self.pixels else 1.0
            every = row.get("proposals", row["boxes"])
            boxes, true, every = (
                np.asarray(one, np.float64).reshape(-1, 4) * size
                for one in (row["boxes"], row["true_boxes"], every)
            )
            here, there = np.full(len(boxes), number), np.full(len(true), number)
            sure = row.get("proposal_scores", row["person_scores"])
            self._persons[0].append(
                boxes_of(np.full(len(every), number), np.zeros(len(every)), every, sure)
            )
            self._persons[1].append(boxes_of(there, np.zeros(len(true)), true))
            scores = np.asarray(row["scores"], np.float64).reshape(len(boxes), len(self.labels))
            who, label = np.nonzero(np.broadcast_to(self.scored, (len(boxes), len(self.scored))))
            self._found.append(boxes_of(here[who], label, boxes[who], scores[who, label]))
            who, label = np.nonzero(
                np.asarray(row["true_labels"], bool).reshape(len(true), len(self.labels))
                & self.scored
            )
            self._true.append(boxes_of(there[who], label, true[who]))

    def frame_map(self, threshold: float = 0.5) -> FrameMap:
        """Mean and average precision per class."""
        found, true = self._whole(self._found), self._whole(self._true)
        if self.pixels:
            return tube_frame_map(found, true, len(self.labels), threshold)
        return frame_map(found, true, len(self.labels), threshold, self.cap)

    def _whole(self, parts: Sequence[Boxes]) -> Boxes:
        """All rows, their frames numbered by video and time, whatever order they came in."""
        rows = joined(parts)
        rank = np.empty(len(self._frames), np.int64)
        # Frames were numbered as they came: `rank` gives each its number in the sorted order.
        rank[[self._frames[place] for place in sorted(self._frames)]] = np.arange(len(self._frames))
        return replace(rows, frames=rank[rows.frames])

    def per_class(self) -> dict[str, float]:
        """Average precision of every label that has true boxes."""
        return {
            label: float(value)
            for label, value in zip(self.labels, self.frame_map().per_class, strict=True)
            if value == value
        }

    def compute(self) -> dict[str, float]:
        """`frame_map`, `person_ap`, `person_recall`, and `frame_map/<group>` of every group with
        true boxes; 0 where nothing is true.
        """
        scores = self.frame_map()
        persons, people = map(self._whole, self._persons)
        hits, _ = best_only(persons, people, 0.5)
        numbers = {
            "frame_map": scores.mean_ap,
            "person_ap": person_ap(persons, people),
            "person_recall": float(hits.sum() / len(people)) if len(people) else 0.0,
        }
        for name, members in self.groups.items():
            own = scores.per_class[list(members)] if len(members) else np.empty(0)
            if np.isfinite(own).any():
                numbers[f"frame_map/{name}"] = float(np.nanmean(own))
        return {name: value if value == value else 0.0 for name, value in numbers.items()}
