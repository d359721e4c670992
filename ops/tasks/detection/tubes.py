"""Video-mAP of action tubes, and the linking of frame detections into tubes.

The rules are those of the ACT and MOC evaluators, with which UCF101-24 and JHMDB are reported:
overlaps in pixels with both edges included, 3D-NMS at 0.3 before the evaluation, a found tube takes
the best free true one, average precision by the trapezoid rule. Linking is the greedy one of ACT
(Kalogeiton et al., 2017) for detections of single frames: at every frame the surest tube takes the
surest box that overlaps its last one; a tube without a box for some frames ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ops.tasks.detection.matching import ious
from ops.tasks.detection.metric import trapezoid

THRESHOLDS = (0.2, 0.5, 0.75)
SWEEP = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
NMS = 0.3


class Tube(NamedTuple):
    """A box on each of consecutive frames: `frames` int64 [T], `boxes` float64 [T, 4] xyxy in
    pixels.
    """

    frames: np.ndarray
    boxes: np.ndarray


class FoundTube(NamedTuple):
    """A tube with its video and score."""

    video: str
    score: float
    tube: Tube


def tube_iou(a: Tube, b: Tube) -> float:
    """Mean overlap of the boxes on the common frames, times the overlap in time (frames
    inclusive).
    """
    first, last = max(a.frames[0], b.frames[0]), min(a.frames[-1], b.frames[-1])
    if last < first:
        return 0.0
    whole = max(a.frames[-1], b.frames[-1]) - min(a.frames[0], b.frames[0]) + 1
    # Boxes of the common frames of both, [frames, 4]: a tube's row i is frame frames[0] + i.
    one, other = (tube.boxes[first - tube.frames[0] : last - tube.frames[0] + 1] for tube in (a, b))
    return float(ious(one, other, pixels=1.0).mean() * (last - first + 1) / whole)


def suppress(tubes: Sequence[FoundTube], threshold: float = NMS) -> list[FoundTube]:
    """3D-NMS of one video's tubes of one class, the surest first; of equal scores the last one
    given, as in the originals.
    """
    left = [tubes[place] for place in np.argsort([tube.score for tube in tubes], kind="stable")]
    kept: list[FoundTube] = []
    while left:
        best = left.pop()
        kept.append(best)
        left = [tube for tube in left if tube_iou(tube.tube, best.tube) <= threshold]
    return kept


class VideoMap(NamedTuple):
    """`mean_ap` over the classes with true tubes; `per_class` float64 [classes], NaN without."""

    mean_ap: float
    per_class: np.ndarray


def video_map(
    found: Mapping[int, Sequence[FoundTube]],
    true: Mapping[int, Mapping[str, Sequence[Tube]]],
    num_classes: int,
    thresholds: Sequence[float],
    nms: float | None = NMS,
) -> dict[float, VideoMap]:
    """Video-mAP at each overlap.

    Args:
        found: tubes by class.
        true: tubes by class and video; classes without any have no part in the mean.
        num_classes: labels are 0..num_classes-1.
        thresholds: least overlaps of a hit, as `tube_iou` measures them.
        nms: threshold of 3D-NMS before the evaluation; None leaves the tubes as they are.

    Raises:
        ValueError: a class is outside 0..num_classes-1.
    """
    outside = [label for label in (*found, *true) if not 0 <= label < num_classes]
    if outside:
        raise ValueError(f"tubes have label {outside[0]}; allowed: 0..{num_classes - 1}")
    per_class = {threshold: np.full(num_classes, np.nan) for threshold in thresholds}
    for label, videos in true.items():
        total = sum(len(tubes) for tubes in videos.values())
        if not total:
            continue
        own = _ranked(found.get(label, ()), nms)
        overlaps = [
            np.array([tube_iou(tube, other.tube) for tube in videos.get(other.video, ())])
            for other in own
        ]
        for threshold in thresholds:
            per_class[threshold][label] = trapezoid(_hits(own, overlaps, videos, threshold), total)
    return {threshold: VideoMap(_mean(values), values) for threshold, values in per_class.items()}


def _mean(values: np.ndarray) -> float:
    present = np.isfinite(values)
    return float(values[present].mean()) if present.any() else float("nan")


def _ranked(tubes: Sequence[FoundTube], nms: float | None) -> list[FoundTube]:
    by_video: dict[str, list[FoundTube]] = {}
    for tube in tubes:
        by_video.setdefault(tube.video, []).append(tube)
    kept = [
        tube
        for _, own in sorted(by_video.items())
        for tube in (own if nms is None else suppress(own, nms))
    ]
    return sorted(kept, key=lambda tube: -tube.score)


def _hits(
    found: Sequence[FoundTube],
    overlaps: Sequence[np.ndarray],
    true: Mapping[str, Sequence[Tube]],
    threshold: float,
) -> np.ndarray:
    free = {video: np.ones(len(tubes), bool) for video, tubes in true.items()}
    hits = np.zeros(len(found), bool)
    for place, (tube, values) in enumerate(zip(found, overlaps, strict=True)):
        if len(values):
            # Tubes that are taken cannot be the best any more.
            open_ones = np.where(free[tube.video], values, -1.0)
            best = int(open_ones.argmax())
            if open_ones[best] >= threshold:
                hits[place], free[tube.video][best] = True, False
    return hits


@dataclass(frozen=True)
class Linking:
    """How frame detections of one class become tubes."""

    overlap: float = 0.2  # a box continues a tube when it overlaps its last box by this much
    per_frame: int = 10  # the surest boxes of a frame that may
    # frames without a box after which a tube ends; the gap is filled by straight lines
    patience: int = 5
    min_length: int = 15  # frames; a shorter tube is dropped unless its video is shorter too
    min_score: float = 0.0


class _Growing:
    """A tube while it is linked."""

    def __init__(self, frame: int, box: np.ndarray, score: float) -> None:
        self.frames, self.boxes, self.scores = [frame], [box], [score]

    @property
    def score(self) -> float:
        return float(np.mean(self.scores))

    def add(self, frame: int, box: np.ndarray, score: float) -> None:
        last, gap = self.boxes[-1], frame - self.frames[-1]
        for step in range(1, gap):
            self.frames.append(self.frames[-1] + 1)
            self.boxes.append(last + (box - last) * (step / gap))
        self.frames.append(frame)
        self.boxes.append(box)
        self.scores.append(score)


def link(
    frames: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    num_frames: int,
    rules: Linking | None = None,
) -> list[tuple[float, Tube]]:
    """Tubes of one class in one video with their scores (the mean over their boxes), from
    detections of its frames.

    Args:
        frames: int [N], in any order.
        boxes: float [N, 4] xyxy in pixels.
        scores: [N].
        num_frames: the video's length.
        rules: None are those of `Linking`.
    """
    rules = rules or Linking()
    # By frame, falling score, then place, so that no order of the input matters.
    order = np.lexsort(
        (*np.asarray(boxes, np.float64).T[::-1], -np.asarray(scores, np.float64), frames)
    )
    frames, boxes, scores = (
        np.asarray(frames)[order],
        np.asarray(boxes, np.float64)[order],
        np.asarray(scores, np.float64)[order],
    )
    alive: list[_Growing] = []
    ended: list[_Growing] = []
    for frame in np.unique(frames).tolist():
        # The frame's detections, the surest first.
        rows = np.arange(
            np.searchsorted(frames, frame), np.searchsorted(frames, frame, side="right")
        )[: rules.per_frame]
        ended += [tube for tube in alive if frame - tube.frames[-1] > rules.patience]
        alive = [tube for tube in alive if frame - tube.frames[-1] <= rules.patience]
        free = np.ones(len(rows), bool)
        for tube in sorted(alive, key=lambda own: -own.score):
            overlaps = ious(
                boxes[rows], np.broadcast_to(tube.boxes[-1], (len(rows), 4)), pixels=1.0
            )
            fitting = np.nonzero(free & (overlaps >= rules.overlap))[0]
            if len(fitting):  # rows are by falling score
                tube.add(frame, boxes[rows[fitting[0]]], float(scores[rows[fitting[0]]]))
                free[fitting[0]] = False
        alive += [_Growing(frame, boxes[row], float(scores[row])) for row in rows[free]]
    shortest = min(rules.min_length, num_frames)
    whole = [
        tube
        for tube in ended + alive
        if len(tube.frames) >= shortest and tube.score >= rules.min_score
    ]
    return [
        (tube.score, Tube(np.array(tube.frames, np.int64), np.stack(tube.boxes))) for tube in whole
    ]
