"""What is wrong with localization predictions: false positives by kind, and what each kind costs
(after DETAD, Alwassel et al., ECCV 2018).

A prediction that is no true positive at the threshold is, by the first of these that fits: double
detection: it reaches the threshold with a segment of its class that another prediction has taken;
wrong label: it reaches the threshold with a segment of another class; localization: it touches a
segment of its class (tIoU 0.1); confusion: it touches one of another class; background: it touches
none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ops.tasks.localization.metric import Matches, Segments, match, tiou

TOUCH = 0.1
KINDS = (
    "true positive",
    "double detection",
    "wrong label",
    "localization",
    "confusion",
    "background",
)
DEPTHS = tuple(range(1, 11))


class Errors(NamedTuple):
    """`kind` int [N] of each prediction among KINDS, in the predictions' own order; -1 for classes
    that are not scored.
    """

    kind: np.ndarray
    threshold: float

    def shares(self, found: Segments, num_true: int) -> np.ndarray:
        """Shares of the kinds [depths, KINDS] among the 1, 2, ... 10 times as many best predictions
        as there are segments.
        """
        scored = np.flatnonzero(self.kind >= 0)
        # Rows by falling score over all videos and classes; equal scores stay as they stand.
        order = scored[np.argsort(-found.score[scored], kind="stable")]
        shares = np.zeros((len(DEPTHS), len(KINDS)))
        for row, depth in enumerate(DEPTHS):
            among = self.kind[order[: depth * num_true]]
            shares[row] = np.bincount(among, minlength=len(KINDS)) / max(1, len(among))
        return shares


def errors_of(truth: Segments, found: Segments, matches: Matches, threshold: int) -> Errors:
    """Kind of every prediction at one threshold.

    Args:
        truth: as it was matched.
        found: as it was matched.
        matches: of these same tables.
        threshold: its place in `matches.thresholds`.
    """
    limit = matches.thresholds[threshold]
    own, other = _nearest(truth, found)
    # From the weakest to the strongest: what fits later overwrites what fitted before.
    kind = np.full(len(found.label), KINDS.index("background"))
    kind[other >= TOUCH] = KINDS.index("confusion")
    kind[own >= TOUCH] = KINDS.index("localization")
    kind[other >= limit] = KINDS.index("wrong label")
    kind[own >= limit] = KINDS.index("double detection")
    kind[matches.order[matches.hits[threshold]]] = KINDS.index("true positive")
    kind[~np.isin(found.label, matches.classes)] = -1
    return Errors(kind, limit)


def _nearest(truth: Segments, found: Segments) -> tuple[np.ndarray, np.ndarray]:
    """Largest tIoU of each prediction with a segment of its own class, and of another, in its
    video.
    """
    own, other = np.zeros(len(found.label)), np.zeros(len(found.label))
    of_truth, of_found = _rows_by_video(truth), _rows_by_video(found)
    for video, rows in of_found.items():
        true = of_truth.get(video)
        if true is None:
            continue
        # [predictions of the video, its segments]; times in seconds.
        values = tiou(
            found.start_s[rows, None],
            found.end_s[rows, None],
            truth.start_s[true],
            truth.end_s[true],
        )
        same = found.label[rows, None] == truth.label[true]
        own[rows] = np.where(same, values, 0).max(1)
        other[rows] = np.where(same, 0, values).max(1)
    return own, other


def _rows_by_video(segments: Segments) -> dict[str, np.ndarray]:
    rows: dict[str, list[int]] = {}
    for row, video in enumerate(segments.video.tolist()):
        rows.setdefault(video, []).append(row)
    return {video: np.array(own) for video, own in rows.items()}


def gains(
    truth: Segments, found: Segments, errors: Errors, matches: Matches
) -> Mapping[str, float]:
    """By how much the mAP at the errors' threshold would rise without the false positives of each
    kind, in 0..1.
    """
    place = matches.thresholds.index(errors.threshold)
    now = float(matches.average_precision()[place].mean())
    gain = {}
    for number, name in enumerate(KINDS[1:], 1):
        without = match(truth, found.take(errors.kind != number), (errors.threshold,), ())
        gain[name] = float(without.average_precision().mean()) - now
    return gain


def video_scores(truth: Segments, found: Segments, errors: Errors) -> dict[str, float]:
    """For each video with segments, F1 of its n best predictions, n being the number of its
    segments: which videos went well.
    """
    of_truth, of_found = _rows_by_video(truth), _rows_by_video(found)
    scores = {}
    for video, true in of_truth.items():
        rows = of_found.get(video, np.empty(0, np.int64))
        best = rows[np.argsort(-found.score[rows], kind="stable")][: len(true)]
        hits = int((errors.kind[best] == 0).sum())
        scores[video] = 2 * hits / (len(best) + len(true))
    return scores
