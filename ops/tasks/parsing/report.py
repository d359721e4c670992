"""What an evaluation of a parsing model asks, and what is made of the answers: Acc^p and what
stands behind it, files and pictures.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from configs.schema import ConfigError, content_hash
from configs.versions import EVALUATION
from ops.evaluation.cache import Results
from ops.store.reader import FrameReader
from ops.tasks.parsing import plots as pictures
from ops.tasks.parsing.actions import actions_of
from ops.tasks.parsing.bottleneck import STAGES, Given, bottleneck
from ops.tasks.parsing.columns import ParsingMetric, TrueHumans
from ops.tasks.parsing.human_matching import match, pixel_ious
from ops.tasks.parsing.metric import PART_IOU, ParsingScores
from ops.tasks.parsing.parts import PartVideo, Words
from ops.tasks.parsing.predictions_file import (
    ACTIONS_FILE,
    PARTS_FILE,
    TRUE_ACTIONS_FILE,
    TRUE_PARTS_FILE,
    predictions,
    text_of,
    truth_files,
)
from ops.tasks.parsing.task import Parsing
from ops.training.task import Row, Vocabulary

# frames on the contact sheet: a third each of the best, the middling and the worst videos
SHOWN = 12
SHOWN_SCORE = 0.3  # persons below are not drawn, but for the best one

PREDICTIONS = pa.schema(
    [
        ("video_id", pa.string()),
        ("frame", pa.int32()),
        ("person", pa.int32()),
        ("score", pa.float32()),
        *((name, pa.float32()) for name in ("px1", "py1", "px2", "py2")),
        ("part", pa.string()),
        *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2")),
        ("states", pa.list_(pa.string())),
        ("state_scores", pa.list_(pa.float32())),
    ]
)


class Scores(NamedTuple):
    """Everything that an evaluation is written from."""

    truth: TrueHumans
    words: Words
    metric: ParsingMetric
    scores: ParsingScores
    by_part: Mapping[str, Mapping[str, float]]
    actions: Mapping[str, str]  # as the recognition model names them
    table: Sequence[tuple[Given, float]]  # of the bottleneck analysis
    files: Mapping[str, bytes]


class Report:
    """Every n-th annotated frame of a split's usable videos, under the actions that the recipe's
    recognition model (or file) names.

    Two parsers are only compared under the same actions. A trained model is scored in its own words
    (`spoken`), which have to be those of today in whatever order; fewer words cannot be scored: a
    state is one answer of all. Raises PredictionError without an action model.
    """

    batch_size = None

    def __init__(
        self,
        task: Parsing,
        split: str,
        spoken: Vocabulary | None = None,
        common: Sequence[str] | None = None,
    ) -> None:
        if spoken is None:
            task.check()
        else:
            _require_same(task.table.words, spoken, common)
        recipe, self.depends_on, truth = task.recipe, list[Any](), task.truth(split)
        self.actions = actions_of(recipe, task.dataset, task.videos(split), task.layout)
        self.eval_set = eval_set_of(task.videos(split), truth, task.table.words, self.actions)
        if spoken is not None and spoken != task.vocabulary():
            task = Parsing(
                recipe.model_copy(update={"parts": None, "states": None}),
                task.layout,
                task.dataset,
                spoken,
            )
            truth, self.depends_on = task.truth(split), [spoken]
        self.task, self.truth, self.videos, self.samples = (
            task,
            truth,
            task.videos(split),
            task.samples(split, "test"),
        )

    def results(self, rows: list[Row]) -> Results:
        """Metrics, predictions, pictures and the challenge's files."""
        words = self.task.table.words
        found = _scores(self.truth, words, rows, self.actions)
        return Results(
            num_samples=len(self.truth.counts),
            metrics=_metrics(found),
            per_class={
                part: own["found"] * own["state_accuracy"] for part, own in found.by_part.items()
            },
            predictions=_table(rows, words),
            pictures=_pictures(found, rows, self.videos),
            files=found.files,
        )


def _require_same(today: Words, spoken: Vocabulary, common: Sequence[str] | None) -> None:
    for name, own, found in (
        ("parts", spoken["parts"], today.parts),
        ("states", spoken["states"], today.states),
    ):
        if common is not None or set(own) != set(found):
            lost, new = sorted(set(own) - set(found)), sorted(set(found) - set(own))
            allowed = f"the {name} of today, all of them: {', '.join(found)}"
            raise ConfigError(
                "model",
                name,
                f"other ones ({', '.join(lost) or 'none'} more, {', '.join(new) or 'none'} fewer)",
                allowed,
            )


def eval_set_of(
    videos: Sequence[PartVideo], truth: TrueHumans, words: Words, actions: Mapping[str, str]
) -> str:
    """Hash of an evaluation set: frames with content and annotations, the vocabulary, the actions,
    and how they are scored.
    """
    digest = hashlib.sha256()
    for values in truth[2:]:
        digest.update(np.ascontiguousarray(values).tobytes())
    contents = [
        [video.video_id, video.key, video.action, actions[video.video_id]] for video in videos
    ]
    return content_hash([contents, digest.hexdigest(), words, EVALUATION])


