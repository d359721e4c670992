"""What an evaluation of a recognition model asks, and what is made of the answers: metrics,
predictions and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from configs.schema import ConfigError, RecognitionRecipe, content_hash
from configs.versions import EVALUATION
from ops.annotations.time_order import Pairs, read_pairs
from ops.data.timeline import timeline
from ops.evaluation import plots as pictures
from ops.evaluation.cache import Results
from ops.evaluation.run import words_of
from ops.store.reader import FrameReader
from ops.tasks.recognition.clips import Clip, ClipDataset
from ops.tasks.recognition.metric import confusion_matrix, probabilities
from ops.tasks.recognition.scores import class_accuracy, scores_of
from ops.tasks.recognition.task import Recognition
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
        # as the recipe averages its views: probabilities for 'prob', else logits
        ("scores", pa.list_(pa.float32())),
    ]
)


class Report:
    """Every usable clip of a split in the recipe's test views, and its scores."""

    def __init__(
        self,
        task: Recognition,
        split: str,
        spoken: Vocabulary | None = None,
        common: Sequence[str] | None = None,
    ) -> None:
        recipe, dataset = task.recipe, task.dataset
        self.task, self.words = task, words_of(task.vocabulary()["labels"], spoken, common)
        if len(self.words.own) != recipe.num_classes:
            allowed = f"{len(self.words.own)}, the labels of {dataset.name}"
            raise ConfigError(f"recipe {recipe.name}", "num_classes", recipe.num_classes, allowed)
        self.places, labels = self.words.places(), self.words.asked
        self.samples = task.samples(split, "test")
        self.clips = [clip for clip in self.samples.clips if common is None or clip.label in labels]
        self.pairs = [
            pair
            for pair in read_pairs(task.layout, dataset, self.words.today)
            if set(pair) <= set(labels)
        ]
        self.eval_set = eval_set_of(self.clips, labels, self.pairs)
        self.depends_on = self.words.depends_on
        self.batch_size = clips_at_once(self.samples)

    def results(self, rows: list[dict[str, Any]]) -> Results:
        """Metrics, predictions and pictures."""
        today, labels = self.words.today, self.words.asked
        if not self.words.alike:
            known = [row for row in rows if today[row["label_id"]] in labels]
            rows = [
                translated(row, self.places, labels.index(today[row["label_id"]])) for row in known
            ]
        table = predictions_table(rows, labels, self.task.recipe)
        scores, true = (
            np.array(table["scores"].to_pylist(), np.float32),
            table["label_id"].to_numpy(),
        )
        accuracy, counts = class_accuracy(scores, true, labels)
        metrics = scores_of(scores, true, labels, self.pairs)
        drawn = {
            "confusion_matrix.png": pictures.confusion_matrix(
                confusion_matrix(scores.argmax(axis=1), true, len(labels)), labels
            ),
            "accuracy_per_label.png": pictures.class_bars(accuracy, counts, metrics["chance"]),
            "worst_clips.png": _contact_sheet(table, self.clips),
        }
        return Results(len(true), metrics, accuracy, table, drawn)


def clips_at_once(samples: ClipDataset) -> int:
    """How many clips, with all their views, make a batch of an evaluation."""
    return max(1, VIEWS_PER_BATCH // (len(samples.frozen) if samples.frozen else 1))


def translated(row: dict[str, Any], places: Sequence[int], label_id: int) -> dict[str, Any]:
    """A prediction row with the scores of these of the model's classes, in this order, and the
    label's place among them.
    """
    return {**row, "scores": row["scores"][list(places)], "label_id": label_id}


def eval_set_of(clips: Sequence[Clip], labels: Sequence[str], pairs: Pairs) -> str:
    """Hash of an evaluation set: clips with content and label, the vocabulary, and how they are
    scored.
    """
    return content_hash(
        [
            sorted([clip.clip_id, clip.key, clip.label, *clip.place] for clip in clips),
            list(labels),
            pairs,
            EVALUATION,
        ]
    )


def predictions_table(
    rows: Sequence[dict[str, Any]], labels: Sequence[str], recipe: RecognitionRecipe
) -> pa.Table:
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
    return pa.table(
        {name: pa.array(columns[name], PREDICTIONS.field(name).type) for name in PREDICTIONS.names},
        schema=PREDICTIONS,
    )


def _contact_sheet(table: pa.Table, clips: Sequence[Clip]) -> bytes:
    """The surest mistakes, with frames read from the store."""
    by_id = {clip.clip_id: clip for clip in clips}
    wrong = sorted(
        (row for row in table.to_pylist() if not row["correct"]),
        key=lambda row: -row["probability"],
    )
    shown = []
    for row in wrong[:SHEET_CLIPS]:
        clip = by_id[row["clip_id"]]
        reader = FrameReader(clip.array_uri)
        line = timeline(clip.num_frames, reader.attributes, start_s=clip.start_s, end_s=clip.end_s)
        frames = reader.read(line[np.linspace(0, len(line) - 1, SHEET_FRAMES).round().astype(int)])
        shown.append(
            pictures.Clip(
                clip.clip_id,
                row["label"],
                row["predicted"],
                row["probability"],
                row["true_probability"],
                frames,
            )
        )
    return pictures.worst_clips(shown, len(wrong), table.num_rows, SHEET_FRAMES)
