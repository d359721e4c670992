"""Scoring a parsing model on a frozen evaluation set: Acc^p and what stands behind it, prediction files and pictures."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

import configs
from configs.schema import ConfigError, Dataset, content_hash
from configs.schema.parsing import ParsingRecipe
from configs.versions import EVALUATION
from ops.compute.progress import counted
from ops.evaluation.cache import Evaluation
from ops.evaluation.weights import begin
from ops.store.layout import Layout
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
from ops.training.loop import Place, predict
from ops.training.task import Vocabulary

SHOWN = 12  # frames on the contact sheet: a third each of the best, the middling and the worst videos
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


class Scored(NamedTuple):
    """Everything that an evaluation is written from."""

    truth: TrueHumans
    words: Words
    metric: ParsingMetric
    scores: ParsingScores
    by_part: Mapping[str, Mapping[str, float]]
    actions: Mapping[str, str]  # as the recognition model names them
    table: Sequence[tuple[Given, float]]  # of the bottleneck analysis
    files: Mapping[str, bytes]


def evaluate(
    recipe: ParsingRecipe,
    weights_uri: str,
    layout: Layout,
    *,
    dataset: Dataset | None = None,
    split: str = "val",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    spoken: Vocabulary | None = None,
    common: Sequence[str] | None = None,
) -> Evaluation:
    """Score the weights on a split, with the actions that the recipe's recognition model (or file) names; kept beside the weights.

    `spoken` are the model's own parts and states and the pairs it knows, where these are not the dataset's of today: it is scored in
    its own words, which have to be the same ones in whatever order. Fewer words (`common`) cannot be scored: a state is one answer of all.

    The evaluation set is every n-th annotated frame of the split's usable videos; `eval_set` hashes their contents and annotations, the
    vocabulary, the named actions and the version of this code, so that two parsers are only compared under the same actions. What was
    kept for the same set and weights is given back without work. Raises DataError without frames, ConfigError where recipe, weights,
    vocabulary and action model do not belong together, PredictionError where there is no action model.
    """
    dataset = dataset or configs.dataset(recipe.dataset)
    task = Parsing(recipe, layout, dataset)
    if spoken is None:
        task.check()
    else:
        _require_same(task.table.words, spoken, common)
    videos, words = task.videos(split), task.table.words
    truth = task.truth(split)
    actions = actions_of(recipe, dataset, videos, layout)
    eval_set = eval_set_of(videos, truth, words, actions)
    also: list[Any] = []
    if spoken is not None and spoken != task.vocabulary():
        task = Parsing(recipe.model_copy(update={"parts": None, "states": None}), layout, dataset, spoken)
        videos, words, truth, also = task.videos(split), task.table.words, task.truth(split), [spoken]
    begun = begin(recipe, weights_uri, eval_set, split, device, *also)
    if isinstance(begun, Evaluation):
        return begun
    record, model = begun
    told = None if progress is None else counted(progress, len(truth.counts))
    rows = predict(task, model, split, place=Place(0, 1, torch.device(device)), workers=recipe.scale.loader_workers, on_batch=told)
    scored = _scored(truth, words, rows, actions)
    return record.keep(
        noun="frames",
        num_samples=len(truth.counts),
        metrics=_metrics(scored),
        per_class={part: own["found"] * own["state_accuracy"] for part, own in scored.by_part.items()},
        predictions=_table(rows, words),
        pictures=_pictures(scored, rows, videos),
        files=scored.files,
    )


def _require_same(today: Words, spoken: Vocabulary, common: Sequence[str] | None) -> None:
    for name, own, found in (("parts", spoken["parts"], today.parts), ("states", spoken["states"], today.states)):
        if common is not None or set(own) != set(found):
            lost, new = sorted(set(own) - set(found)), sorted(set(found) - set(own))
            allowed = f"the {name} of today, all of them: {', '.join(found)}"
            raise ConfigError("model", name, f"other ones ({', '.join(lost) or 'none'} more, {', '.join(new) or 'none'} fewer)", allowed)


def eval_set_of(videos: Sequence[PartVideo], truth: TrueHumans, words: Words, actions: Mapping[str, str]) -> str:
    """Hash of an evaluation set: frames with content and annotations, the vocabulary, the actions, and how they are scored."""
    digest = hashlib.sha256()
    for values in truth[2:]:
        digest.update(np.ascontiguousarray(values).tobytes())
    contents = [[video.video_id, video.key, video.action, actions[video.video_id]] for video in videos]
    return content_hash([contents, digest.hexdigest(), words, EVALUATION])


def _scored(truth: TrueHumans, words: Words, rows: Sequence[Mapping[str, Any]], actions: Mapping[str, str]) -> Scored:
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
        "bottleneck.csv": _csv([(*STAGES, "acc_p"), *((*(int(mark) for mark in given), f"{score:.6f}") for given, score in table)]),
    }
    return Scored(truth, words, metric, metric.scores(), metric.per_part(), actions, table, files)


def _metrics(scored: Scored) -> dict[str, float]:
    """The metric's numbers, Acc^p with every action right, and by part."""
    numbers = scored.metric.compute()
    numbers["acc_p_true_actions"] = _all_right(scored.scores).acc_p
    for part, own in scored.by_part.items():
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
            "state_scores": row["state_scores"].reshape(count * parts, -1).tolist() if count else [],
        }
        for name, column in values.items():
            columns[name].extend(column)
    return pa.table({name: pa.array(columns[name], PREDICTIONS.field(name).type) for name in PREDICTIONS.names}, schema=PREDICTIONS)