def _scores(
    truth: TrueHumans, words: Words, rows: Sequence[Mapping[str, Any]], actions: Mapping[str, str]
) -> Scores:
    metric = ParsingMetric(truth, words.parts, actions)
    metric.update(rows)
    found = predictions(truth.videos, rows, words.parts, words.states)
    true_parts, true_actions = truth_files(truth, words.parts, words.states)
    table = bottleneck(true_parts, true_actions, found, actions)
    files = {
        PARTS_FILE: text_of(found),
        ACTIONS_FILE: text_of(actions),
        TRUE_PARTS_FILE: text_of(true_parts),
        TRUE_ACTIONS_FILE: text_of(true_actions),
        "bottleneck.csv": _csv(
            [
                (*STAGES, "acc_p"),
                *((*(int(mark) for mark in given), f"{score:.6f}") for given, score in table),
            ]
        ),
    }
    return Scores(truth, words, metric, metric.scores(), metric.per_part(), actions, table, files)


def _metrics(found: Scores) -> dict[str, float]:
    """The metric's numbers, Acc^p with every action right, and by part."""
    numbers = found.metric.compute()
    numbers["acc_p_true_actions"] = _all_right(found.scores).acc_p
    for part, own in found.by_part.items():
        numbers |= {f"state_accuracy/{part}": own["state_accuracy"], f"found/{part}": own["found"]}
    return numbers


def _all_right(scores: ParsingScores) -> ParsingScores:
    return ParsingScores(scores.psc, dict.fromkeys(scores.psc, True))


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def _table(rows: Sequence[Mapping[str, Any]], words: Words) -> pa.Table:
    """One row for each part of each person that was found."""
    states = np.array(words.states, object)
    columns: dict[str, list[Any]] = {name: [] for name in PREDICTIONS.names}
    for row in rows:
        count, parts = len(row["scores"]), len(words.parts)
        persons = np.repeat(row["boxes"], parts, axis=0)
        boxes = row["parts"].reshape(-1, 4)
        values = {
            "video_id": [row["video_id"]] * (count * parts),
            "frame": [row["frame"]] * (count * parts),
            "person": np.repeat(np.arange(count), parts),
            "score": np.repeat(row["scores"], parts),
            **{name: persons[:, side] for side, name in enumerate(("px1", "py1", "px2", "py2"))},
            "part": list(words.parts) * count,
            **{name: boxes[:, side] for side, name in enumerate(("x1", "y1", "x2", "y2"))},
            "states": states[row["states"]].reshape(count * parts, -1).tolist() if count else [],
            "state_scores": (
                row["state_scores"].reshape(count * parts, -1).tolist() if count else []
            ),
        }
        for name, column in values.items():
            columns[name].extend(column)
    return pa.table(
        {name: pa.array(columns[name], PREDICTIONS.field(name).type) for name in PREDICTIONS.names},
        schema=PREDICTIONS,
    )


# --------------------------------------------------------------------------------------------------
# pictures


def _pictures(
    found: Scores, rows: Sequence[Mapping[str, Any]], videos: Sequence[PartVideo]
) -> dict[str, bytes]:
    scores = found.scores
    below = (
        f"best, middling and worst of {len(scores.psc)} videos by PSC; states: green right, red"
        " wrong; white: the person"
    )
    return {
        "people.png": pictures.contact_sheet(_tiles(found, rows, videos), found.words.parts, below),
        "accuracy_curve.png": pictures.accuracy_curve(scores, _all_right(scores)),
        "parts.png": pictures.part_bars(found.by_part),
        "bottleneck.png": pictures.bottleneck_bars(found.table),
    }


def _tiles(
    found: Scores, rows: Sequence[Mapping[str, Any]], videos: Sequence[PartVideo]
) -> list[pictures.Tile]:
    own: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        own.setdefault(row["video_id"], []).append(row)
    ordered = sorted(
        (video for video in found.scores.psc if video in own),
        key=lambda video: -found.scores.psc[video],
    )
    third, middle = SHOWN // 3, max(0, len(ordered) // 2 - SHOWN // 6)
    chosen = (
        ordered
        if len(ordered) <= SHOWN
        else ordered[:third] + ordered[middle : middle + third] + ordered[-third:]
    )
    by_id = {video.video_id: video for video in videos}
    return [_tile(found, by_id[video], own[video][len(own[video]) // 2]) for video in chosen]


def _tile(found: Scores, video: PartVideo, row: Mapping[str, Any]) -> pictures.Tile:
    """One frame: its persons, and of each those parts that the truth has, or all where the person
    is not a true one.
    """
    picture = FrameReader(video.array_uri).read([row["frame"]])[0]
    scale = np.array([picture.shape[1] / video.width, picture.shape[0] / video.height] * 2)
    truth = video.humans_of(int(np.searchsorted(video.frames, row["frame"])))
    pairs = match(
        np.array([len(truth.boxes)]), truth.boxes, np.array([len(row["boxes"])]), row["boxes"]
    )
    true_of = dict(zip(pairs.found.tolist(), pairs.truth.tolist(), strict=True))
    shown = [
        place for place, score in enumerate(row["scores"]) if score >= SHOWN_SCORE or not place
    ]
    parts: list[tuple[int, Sequence[float], str, bool | None]] = []
    for place in shown:
        human = true_of.get(place)
        for part in range(len(found.words.parts)):
            state, box = int(row["states"][place, part, 0]), row["parts"][place, part]
            right: bool | None = None
            if human is not None:
                if not truth.seen[human, part]:
                    continue
                near = bool(
                    pixel_ious(truth.parts[human, part].astype(np.float64), box) >= PART_IOU
                )
                right = near and state == int(truth.states[human, part])
            parts.append((part, (box * scale).tolist(), found.words.states[state], right))
    title = f"{found.actions[video.video_id]}" + (
        "" if found.actions[video.video_id] == video.action else f" (is {video.action})"
    )
    below = f"PSC {found.scores.psc[video.video_id]:.0%}, frame {row['frame']}"
    return pictures.Tile(picture, title, below, row["boxes"][shown] * scale, parts)
