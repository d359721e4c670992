"""Temporal localization: mean average precision at tIoU thresholds and Recall@kx, as ActionFormer's
evaluator computes ActivityNet's rules.

Per class, predictions go by descending score (equal scores keep their order); each takes the free
segment of its class and video with the largest tIoU that reaches the threshold, for every threshold
apart; all others are false positives, also those in videos without a segment of that class. AP is
the area under the interpolated curve (VOC 2011); a class without predictions has 0 and stays in the
mean, one without segments is not in it. Segments shorter than a millisecond, and repeated ones
(same class, both ends within a millisecond), do not count. Unlike the originals, a label that the
vocabulary lacks and a prediction that does not end after its start are errors; the originals take
them for other classes and for hits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from configs.errors import KinographError

SAME_S = 1e-3  # closer ends are one
PAIRS_AT_ONCE = 2**21


class MetricError(KinographError, ValueError):
    """Predictions or segments that cannot be scored: names the video, what was found and what is
    allowed.
    """


class Segments(NamedTuple):
    """Segments of many videos, one per row: `video` (ids), `start_s`, `end_s` float64, `label`
    int64, `score` float64 (1: truth).
    """

    video: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def take(self, rows: np.ndarray) -> Segments:
        """These rows, by index or mask."""
        return Segments(*(column[rows] for column in self))


def segments_of(rows: Iterable[tuple[str, float, float, int, float]]) -> Segments:
    """Segments of (video, start_s, end_s, label, score)."""
    columns: list[Any] = list(zip(*rows, strict=True)) or [[], [], [], [], []]
    video, start, end, label, score = columns
    return Segments(
        np.array(video, object),
        np.array(start, np.float64),
        np.array(end, np.float64),
        np.array(label, np.int64),
        np.array(score, np.float64),
    )


def kept_segments(start_s: np.ndarray, end_s: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Mask bool [N] of one video's segments that count: at least a millisecond long, and not one
    again that was kept before.

    Args:
        start_s: [N], in seconds.
        end_s: [N], in seconds.
        label: [N].
    """
    kept = (end_s - start_s) >= SAME_S
    for row in range(1, len(kept)):
        # Of those kept before it [row], the same class with both ends within a millisecond.
        if kept[row]:
            before = kept[:row] & (label[:row] == label[row])
            same = (np.abs(start_s[:row] - start_s[row]) <= SAME_S) & (
                np.abs(end_s[:row] - end_s[row]) <= SAME_S
            )
            kept[row] = not (before & same).any()
    return kept


def tiou(
    start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray
) -> np.ndarray:
    """Temporal intersection over union of segments that all have a length; shapes broadcast."""
    # Seconds that both cover, 0 where they lie apart; the union is both lengths less these.
    inner = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0.0)
    return inner / ((end - start) + (other_end - other_start) - inner)


@dataclass(frozen=True)
class Matches:
    """Predictions in scoring order (by class, then score) against the truth.

    `order` are the predictions' row numbers; `hits` bool [thresholds, N] says which are true
    positives, `bounds` [classes + 1] where each class's predictions lie; `num_true` [classes]
    counts segments; `best` [truth, ks] is each segment's largest tIoU with one of its video's k * n
    best predictions.
    """

    classes: tuple[int, ...]
    thresholds: tuple[float, ...]
    order: np.ndarray
    hits: np.ndarray
    bounds: np.ndarray
    num_true: np.ndarray
    best: np.ndarray
    true_label: np.ndarray  # place among `classes`

    def average_precision(self) -> np.ndarray:
        """AP float64 [thresholds, classes]."""
        found = np.zeros((len(self.thresholds), len(self.classes)))
        for place, (first, last) in enumerate(zip(self.bounds[:-1], self.bounds[1:], strict=True)):
            hits = self.hits[:, first:last]
            if hits.size:
                found[:, place] = (envelope(precision(hits)) * hits).sum(1) / self.num_true[place]
        return found

    def recall(self) -> np.ndarray:
        """Recall@kx float64 [thresholds, ks, classes]: the share of a class's segments that one of
        the k * n best predictions reaches.
        """
        # Compared at every threshold at once: [thresholds, 1, 1] against [1, truth, ks].
        # [thresholds, truth, ks]
        reached = self.best[None] >= np.array(self.thresholds)[:, None, None]
        sums = np.stack(
            [reached[:, self.true_label == place].sum(1) for place in range(len(self.classes))], -1
        )
        return sums / np.maximum(self.num_true, 1)

    def curve(self, place: int, threshold: int) -> tuple[np.ndarray, np.ndarray]:
        """(recall, precision) [N] of the class at `place`, prediction by prediction; precision as
        it is, not interpolated.
        """
        hits = self.hits[threshold : threshold + 1, self.bounds[place] : self.bounds[place + 1]]
        return hits[0].cumsum() / max(1, self.num_true[place]), precision(hits)[0]


def precision(hits: np.ndarray) -> np.ndarray:
    """Precision after each prediction: [..., N] of bool [..., N]."""
    # True positives among the first n, over n.
    return hits.cumsum(-1) / np.arange(1, hits.shape[-1] + 1)


