"""Numbers of a recognition evaluation beyond top-k: accuracy per label, and labels that differ only
in the order of time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ops.annotations.time_order import Pairs
from ops.tasks.recognition.metric import mean_class_accuracy, top_k_accuracy


def scores_of(
    scores: np.ndarray, true: np.ndarray, labels: Sequence[str], pairs: Pairs
) -> dict[str, float]:
    """Metrics in 0..1: top1, top5, mean_class_accuracy, chance.

    With pairs also pair_top1 (accuracy on the clips of paired labels, decided between all classes)
    and pair_order (the share of these clips whose own label scores above its partner; a tie counts
    half, so that a model that cannot see the order of time gets one half), overall and as
    'pair_order/<a>__<b>'.

    Args:
        scores: [N, classes].
        true: label ids [N].
        labels: names of the classes.
        pairs: labels that differ by the order of time alone.
    """
    metrics = {
        "top1": top_k_accuracy(scores, true, 1),
        "top5": top_k_accuracy(scores, true, 5),
        "mean_class_accuracy": mean_class_accuracy(scores, true),
        "chance": 1 / len(labels),
    }
    hits: list[np.ndarray] = []
    orders: list[np.ndarray] = []
    for first, second in pairs:
        a, b = labels.index(first), labels.index(second)
        of = np.isin(true, (a, b))
        if not of.any():
            continue
        # Scores of each clip's own label and of its partner: a + b less the one is the other.
        own, other = scores[of, true[of]], scores[of, a + b - true[of]]
        hits.append(scores[of].argmax(axis=1) == true[of])
        orders.append((own > other) + 0.5 * (own == other))
        metrics[f"pair_top1/{first}__{second}"] = float(hits[-1].mean())
        metrics[f"pair_order/{first}__{second}"] = float(orders[-1].mean())
    if hits:
        metrics["pair_top1"] = float(np.concatenate(hits).mean())
        metrics["pair_order"] = float(np.concatenate(orders).mean())
    return metrics


def class_accuracy(
    scores: np.ndarray, true: np.ndarray, labels: Sequence[str]
) -> tuple[dict[str, float], dict[str, int]]:
    """Accuracy and number of clips of every label that has clips."""
    predicted = scores.argmax(axis=1)
    present = [index for index in range(len(labels)) if (true == index).any()]
    accuracy = {
        labels[index]: float((predicted[true == index] == index).mean()) for index in present
    }
    return accuracy, {labels[index]: int((true == index).sum()) for index in present}
