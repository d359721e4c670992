"""Numbers of a recognition evaluation beyond top-k: accuracy per label, and labels that differ only in the order of time."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from configs.schema import ConfigError, Dataset
from ops.metrics.recognition import mean_class_accuracy, top_k_accuracy
from ops.store.files import read_bytes
from ops.store.layout import Layout

Pairs = list[tuple[str, str]]
PAIRS_FILE = "annotations/time_order_pairs.json"


def read_pairs(layout: Layout, dataset: Dataset, labels: Sequence[str]) -> Pairs:
    """Pairs of labels that are each other played backwards, from the dataset's own folder; none without the file.

    Raises ConfigError when the file is not a JSON list of two known labels each.
    """
    uri = f"{layout.dataset_root(dataset)}/{PAIRS_FILE}"
    try:
        found = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ConfigError(uri, "(whole file)", str(error), "JSON: a list of pairs of labels") from error
    if not isinstance(found, list):
        raise ConfigError(uri, "(whole file)", type(found).__name__, "a list of pairs of labels")
    for index, pair in enumerate(found):
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(labels):
            raise ConfigError(uri, f"[{index}]", pair, f"two different labels out of {', '.join(labels)}")
    return [(first, second) for first, second in found]


def scores_of(scores: np.ndarray, true: np.ndarray, labels: Sequence[str], pairs: Pairs) -> dict[str, float]:
    """Metrics in 0..1 of scores [N, classes] and label ids [N].

    top1, top5, mean_class_accuracy, chance; with pairs also pair_top1 (accuracy on the clips of paired labels, decided between
    all classes) and pair_order (the share of these clips whose own label scores above its partner; a tie counts half, so that
    a model that cannot see the order of time gets one half), overall and as 'pair_order/<a>__<b>'.
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
        own, other = scores[of, true[of]], scores[of, a + b - true[of]]
        hits.append(scores[of].argmax(axis=1) == true[of])
        orders.append((own > other) + 0.5 * (own == other))
        metrics[f"pair_top1/{first}__{second}"] = float(hits[-1].mean())
        metrics[f"pair_order/{first}__{second}"] = float(orders[-1].mean())
    if hits:
        metrics["pair_top1"] = float(np.concatenate(hits).mean())
        metrics["pair_order"] = float(np.concatenate(orders).mean())
    return metrics


def class_accuracy(scores: np.ndarray, true: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], dict[str, int]]:
    """Accuracy and number of clips of every label that has clips."""
    predicted = scores.argmax(axis=1)
    present = [index for index in range(len(labels)) if (true == index).any()]
    accuracy = {labels[index]: float((predicted[true == index] == index).mean()) for index in present}
    return accuracy, {labels[index]: int((true == index).sum()) for index in present}
