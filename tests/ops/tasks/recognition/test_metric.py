"""Recognition scores against the original evaluators' answers, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ops.tasks.recognition.metric import (
    RecognitionMetric,
    average_views,
    confusion_matrix,
    mean_class_accuracy,
    probabilities,
    top_k_accuracy,
)


@pytest.mark.parametrize("case", ["acc_easy", "acc_hard_400"])
def test_accuracies_are_those_of_the_original(shared: Path, case: str) -> None:
    path = shared / "metrics" / "recognition" / f"{case}.json"
    given = json.loads(path.read_text())
    scores, labels, expected = (
        np.array(given["scores"]),
        np.array(given["labels"]),
        given["expected"],
    )
    for k in given["topk"]:
        assert top_k_accuracy(scores, labels, k) == pytest.approx(expected[f"top{k}"], abs=1e-6)
    assert mean_class_accuracy(scores, labels) == pytest.approx(
        expected["mean_class_accuracy"], abs=1e-6
    )
    assert confusion_matrix(scores.argmax(1), labels).tolist() == expected["confusion_None"]


def test_views_are_averaged_as_the_original_does(shared: Path) -> None:
    given = json.loads(
        (shared / "metrics" / "recognition" / "average_clips_5clips.json").read_text()
    )
    logits = np.array(given["clip_scores"])
    for average in ("prob", "score"):
        expected = given["expected"][average]
        found = average_views(logits, given["num_views"], average)  # type: ignore[arg-type]
        assert list(found.shape) == expected["shape"]
        np.testing.assert_allclose(found, expected["values"], atol=1e-6)
    assert average_views(logits, 5, "feature") is logits


def test_ties_resolve_as_numpy_sorts() -> None:
    scores = np.array([[0.5, 0.5, 0.1]])
    assert [top_k_accuracy(scores, np.array([label]), 1) for label in range(3)] == [0.0, 1.0, 0.0]
    assert mean_class_accuracy(scores, np.array([0])) == 1.0  # here the lower index wins


def test_a_class_that_is_only_predicted_counts_zero() -> None:
    scores = np.eye(4)[[0, 0, 1, 3]]
    assert mean_class_accuracy(scores, np.array([0, 0, 1, 1])) == pytest.approx((1 + 0.5 + 0) / 3)
    assert confusion_matrix(np.array([0, 0, 1, 3]), np.array([0, 0, 1, 1])).tolist() == [
        [2, 0, 0],
        [0, 1, 1],
        [0, 0, 0],
    ]


def test_confusion_matrix_of_all_classes() -> None:
    assert confusion_matrix(np.array([2, 0]), np.array([1, 0]), 3).tolist() == [
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]
    with pytest.raises(ValueError, match=r"label 0\.\.3 outside 0\.\.2"):
        confusion_matrix(np.array([0, 1]), np.array([0, 3]), 3)


def test_k_beyond_the_classes_is_always_right() -> None:
    assert top_k_accuracy(np.zeros((2, 3)), np.array([0, 2]), 5) == 1.0


def test_scores_become_probabilities() -> None:
    scores = np.array([[1.0, 2.0], [1000.0, 0.0]])
    np.testing.assert_allclose(probabilities(scores, "score").sum(axis=1), 1.0)
    assert probabilities(scores, "prob") is scores


def test_the_metric_adds_up_and_ignores_order() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"scores": rng.normal(size=7), "label_id": int(rng.integers(7)), "clip_id": str(index)}
        for index in range(50)
    ]
    whole, parts = RecognitionMetric(), RecognitionMetric()
    whole.update(rows)
    parts.update(rows[30:])
    parts.update(rows[:30])
    assert whole.compute() == pytest.approx(parts.compute())
    assert set(whole.compute()) == {"top1", "top5", "mean_class_accuracy"}
    with pytest.raises(ValueError, match="no predictions"):
        RecognitionMetric().compute()
