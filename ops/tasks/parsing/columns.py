"""PSC and Acc^p of humans in arrays: the rules of `ops.tasks.parsing.metric` without a dictionary,
for what a model says and tables hold.

Parts and states are numbers of a vocabulary of K parts and S states. Humans stand frame by frame,
in the order of the frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ops.tasks.parsing.box_ap import BoxScores
from ops.tasks.parsing.human_matching import Pairs, match, pixel_ious
from ops.tasks.parsing.metric import (
    HUMAN_IOU,
    MAX_HUMANS,
    PART_IOU,
    ParsingScoreError,
    ParsingScores,
)


class TrueHumans(NamedTuple):
    """The truth of F frames of V videos. Boxes are xyxy in pixels.

    videos: V names. actions: theirs. video [F]: the frame's place in `videos`; frame [F]: its
    number in the video from 0. counts [F]: humans. boxes [G, 4], parts [G, K, 4]. seen bool [G, K]:
    the part is annotated. states int [G, K], -1 for a state that no vocabulary has.
    """

    videos: Sequence[str]
    actions: Sequence[str]
    video: np.ndarray
    frame: np.ndarray
    counts: np.ndarray
    boxes: np.ndarray
    seen: np.ndarray
    parts: np.ndarray
    states: np.ndarray


class FoundHumans(NamedTuple):
    """Predictions for the truth's F frames, with N proposals a part, best first.

    given bool [F]: there is a prediction for the frame, maybe of nobody. counts [F]. scores [P];
    boxes [P, 4]; parts [P, K, 4], one box for all proposals; states int [P, K, N], -1 for no
    proposal; state_scores [P, K, N].
    """

    given: np.ndarray
    counts: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    parts: np.ndarray
    states: np.ndarray
    state_scores: np.ndarray


class PartHits(NamedTuple):
    """Every annotated part of the truth [M]: its part, whether its human is found, whether its box
    is, too, and what its state scores when it is (1 / N or 0, whatever the box).
    """

    part: np.ndarray
    human_found: np.ndarray
    box_found: np.ndarray
    credit: np.ndarray


def column_psc(
    truth: TrueHumans,
    found: FoundHumans,
    *,
    human_iou: float = HUMAN_IOU,
    part_iou: float = PART_IOU,
) -> np.ndarray:
    """PSC float64 [V] of every video. Raises ParsingScoreError for more than ten humans in a frame
    that has true ones.
    """
    pairs, credit, near = _credits(truth, found, human_iou, part_iou)
    scores = np.zeros(len(truth.boxes))
    # [G]: what each true human's parts score; one without a partner keeps 0.
    scores[pairs.truth] = np.where(near, credit, 0.0).sum(1)
    num_frames, num_videos = len(truth.counts), len(truth.videos)
    # The frame of every true human; sums over it are added in the humans' order, as the original
    # adds them.
    frame_of = np.repeat(np.arange(num_frames), truth.counts)
    parts = np.bincount(frame_of, truth.seen.sum(1), num_frames)
    sums = np.bincount(frame_of, scores, num_frames)
    # Frames that count: with annotated parts, or where nothing was predicted at all (these score
    # 0).
    counted = (truth.counts > 0) & ((parts > 0) | ~found.given)
    per_frame = np.where(found.given & (parts > 0), sums / np.maximum(parts, 1), 0.0)
    # Mean over each video's counted frames; a video without one is right as it stands: 1.
    totals = np.bincount(truth.video[counted], per_frame[counted], num_videos)
    times = np.bincount(truth.video[counted], minlength=num_videos)
    return np.where(times > 0, totals / np.maximum(times, 1), 1.0)


def part_hits(
    truth: TrueHumans,
    found: FoundHumans,
    *,
    human_iou: float = HUMAN_IOU,
    part_iou: float = PART_IOU,
) -> PartHits:
    """What happens to every annotated part."""
    pairs, credit, near = _credits(truth, found, human_iou, part_iou)
    human_found = np.zeros(truth.seen.shape, bool)
    human_found[pairs.truth] = True
    box_found, states = np.zeros(truth.seen.shape, bool), np.zeros(truth.seen.shape)
    box_found[pairs.truth], states[pairs.truth] = near, credit
    part = np.broadcast_to(np.arange(truth.seen.shape[1]), truth.seen.shape)
    return PartHits(*(values[truth.seen] for values in (part, human_found, box_found, states)))


def _credits(
    truth: TrueHumans, found: FoundHumans, human_iou: float, part_iou: float
) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Pairs, and for each [pairs, K]: what the state scores, and whether the box is near enough."""
    crowded = np.nonzero((truth.counts > 0) & (found.counts > MAX_HUMANS))[0]
    if crowded.size:
        frame = int(crowded[0])
        where = (
            f"predicted parts, video '{truth.videos[truth.video[frame]]}', frame"
            f" {truth.frame[frame]}"
        )
        raise ParsingScoreError(
            where, f"{found.counts[frame]} humans", f"at most {MAX_HUMANS} humans in a frame"
        )
    pairs = match(truth.counts, truth.boxes, found.counts, found.boxes, human_iou)
    # [pairs, K, 4] boxes in pixels of each pair's true and found human.
    one, other = (
        truth.parts[pairs.truth].astype(np.float64),
        found.parts[pairs.found].astype(np.float64),
    )
    seen, states = truth.seen[pairs.truth], found.states[pairs.found]
    proposals = (states >= 0).sum(2)
    # [pairs, K]: the true state is among the N proposals (-1 is none, and an unknown true state is
    # -1, too).
    hit = ((states == truth.states[pairs.truth][..., None]) & (states >= 0)).any(2) & seen
    one[~seen] = 0.0  # what is not annotated may hold anything
    other[~seen] = 0.0
    near = (pixel_ious(one, other) >= part_iou) & seen & (proposals > 0)
    return pairs, np.where(hit, 1.0 / np.maximum(proposals, 1), 0.0), near


