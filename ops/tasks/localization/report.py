"""What an evaluation of a localization model asks, and what is made of the answers: metrics,
predictions, errors and pictures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from configs.schema import Dataset, Provenance, content_hash
from configs.schema.localization import LocalizationRecipe
from configs.settings import Settings
from configs.versions import EVALUATION
from ops.annotations.formats.activitynet_json import write_results
from ops.evaluation.cache import Results
from ops.evaluation.run import words_of
from ops.store.layout import Layout
from ops.tasks.localization import plots as pictures
from ops.tasks.localization.errors import KINDS, Errors, errors_of, gains, video_scores
from ops.tasks.localization.metric import (
    LocalizationMetric,
    Matches,
    Segments,
    envelope,
    match,
    scores_of,
)
from ops.tasks.localization.segments import FeatureVideo, LeftOut
from ops.tasks.localization.task import Localization
from ops.training.task import Row, Vocabulary

SHOWN = 3  # best and worst videos each
RECALLS = 101
DECIMALS = 4

PREDICTIONS = pa.schema(
    [
        ("video_id", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("label", pa.string()),
        ("label_id", pa.int32()),
        ("score", pa.float32()),
        ("kind", pa.string()),  # of error at `Found.threshold`, or 'true positive'
    ]
)


@dataclass(frozen=True)
class Found:
    """Truth and predictions of a split, matched, with every prediction's kind of error at one
    threshold.
    """

    truth: Segments
    found: Segments
    matches: Matches
    errors: Errors
    place: int  # of the errors' threshold
    labels: Sequence[str]

    @property
    def threshold(self) -> float:
        """The tIoU that errors, curves and timelines are shown at."""
        return self.matches.thresholds[self.place]


class Report:
    """Every video of a split that has features; models on different features of the same videos can
    be compared.

    Files beside the pictures: `results.json` (ActivityNet's form), `per_label.csv`, `left_out.csv`
    (what of the annotations or features is not used, and why).
    """

    batch_size = None

    def __init__(
        self,
        task: Localization,
        split: str,
        spoken: Vocabulary | None = None,
        common: Sequence[str] | None = None,
    ) -> None:
        if spoken is None:
            task.check_classes()
        self.task, self.split, recipe = task, split, task.recipe
        self.words = words_of(
            task.scored_labels, None if recipe.fusion is not None else spoken, common
        )
        self.words.places()
        self.videos, self.samples = task.videos(split), task.samples(split, "test")
        eval_set = eval_set_of(self.videos, self.words.today, recipe)
        self.eval_set = eval_set if common is None else content_hash([eval_set, self.words.asked])
        contents = [[video.video_id, video.key] for video in self.videos]
        self.depends_on = [
            contents,
            task.scores.sha256 if task.scores else None,
            *self.words.depends_on,
        ]

    def results(self, rows: list[Row]) -> Results:
        """Metrics, predictions, errors, pictures and files."""
        recipe, labels = self.task.recipe, self.words.asked
        if not self.words.alike:
            rows = [translated(row, self.words.own, self.words.today, labels) for row in rows]
        metric = LocalizationMetric(len(labels), recipe.tiou, recipe.recall)
        metric.update(rows)
        truth, found = metric.tables()
        analysed = analyse(truth, found, labels, recipe)
        lost = gains(truth, found, analysed.errors, analysed.matches)
        numbers = scores_of(analysed.matches, recipe.recall)
        numbers |= {f"gain_without/{name.replace(' ', '_')}": value for name, value in lost.items()}
        precision = analysed.matches.average_precision().mean(0)
        return Results(
            num_samples=len(self.videos),
            metrics=numbers,
            per_class={
                analysed.labels[label]: float(value)
                for label, value in zip(analysed.matches.classes, precision, strict=True)
            },
            predictions=_table(analysed),
            pictures=_pictures(analysed, self.videos, lost),
            files={
                "results.json": results_json(rows, labels),
                "per_label.csv": _per_label(analysed, recipe.recall),
                "left_out.csv": _left_out(
                    [row for row in self.task.table.left_out if row.split in (self.split, "")]
                ),
            },
        )


def translated(row: Row, own: Sequence[str], today: Sequence[str], labels: Sequence[str]) -> Row:
    """A prediction row in other words: found segments are called by `own`, true ones by `today`;
    those of `labels` stay.
    """
    found, true = (
        _renumbered(names, labels)[row[key]]
        for names, key in ((own, "labels"), (today, "true_labels"))
    )
    kept, there = found >= 0, true >= 0
    return {
        **row,
        "labels": found[kept],
        "segments": row["segments"][kept],
        "scores": row["scores"][kept],
        "true_labels": true[there],
        "true_segments": row["true_segments"][there],
    }


def _renumbered(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """int64 [names]: the place of each name among the labels, -1 for one that is not there."""
    place = {label: number for number, label in enumerate(labels)}
    return np.array([place.get(name, -1) for name in names], np.int64)


def eval_set_of(
    videos: Sequence[FeatureVideo], labels: Sequence[str], recipe: LocalizationRecipe
) -> str:
    """Hash of an evaluation set: videos with segments and labels, the vocabulary, and how they are
    scored.
    """
    rows = sorted(
        [video.video_id, video.segments.tolist(), video.labels.tolist()] for video in videos
    )
    return content_hash(
        [
            rows,
            list(labels),
            recipe.tiou,
            recipe.class_agnostic and recipe.fusion is None,
            EVALUATION,
        ]
    )


def analyse(
    truth: Segments, found: Segments, labels: Sequence[str], recipe: LocalizationRecipe
) -> Found:
    """Matches and errors, these at tIoU 0.5 or the threshold that is nearest to it."""
    matches = match(truth, found, recipe.tiou, recipe.recall)
    place = int(np.argmin([abs(one - 0.5) for one in recipe.tiou]))
    return Found(truth, found, matches, errors_of(truth, found, matches, place), place, labels)


def results_json(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> bytes:
    """Predictions of whole videos in ActivityNet's form; segments in seconds, best first."""
    return write_results(
        {
            row["video_id"]: [
                (
                    labels[label],
                    round(float(start), DECIMALS),
                    round(float(end), DECIMALS),
                    float(score),
                )
                for (start, end), label, score in zip(
                    row["segments"], row["labels"], row["scores"], strict=True
                )
            ]
            for row in sorted(rows, key=lambda row: row["video_id"])
        }
    )


# --------------------------------------------------------------------------------------------------
# files


def _table(analysed: Found) -> pa.Table:
    found = analysed.found
    columns = {
        "video_id": found.video.tolist(),
        "start_s": found.start_s,
        "end_s": found.end_s,
        "label": [analysed.labels[label] for label in found.label],
        "label_id": found.label,
        "score": found.score,
        "kind": [KINDS[kind] if kind >= 0 else None for kind in analysed.errors.kind],
    }
    return pa.table(
        {name: pa.array(columns[name], PREDICTIONS.field(name).type) for name in PREDICTIONS.names},
        schema=PREDICTIONS,
    )


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _per_label(analysed: Found, ks: Sequence[int]) -> bytes:
    matches = analysed.matches
    precision, recall = matches.average_precision(), matches.recall()
    thresholds = [f"{threshold:g}" for threshold in matches.thresholds]
    head = [
        "label",
        "segments",
        "ap",
        *(f"ap@{name}" for name in thresholds),
        *(f"recall@{k}x,{name}" for k in ks for name in thresholds),
    ]
    rows: list[list[Any]] = [head]
    for place, label in enumerate(matches.classes):
        values = [
            *precision[:, place],
            *(recall[row, k, place] for k in range(len(ks)) for row in range(len(thresholds))),
        ]
        count = int(matches.num_true[place])
        rows.append(
            [
                analysed.labels[label],
                count,
                f"{precision[:, place].mean():.4f}",
                *(f"{value:.4f}" for value in values),
            ]
        )
    return _csv(rows)


def _left_out(rows: Sequence[LeftOut]) -> bytes:
    return _csv(
        [
            list(LeftOut._fields),
            *([("" if value is None else value) for value in row] for row in rows),
        ]
    )


# --------------------------------------------------------------------------------------------------
# pictures


def _pictures(
    analysed: Found, videos: Sequence[FeatureVideo], lost: Mapping[str, float]
) -> dict[str, bytes]:
    matches, labels, place = analysed.matches, analysed.labels, analysed.place
    precision = matches.average_precision()
    by_label = {
        labels[label]: precision[:, at].tolist() for at, label in enumerate(matches.classes)
    }
    counts = {labels[label]: int(matches.num_true[at]) for at, label in enumerate(matches.classes)}
    curves, mean = _curves(analysed)
    return {
        "ap_per_label.png": pictures.ap_bars(by_label, counts, matches.thresholds),
        "timelines.png": pictures.timelines(
            _timelines(analysed, videos), matches.thresholds[place]
        ),
        "false_positives.png": pictures.false_positives(
            analysed.errors.shares(analysed.found, len(analysed.truth.label)),
            lost,
            analysed.threshold,
        ),
        "precision_recall.png": pictures.curves(curves, mean, analysed.threshold),
    }


def _curves(analysed: Found) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Recall and interpolated precision by label, and the mean precision at RECALLS recalls from 0
    to 1.
    """
    grid, mean, by_label = np.linspace(0, 1, RECALLS), np.zeros(RECALLS), {}
    for place, label in enumerate(analysed.matches.classes):
        recall, precision = analysed.matches.curve(place, analysed.place)
        smooth = envelope(precision)
        by_label[analysed.labels[label]] = (recall, smooth)
        at = np.searchsorted(recall, grid, side="left")
        mean += (
            np.where(at < len(recall), smooth[np.minimum(at, len(recall) - 1)], 0)
            if len(recall)
            else 0
        )
    return by_label, mean / max(1, len(by_label))


def _timelines(analysed: Found, videos: Sequence[FeatureVideo]) -> list[pictures.Timeline]:
    scores = video_scores(analysed.truth, analysed.found, analysed.errors)
    ordered = sorted(scores, key=lambda video: (-scores[video], video))
    chosen = ordered if len(ordered) <= 2 * SHOWN else [*ordered[:SHOWN], *ordered[-SHOWN:]]
    durations = {video.video_id: video.duration_s for video in videos}
    rows = []
    for video in chosen:
        true = np.flatnonzero(analysed.truth.video == video)
        own = np.flatnonzero(analysed.found.video == video)
        best = own[np.argsort(-analysed.found.score[own], kind="stable")][: len(true)]
        end = max(durations[video], float(analysed.truth.end_s[true].max()))
        found = [
            _bar(analysed, analysed.found, int(row), int(analysed.errors.kind[row])) for row in best
        ]
        rows.append(
            pictures.Timeline(
                video,
                end,
                [_bar(analysed, analysed.truth, int(row), None) for row in true],
                found,
                scores[video],
            )
        )
    return rows


def _bar(analysed: Found, segments: Segments, row: int, kind: int | None) -> pictures.Bar:
    name = "" if kind is None else KINDS[kind] if kind >= 0 else KINDS[-1]
    return pictures.Bar(
        float(segments.start_s[row]),
        float(segments.end_s[row]),
        analysed.labels[segments.label[row]],
        name,
    )


def own_inputs(
    recipe: LocalizationRecipe,
    vocabulary: Vocabulary,
    provenance: Provenance | None,
    dataset: Dataset,
    layout: Layout,
    settings: Settings,
) -> dict[str, Any]:
    """The features that a registered model was trained on, made by the very models that made them
    then, where today's are others.

    Args:
        recipe: of the model.
        vocabulary: of the model; where it has no provenance, with the sha256 of those weights.
        provenance: of the model; None for one of before.
        dataset: whose videos get them.
        layout: of the store that has frames and features.
        settings: name the registry of the models.
    """
    from ops.features.materialize import make_pinned
    from ops.tasks.localization.predictor import extractors_of, features_config

    config = features_config(recipe, provenance)
    return {
        "features": make_pinned(
            config, extractors_of(recipe, vocabulary, provenance), dataset, layout, settings
        )
    }