# ------------------------------------------------------------------------------------------------------- pictures


def _pictures(scored: Scored, rows: Sequence[Mapping[str, Any]], videos: Sequence[PartVideo]) -> dict[str, bytes]:
    scores = scored.scores
    below = f"best, middling and worst of {len(scores.psc)} videos by PSC; states: green right, red wrong; white: the person"
    return {
        "people.png": pictures.contact_sheet(_tiles(scored, rows, videos), scored.words.parts, below),
        "accuracy_curve.png": pictures.accuracy_curve(scores, _all_right(scores)),
        "parts.png": pictures.part_bars(scored.by_part),
        "bottleneck.png": pictures.bottleneck_bars(scored.table),
    }


def _tiles(scored: Scored, rows: Sequence[Mapping[str, Any]], videos: Sequence[PartVideo]) -> list[pictures.Tile]:
    own: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        own.setdefault(row["video_id"], []).append(row)
    ordered = sorted((video for video in scored.scores.psc if video in own), key=lambda video: -scored.scores.psc[video])
    third, middle = SHOWN // 3, max(0, len(ordered) // 2 - SHOWN // 6)
    chosen = ordered if len(ordered) <= SHOWN else ordered[:third] + ordered[middle : middle + third] + ordered[-third:]
    by_id = {video.video_id: video for video in videos}
    return [_tile(scored, by_id[video], own[video][len(own[video]) // 2]) for video in chosen]


def _tile(scored: Scored, video: PartVideo, row: Mapping[str, Any]) -> pictures.Tile:
    """One frame: its persons, and of each those parts that the truth has, or all where the person is not a true one."""
    picture = FrameReader(video.uri).read([row["frame"]])[0]
    scale = np.array([picture.shape[1] / video.width, picture.shape[0] / video.height] * 2)
    truth = video.humans_of(int(np.searchsorted(video.frames, row["frame"])))
    pairs = match(np.array([len(truth.boxes)]), truth.boxes, np.array([len(row["boxes"])]), row["boxes"])
    true_of = dict(zip(pairs.found.tolist(), pairs.truth.tolist(), strict=True))
    shown = [place for place, score in enumerate(row["scores"]) if score >= SHOWN_SCORE or not place]
    parts: list[tuple[int, Sequence[float], str, bool | None]] = []
    for place in shown:
        human = true_of.get(place)
        for part in range(len(scored.words.parts)):
            state, box = int(row["states"][place, part, 0]), row["parts"][place, part]
            right: bool | None = None
            if human is not None:
                if not truth.seen[human, part]:
                    continue
                near = bool(pixel_ious(truth.parts[human, part].astype(np.float64), box) >= PART_IOU)
                right = near and state == int(truth.states[human, part])
            parts.append((part, (box * scale).tolist(), scored.words.states[state], right))
    title = f"{scored.actions[video.video_id]}" + ("" if scored.actions[video.video_id] == video.action else f" (is {video.action})")
    below = f"PSC {scored.scores.psc[video.video_id]:.0%}, frame {row['frame']}"
    return pictures.Tile(picture, title, below, row["boxes"][shown] * scale, parts)
