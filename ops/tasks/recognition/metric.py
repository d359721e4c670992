"""Scores of recognition: top-k accuracy, mean class accuracy, confusion matrix, and the averaging
of views.

Where evaluators differ these follow the original of the published tables (MMAction2 1.2): with
equal scores top-k prefers the order of numpy's argsort (mostly the higher class), the predicted
class is the lowest of the best, and mean class accuracy runs over every class that occurs in the
labels or in the predictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

Average = Literal["prob", "score", "feature"]


def top_k_hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Bool [N]: whether the label is among the k best of scores [N, C]. A k beyond C takes all
    classes.
    """
    # Classes by rising score: the last k columns are the best, [N, k].
    best = np.argsort(scores, axis=1)[:, -k:]
    return (best == np.asarray(labels)[:, None]).any(axis=1)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of samples whose label is among the k best of scores [N, C]."""
    return float(top_k_hits(scores, labels, k).mean())


def confusion_matrix(
    predicted: np.ndarray, labels: np.ndarray, num_classes: int | None = None
) -> np.ndarray:
    """Counts, int64, rows = labels, columns = predictions.

    Args:
        predicted: class ids [N].
        labels: true class ids [N].
        num_classes: rows and columns; None is one per class that occurs in either, in ascending
            order.

    Raises:
        ValueError: a class is outside [0, num_classes).
    """
    predicted, labels = np.asarray(predicted, np.int64), np.asarray(labels, np.int64)
    if num_classes is None:
        classes, both = np.unique(np.concatenate([predicted, labels]), return_inverse=True)
        num_classes, (predicted, labels) = len(classes), np.split(both, 2)
    for name, values in (("prediction", predicted), ("label", labels)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} {values.min()}..{values.max()} outside 0..{num_classes - 1}")
    # One number a (label, prediction), counted, and cut into rows.
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall over every class that occurs in the labels or the predictions; one that is only
    predicted counts 0.
    """
    matrix = confusion_matrix(np.argmax(scores, axis=1), labels)
    # Samples of each class; a class that is only predicted has none, and its diagonal is 0.
    per_class = matrix.sum(axis=1)
    return float(np.mean(np.diag(matrix) / np.maximum(per_class, 1)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    # The largest logit is taken off first, so that no power overflows.
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def average_views(logits: np.ndarray, num_views: int, average: Average) -> np.ndarray:
    """One row per clip [N, C].

    Args:
        logits: [N * num_views, C], consecutive rows of one clip.
        num_views: of each clip.
        average: 'prob' is the mean of the views' softmax, 'score' the mean of their logits.
            'feature' averages before the classifier, so its logits already are one row per clip and
            stay as they are.
    """
    if average == "feature":
        return logits
    # [N, views, C]: consecutive rows are one clip's.
    views = logits.reshape(-1, num_views, logits.shape[-1])
    return (softmax(views) if average == "prob" else views).mean(axis=1)


def probabilities(scores: np.ndarray, average: Average) -> np.ndarray:
    """Averaged scores as probabilities: 'prob' scores are, the others become so by softmax."""
    return scores if average == "prob" else softmax(scores)


class RecognitionMetric:
    """Accumulates prediction rows (`scores` [C], `label_id`) and computes top1, top5 and
    mean_class_accuracy.
    """

    def __init__(self, ks: Sequence[int] = (1, 5)) -> None:
        self.ks = tuple(ks)
        self._scores: list[np.ndarray] = []
        self._labels: list[int] = []

    def update(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add predictions; their order does not matter."""
        for row in rows:
            self._scores.append(np.asarray(row["scores"]))
            self._labels.append(int(row["label_id"]))

    def compute(self) -> dict[str, float]:
        """Shares in 0..1. Raises ValueError when nothing was added."""
        if not self._labels:
            raise ValueError("no predictions to score")
        scores, labels = np.stack(self._scores), np.array(self._labels)
        metrics = {f"top{k}": top_k_accuracy(scores, labels, k) for k in self.ks}
        return {**metrics, "mean_class_accuracy": mean_class_accuracy(scores, labels)}