@dataclass(frozen=True)
class Frames:
    """The frames of a truth by video and number."""

    places: Mapping[tuple[str, int], int]

    @classmethod
    def of(cls, truth: TrueHumans) -> Frames:
        """The places of all its frames."""
        numbers = zip(truth.video.tolist(), truth.frame.tolist(), strict=True)
        return cls(
            {(truth.videos[video], frame): place for place, (video, frame) in enumerate(numbers)}
        )


def found_humans(truth: TrueHumans, rows: Iterable[Mapping[str, Any]]) -> FoundHumans:
    """Prediction rows in the truth's order of frames; of a frame that comes twice the last row
    counts.

    A row has `video_id`, `frame` and the arrays of FoundHumans of its own humans. Raises KeyError
    for a frame that the truth lacks.
    """
    frames, own = Frames.of(truth), dict[int, Mapping[str, Any]]()
    for row in rows:
        own[frames.places[row["video_id"], int(row["frame"])]] = row
    counts, given = np.zeros(len(truth.counts), np.int64), np.zeros(len(truth.counts), bool)
    ordered = [own[place] for place in sorted(own)]
    # Frames without a row stay at 0 humans and not given.
    counts[sorted(own)] = [len(row["scores"]) for row in ordered]
    given[sorted(own)] = True
    num_parts = truth.seen.shape[1]
    proposals = max((row["states"].shape[2] for row in ordered), default=1)
    empty = {
        "scores": np.empty(0, np.float32),
        "boxes": np.empty((0, 4)),
        "parts": np.empty((0, num_parts, 4)),
        "states": np.empty((0, num_parts, proposals), np.int64),
        "state_scores": np.empty((0, num_parts, proposals), np.float32),
    }
    joined = {
        name: np.concatenate([nothing, *(row[name] for row in ordered)])
        for name, nothing in empty.items()
    }
    return FoundHumans(given, counts, **joined)