def envelope(curve: np.ndarray) -> np.ndarray:
    """The largest precision at this recall or a higher one."""
    # From the last prediction back: the maximum so far is the largest precision at this recall or
    # beyond.
    return np.maximum.accumulate(curve[..., ::-1], axis=-1)[..., ::-1]


def match(
    truth: Segments, found: Segments, thresholds: Sequence[float], ks: Sequence[int] = (1, 5)
) -> Matches:
    """Scores predictions against the truth.

    Args:
        truth: each segment once (`kept_segments`); its classes are those that are scored.
        found: predictions, of other classes too, which are not scored.
        thresholds: least tIoUs of a hit.
        ks: recall is that of the k * n best predictions of a class in a video, n being the number
            of its segments there.

    Raises:
        MetricError: a prediction does not end after its start, or has no score.
    """
    _check(truth, "segment")
    _check(found, "prediction")
    classes = tuple(int(label) for label in np.unique(truth.label))
    place_of = {label: place for place, label in enumerate(classes)}
    # `rows` are the predictions of known classes, by class and falling score: everything below is
    # in this order.
    known = np.isin(found.label, classes)
    rows = np.flatnonzero(known)
    # stable: equal scores keep their order
    rows = rows[np.lexsort((-found.score[rows], found.label[rows]))]
    videos = {video: number for number, video in enumerate(dict.fromkeys(truth.video.tolist()))}
    label = np.array([place_of[int(one)] for one in found.label[rows]], np.int64)
    video = np.array([videos.get(one, -1) for one in found.video[rows].tolist()], np.int64)
    true_label = np.array([place_of[int(one)] for one in truth.label], np.int64)
    # One number a (class, video), so that a prediction's candidates are one run of equal numbers;
    # -1 has none.
    true_group = true_label * len(videos) + np.array(
        [videos[one] for one in truth.video.tolist()], np.int64
    )
    group = np.where(video >= 0, label * len(videos) + video, -1)
    pairs = _pairs(
        found.start_s[rows], found.end_s[rows], group, truth, true_group, min(thresholds)
    )
    hits = np.stack(
        [_hits(pairs, threshold, len(rows), len(true_label)) for threshold in thresholds]
    )
    num_classes = len(classes)
    return Matches(
        classes=classes,
        thresholds=tuple(thresholds),
        order=rows,
        hits=hits,
        bounds=np.searchsorted(label, np.arange(num_classes + 1)),
        num_true=np.bincount(true_label, minlength=num_classes),
        best=_best(pairs, _ranks(group), true_group, ks),
        true_label=true_label,
    )


def _check(rows: Segments, what: str) -> None:
    bad = (
        ~(rows.start_s < rows.end_s)
        | ~np.isfinite(rows.start_s)
        | ~np.isfinite(rows.end_s)
        | ~np.isfinite(rows.score)
    )
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        shown = f"[{rows.start_s[at]}, {rows.end_s[at]}] s, score {rows.score[at]}"
        raise MetricError(
            f"video '{rows.video[at]}': {what} {shown}, label {rows.label[at]}; allowed: finite"
            " numbers, start before end"
        )


class _Pairs(NamedTuple):
    """Predictions and segments of one class and video whose tIoU reaches the lowest threshold: by
    prediction, the largest tIoU first.
    """

    found: np.ndarray
    true: np.ndarray
    tiou: np.ndarray


