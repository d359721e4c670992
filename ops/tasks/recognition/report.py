"""Scoring a recognition model on a frozen evaluation set: metrics, predictions and pictures, kept beside its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

import configs
from configs.schema import ConfigError, Dataset, RecognitionRecipe, content_hash
from configs.versions import EVALUATION
from ops.annotations.read import labels as dataset_labels
from ops.annotations.time_order import Pairs, read_pairs
from ops.data.loading import Loader
from ops.data.timeline import timeline
from ops.evaluation import plots as pictures
from ops.evaluation.cache import Evaluation, Record
from ops.evaluation.weights import begin, class_places
from ops.store.layout import Layout
from ops.store.reader import FrameReader
from ops.tasks.recognition.clips import Clip
from ops.tasks.recognition.metric import confusion_matrix, probabilities
from ops.tasks.recognition.scores import class_accuracy, scores_of
from ops.tasks.recognition.task import Recognition
from ops.training.loop import to_device
from ops.training.task import Vocabulary

VIEWS_PER_BATCH = 32
SHEET_CLIPS, SHEET_FRAMES = 8, 8

PREDICTIONS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("video_id", pa.string()),
        ("label", pa.string()),
        ("label_id", pa.int32()),
        ("predicted", pa.string()),
        ("predicted_id", pa.int32()),
        ("correct", pa.bool_()),
        ("probability", pa.float32()),  # of the predicted label
        ("true_probability", pa.float32()),
        ("scores", pa.list_(pa.float32())),  # as the recipe averages its views: probabilities for 'prob', else logits
    ]
)


def evaluate(
    recipe: RecognitionRecipe,
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
    """Score the weights on a split, with the recipe's test views; kept in `evaluation/` beside the weights.

    `spoken` are the names of the model's own classes where they are not the dataset's labels of today: they are matched by name.
    `common` leaves only these labels to answer with, and only their clips.

    The evaluation set is every usable clip of the split; `eval_set` hashes their ids, contents, decoding and labels with the
    version of this code. What was kept for the same set and weights is given back without work. `dataset` defaults to the
    recipe's own. Raises DataError without clips, ConfigError where recipe, weights and labels do not belong together.
    """
    dataset = dataset or configs.dataset(recipe.dataset)
    task = Recognition(recipe, layout, dataset)
    today = dataset_labels(dataset, "clips", layout, recipe.target)
    own = today if spoken is None else spoken["labels"]
    labels = today if common is None else [label for label in today if label in common]
    if len(own) != recipe.num_classes:
        raise ConfigError(f"recipe {recipe.name}", "num_classes", recipe.num_classes, f"{len(own)}, the labels of {dataset.name}")
    places = class_places(own, labels)
    clips = [clip for clip in task.samples(split, "test").clips if common is None or clip.label in labels]
    pairs = [pair for pair in read_pairs(layout, dataset, today) if set(pair) <= set(labels)]
    eval_set = eval_set_of(clips, labels, pairs)
    begun = begin(recipe, weights_uri, eval_set, split, device, *([] if own == today else [own]))
    if isinstance(begun, Evaluation):
        return begun
    record, model = begun
    rows = predict_clips(task, model, split, device, progress)
    if labels != own or labels != today:
        rows = [translated(row, places, labels.index(today[row["label_id"]])) for row in rows if today[row["label_id"]] in labels]
    table = predictions_table(rows, labels, recipe)
    return keep_scored(record, table, clips, labels, pairs)


def translated(row: dict[str, Any], places: Sequence[int], label_id: int) -> dict[str, Any]:
    """A prediction row with the scores of these of the model's classes, in this order, and the label's place among them."""
    return {**row, "scores": row["scores"][list(places)], "label_id": label_id}


def eval_set_of(clips: Sequence[Clip], labels: Sequence[str], pairs: Pairs) -> str:
    """Hash of an evaluation set: clips with content and label, the vocabulary, and how they are scored."""
    return content_hash([sorted([clip.clip_id, clip.key, clip.label, *clip.place] for clip in clips), list(labels), pairs, EVALUATION])


def predict_clips(
    task: Recognition, model: torch.nn.Module, split: str, device: str, progress: Callable[[int, int], None] | None
) -> list[dict[str, Any]]:
    """Prediction rows of all clips, in the order of the clips."""
    samples = task.samples(split, "test")
    size = max(1, VIEWS_PER_BATCH // (len(samples.frozen) if samples.frozen else 1))
    batches = [range(start, min(start + size, len(samples))) for start in range(0, len(samples), size)]
    loader = Loader(samples, task.collate, task.recipe.scale.loader_workers)
    rows: list[dict[str, Any]] = []
    try:
        with torch.inference_mode():
            for batch in loader.epoch(batches):
                rows += task.predict(model, to_device(batch, torch.device(device)))
                if progress is not None:
                    progress(len(rows), len(samples))
    finally:
        loader.close()
    return rows


def predictions_table(rows: Sequence[dict[str, Any]], labels: Sequence[str], recipe: RecognitionRecipe) -> pa.Table:
    """The rows in the schema PREDICTIONS."""
    scores = np.stack([row["scores"] for row in rows]).astype(np.float32)
    shares = probabilities(scores, recipe.views.average)
    true = np.array([row["label_id"] for row in rows])
    predicted = scores.argmax(axis=1)
    columns = {
        "clip_id": [row["clip_id"] for row in rows],
        "video_id": [row["video_id"] for row in rows],
        "label": [labels[label] for label in true],
        "label_id": true,
        "predicted": [labels[label] for label in predicted],
        "predicted_id": predicted,
        "correct": predicted == true,
        "probability": shares.max(axis=1),
        "true_probability": shares[np.arange(len(true)), true],
        "scores": list(scores),
    }
    return pa.table({name: pa.array(columns[name], PREDICTIONS.field(name).type) for name in PREDICTIONS.names}, schema=PREDICTIONS)


def keep_scored(record: Record, table: pa.Table, clips: Sequence[Clip], labels: Sequence[str], pairs: Pairs) -> Evaluation:
    """Score a table of predictions, draw its pictures and keep all of it."""
    scores, true = np.array(table["scores"].to_pylist(), np.float32), table["label_id"].to_numpy()
    accuracy, counts = class_accuracy(scores, true, labels)
    metrics = scores_of(scores, true, labels, pairs)
    drawn = {
        "confusion_matrix.png": pictures.confusion_matrix(confusion_matrix(scores.argmax(axis=1), true, len(labels)), labels),
        "accuracy_per_label.png": pictures.class_bars(accuracy, counts, metrics["chance"]),
        "worst_clips.png": _contact_sheet(table, clips),
    }
    return record.keep(
        noun="clips",
        num_samples=len(true),
        metrics=metrics,
        per_class=accuracy,
        predictions=table,
        pictures=drawn,
    )


def _contact_sheet(table: pa.Table, clips: Sequence[Clip]) -> bytes:
    """The surest mistakes, with frames read from the store."""
    by_id = {clip.clip_id: clip for clip in clips}
    wrong = sorted((row for row in table.to_pylist() if not row["correct"]), key=lambda row: -row["probability"])
    shown = []
    for row in wrong[:SHEET_CLIPS]:
        clip = by_id[row["clip_id"]]
        reader = FrameReader(clip.uri)
        line = timeline(clip.num_frames, reader.attributes, start_s=clip.start_s, end_s=clip.end_s)
        frames = reader.read(line[np.linspace(0, len(line) - 1, SHEET_FRAMES).round().astype(int)])
        shown.append(pictures.Clip(clip.clip_id, row["label"], row["predicted"], row["probability"], row["true_probability"], frames))
    return pictures.worst_clips(shown, len(wrong), table.num_rows, SHEET_FRAMES)