class ParsingMetric:
    """Acc^p and what stands behind it, of prediction rows (see `found_humans`); rows may arrive in
    any order.

    `found_actions` are the actions that another model sees; None takes the true ones, so that
    `acc_p` then says what the parsing alone is worth.
    """

    def __init__(
        self,
        truth: TrueHumans,
        parts: Sequence[str],
        found_actions: Mapping[str, str] | None = None,
    ) -> None:
        self.truth, self.parts, self.found_actions = truth, parts, found_actions
        self.rows: list[Mapping[str, Any]] = []

    def update(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows."""
        self.rows += rows

    def found(self) -> FoundHumans:
        """All rows in the truth's order."""
        return found_humans(self.truth, self.rows)

    def scores(self) -> ParsingScores:
        """PSC and rightness of every video."""
        truth = self.truth
        psc = column_psc(truth, self.found())
        seen = (
            dict(zip(truth.videos, truth.actions, strict=True))
            if self.found_actions is None
            else self.found_actions
        )
        right = {
            video: seen.get(video) == action
            for video, action in zip(truth.videos, truth.actions, strict=True)
        }
        return ParsingScores(dict(zip(truth.videos, psc.tolist(), strict=True)), right)

    def compute(self) -> dict[str, float]:
        """Numbers in 0..1: acc_p, psc (mean over videos), action_accuracy, person_ap50, part_ap50
        (mean over parts), and of the annotated parts persons_found, parts_found (the box too) and
        state_accuracy (what the states of the found ones score).
        """
        if not self.truth.videos:
            raise ParsingScoreError("true parts", "no video", "at least one")
        scores, found = self.scores(), self.found()
        hits = part_hits(self.truth, found)
        boxes = box_scores(self.truth, found)
        return {
            "acc_p": scores.acc_p,
            "psc": scores.mean_psc,
            "action_accuracy": float(np.mean(list(scores.right.values()))),
            "person_ap50": boxes.person,
            "part_ap50": float(np.mean(list(boxes.parts.values()))) if boxes.parts else 0.0,
            "persons_found": _mean(hits.human_found),
            "parts_found": _mean(hits.box_found),
            "state_accuracy": _mean(hits.credit[hits.box_found]),
        }

    def per_part(self) -> dict[str, dict[str, float]]:
        """For each part that occurs: ap50, found, state_accuracy and annotated (how many)."""
        found = self.found()
        hits, boxes, result = (
            part_hits(self.truth, found),
            box_scores(self.truth, found),
            dict[str, dict[str, float]](),
        )
        for number, name in enumerate(self.parts):
            own = hits.part == number
            if own.any():
                near = hits.box_found[own]
                result[name] = {
                    "ap50": boxes.parts.get(number, 0.0),
                    "found": _mean(near),
                    "state_accuracy": _mean(hits.credit[own][near]),
                    "annotated": float(own.sum()),
                }
        return result


def box_scores(truth: TrueHumans, found: FoundHumans, iou: float = 0.5) -> ParsingAp:
    """Average precision of persons, and of each part by its number. A part's score is its human's
    times that of its best state.
    """
    true_frames, found_frames = (
        np.repeat(np.arange(len(counts)), counts) for counts in (truth.counts, found.counts)
    )
    humans = BoxScores(true_frames, truth.boxes, found_frames, found.boxes, found.scores).ap(iou)
    parts = {}
    for part in np.nonzero(truth.seen.any(0))[0].tolist():
        seen = truth.seen[:, part]
        # Humans with a proposal for this part; the best one is first.
        given = found.states[:, part, 0] >= 0
        scores = (found.scores * found.state_scores[:, part, 0])[given]
        parts[part] = BoxScores(
            true_frames[seen],
            truth.parts[seen, part],
            found_frames[given],
            found.parts[given, part],
            scores,
        ).ap(iou)
    return ParsingAp(humans, parts)


class ParsingAp(NamedTuple):
    """Average precision of persons and by part."""

    person: float
    parts: dict[int, float]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