def _pairs(
    start: np.ndarray,
    end: np.ndarray,
    group: np.ndarray,
    truth: Segments,
    true_group: np.ndarray,
    lowest: float,
) -> _Pairs:
    # Segments by group: those of a prediction's group are `counts` rows from `first` on.
    by_group = np.argsort(true_group, kind="stable")
    sorted_group = true_group[by_group]
    first = np.searchsorted(sorted_group, group, side="left")
    counts = np.searchsorted(sorted_group, group, side="right") - first
    parts = [_Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    ends = counts.cumsum()
    at = 0
    while at < len(group):  # a bounded number of pairs at a time
        done = ends[at - 1] if at else 0
        last = max(at + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
        many = counts[at:last]
        # Each prediction once for every candidate, and `inside` counts 0, 1, ... within each one's
        # run.
        found = np.repeat(np.arange(at, last), many)
        inside = np.arange(len(found)) - np.repeat(many.cumsum() - many, many)
        true = by_group[first[found] + inside]
        value = tiou(start[found], end[found], truth.start_s[true], truth.end_s[true])
        near = value >= lowest
        parts.append(_Pairs(found[near], true[near], value[near]))
        at = last
    found, true, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    # of two segments equally near, the later one, as the original's reversed sort
    order = np.lexsort((-true, -value, found))
    return _Pairs(found[order], true[order], value[order])


def _hits(pairs: _Pairs, threshold: float, num_found: int, num_true: int) -> np.ndarray:
    """Which predictions are true positives: each takes its nearest free segment."""
    # Pairs come by prediction in scoring order, nearest segment first: the first free one is taken,
    # and settles it.
    reach = pairs.tiou >= threshold
    free, hit = [True] * num_true, np.zeros(num_found, bool)
    settled = -1
    for found, true in zip(pairs.found[reach].tolist(), pairs.true[reach].tolist(), strict=True):
        if found != settled and free[true]:
            free[true], hit[found] = False, True
            settled = found
    return hit


def _ranks(group: np.ndarray) -> np.ndarray:
    """Place of each prediction, which are in scoring order, within its class and video."""
    order = np.argsort(group, kind="stable")
    # Where a new group begins, in group order; a prediction's rank is its distance from there.
    ordered = group[order]
    new = (
        np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, bool)
    )
    starts = np.flatnonzero(new)
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - np.repeat(starts, np.diff([*starts, len(group)]))
    return ranks


def _best(
    pairs: _Pairs, ranks: np.ndarray, true_group: np.ndarray, ks: Sequence[int]
) -> np.ndarray:
    # n of the k * n best predictions: how many segments each segment's own class and video has.
    _, inverse, sizes = np.unique(true_group, return_inverse=True, return_counts=True)
    own = sizes[inverse][pairs.true]  # segments of the pair's class and video
    best = np.zeros((len(true_group), len(ks)))
    for place, k in enumerate(ks):
        among = ranks[pairs.found] < k * own
        # Unbuffered: a segment may stand in many pairs, and the largest of them all stays.
        np.maximum.at(best[:, place], pairs.true[among], pairs.tiou[among])
    return best


@dataclass
class LocalizationMetric:
    """mAP and Recall@kx over rows of whole videos; fits `ops.training.task.Metric`.

    A row has `video_id`, the truth `true_segments` float [G, 2] (s) and `true_labels` int [G], and
    the predictions `segments` float [N, 2] (s), `labels` int [N], `scores` [N]. Labels are ids in
    0..`num_classes` - 1; others raise MetricError.
    """

    num_classes: int
    thresholds: Sequence[float]
    ks: Sequence[int] = ()
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    def update(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add videos; each is given once."""
        self.rows += rows

    def compute(self) -> dict[str, float]:
        """`mean_ap` (over thresholds and classes), `map/<tIoU>`, and for every k `recall_<k>x` and
        `recall_<k>x/<tIoU>`, in 0..1.

        Raises MetricError where no video has a segment: nothing can be scored.
        """
        truth, found = self.tables()
        return scores_of(match(truth, found, self.thresholds, self.ks), self.ks)

    def tables(self) -> tuple[Segments, Segments]:
        """(truth without repeats, predictions) of all rows, sorted by video."""
        rows = sorted(self.rows, key=lambda row: row["video_id"])
        for one, other in itertools.pairwise(rows):
            if one["video_id"] == other["video_id"]:
                raise MetricError(
                    f"video '{one['video_id']}': found twice; allowed: one row per video"
                )
        truth, found = (
            _joined(rows, "true_segments", "true_labels", None),
            _joined(rows, "segments", "labels", "scores"),
        )
        for part, what in ((truth, "segment"), (found, "prediction")):
            bad = (part.label < 0) | (part.label >= self.num_classes)
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                raise MetricError(
                    f"video '{part.video[at]}': {what} with label {part.label[at]}; allowed:"
                    f" 0..{self.num_classes - 1}"
                )
        if not len(truth.label):
            raise MetricError(
                f"{len(rows)} videos, none with a segment: mean average precision has no meaning"
            )
        return truth, found


def scores_of(matches: Matches, ks: Sequence[int]) -> dict[str, float]:
    """The flat numbers of `LocalizationMetric.compute`."""
    by_threshold = matches.average_precision().mean(1)
    scores = {"mean_ap": float(by_threshold.mean())}
    scores |= {
        f"map/{threshold:.2f}": float(value)
        for threshold, value in zip(matches.thresholds, by_threshold, strict=True)
    }
    recall = matches.recall().mean(2)
    for place, k in enumerate(ks):
        scores[f"recall_{k}x"] = float(recall[:, place].mean())
        scores |= {
            f"recall_{k}x/{threshold:.2f}": float(recall[row, place])
            for row, threshold in enumerate(matches.thresholds)
        }
    return scores


def _joined(
    rows: Sequence[Mapping[str, Any]], segments: str, labels: str, scores: str | None
) -> Segments:
    videos, spans, classes, values = [], [np.empty((0, 2))], [np.empty(0, np.int64)], [np.empty(0)]
    for row in rows:
        span = np.asarray(row[segments], np.float64).reshape(-1, 2)
        label = np.asarray(row[labels], np.int64)
        score = np.ones(len(span)) if scores is None else np.asarray(row[scores], np.float64)
        if scores is None:
            kept = kept_segments(span[:, 0], span[:, 1], label)
            span, label, score = span[kept], label[kept], score[kept]
        videos += [row["video_id"]] * len(span)
        spans.append(span)
        classes.append(label)
        values.append(score)
    span = np.concatenate(spans)
    return Segments(
        np.array(videos, object),
        span[:, 0],
        span[:, 1],
        np.concatenate(classes),
        np.concatenate(values),
    )
