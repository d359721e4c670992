"""Localization metrics: the official evaluators' answers, and small cases whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from activitynet_files import read_predictions, read_truth
from ops.tasks.localization.metric import (
    LocalizationMetric,
    MetricError,
    Segments,
    kept_segments,
    match,
    scores_of,
    segments_of,
)


def row(
    video: str, true: list[tuple[float, float, int]], found: list[tuple[float, float, int, float]]
) -> dict[str, object]:
    return {
        "video_id": video,
        "true_segments": [segment[:2] for segment in true],
        "true_labels": [segment[2] for segment in true],
        "segments": [segment[:2] for segment in found],
        "labels": [segment[2] for segment in found],
        "scores": [segment[3] for segment in found],
    }


def scored(
    rows: list[dict[str, object]],
    thresholds: tuple[float, ...] = (0.5,),
    ks: tuple[int, ...] = (),
    classes: int = 3,
) -> dict[str, float]:
    metric = LocalizationMetric(classes, thresholds, ks)
    metric.update(rows)
    return metric.compute()


def cases(shared: Path) -> list[Path]:
    return sorted(path for path in (shared / "metrics" / "tal").iterdir() if path.is_dir())


def test_official_answers(shared: Path) -> None:
    for case in cases(shared):
        expected = json.loads((case / "expected.json").read_text())
        official = expected["actionformer"]
        if expected["quirk"] or "raises" in official:
            continue
        truth, labels = read_truth((case / "ground_truth.json").read_text(), expected["subset"])
        found = read_predictions((case / "predictions.json").read_text(), labels)
        thresholds = expected["tiou_thresholds"]
        matches = match(truth, found, thresholds)
        np.testing.assert_allclose(
            matches.average_precision().mean(1), official["mAP"], atol=1e-6, err_msg=case.name
        )
        recall = matches.recall().mean(2)
        for place, k in enumerate(("1", "5")):
            np.testing.assert_allclose(
                recall[:, place], official["recall_topkx"][k], atol=1e-6, err_msg=case.name
            )
        per_class = dict(zip(matches.classes, matches.average_precision().T, strict=True))
        index = {
            labels.index(name): value
            for name, value in expected["activitynet_official"]["ap_per_class"].items()
        }
        for label, values in index.items():
            np.testing.assert_allclose(
                per_class[label], values, atol=1e-6, err_msg=f"{case.name} {label}"
            )


def test_original_on_arrays(shared: Path) -> None:
    stored = np.load(shared / "parity" / "localization" / "actionformer_extras.npz")
    database = json.loads(
        (shared / "parity" / "localization" / "actionformer_map_gt.json").read_text()
    )["database"]
    rows = []
    for video, entry in database.items():
        if entry["subset"] != "Validation":
            continue
        spans = np.array([item["segment"] for item in entry["annotations"]], np.float64).reshape(
            -1, 2
        )
        ids = np.array([item["label_id"] for item in entry["annotations"]], np.int64)
        kept = kept_segments(spans[:, 0], spans[:, 1], ids)
        rows += [
            (video, *span, label, 1.0)
            for span, label in zip(spans[kept].tolist(), ids[kept].tolist(), strict=True)
        ]
    columns = ("video-id", "t-start", "t-end", "label", "score")
    found = Segments(*(stored[f"map/pred/{name}"] for name in columns))
    backward = (
        found.start_s >= found.end_s
    )  # the original counts these among the false positives, we refuse them: far away they are the same  # noqa: E501
    found = found._replace(
        end_s=np.where(backward, 1e6 + 1, found.end_s),
        start_s=np.where(backward, 1e6, found.start_s),
    )
    for name, thresholds in (
        ("thumos", np.linspace(0.3, 0.7, 5)),
        ("anet", np.linspace(0.5, 0.95, 10)),
        ("ego4d", np.linspace(0.1, 0.5, 5)),
    ):
        matches = match(segments_of(rows), found, thresholds.tolist())
        np.testing.assert_allclose(
            matches.average_precision().mean(1), stored[f"map/{name}/mAP"], atol=1e-9
        )
        np.testing.assert_allclose(
            matches.recall().mean(2), stored[f"map/{name}/recall_at_1x_5x"], atol=1e-9
        )


def test_leading_false_positive_and_double_detection() -> None:
    rows = [
        row(
            "a",
            [(0, 10, 0), (20, 30, 0)],
            [(50, 60, 0, 0.9), (0, 10, 0, 0.8), (0, 9, 0, 0.7), (20, 30, 0, 0.6)],
        )
    ]
    # precision at the hits: 1/2 and 2/4, and the second one's is the larger for neither
    assert scored(rows)["mean_ap"] == pytest.approx(0.5)


def test_next_best_free_segment_is_taken() -> None:
    rows = [row("a", [(0, 10, 0), (1, 11, 0)], [(0, 10, 0, 0.9), (0, 10.2, 0, 0.8)])]
    assert scored(rows)["mean_ap"] == pytest.approx(1.0)


def test_missing_class_counts_zero_and_strange_class_does_not_count() -> None:
    rows = [row("a", [(0, 10, 0), (20, 30, 1)], [(0, 10, 0, 0.9), (0, 10, 2, 0.95)])]
    assert scored(rows)["mean_ap"] == pytest.approx(0.5)


def test_prediction_in_another_video_is_a_false_positive() -> None:
    rows = [row("a", [(0, 10, 0)], [(0, 10, 0, 0.5)]), row("b", [], [(0, 10, 0, 0.9)])]
    assert scored(rows)["mean_ap"] == pytest.approx(0.5)


def test_equal_scores_keep_their_order() -> None:
    first, second = (0, 10, 0, 0.5), (40, 50, 0, 0.5)
    assert scored([row("a", [(0, 10, 0)], [first, second])])["mean_ap"] == pytest.approx(1.0)
    assert scored([row("a", [(0, 10, 0)], [second, first])])["mean_ap"] == pytest.approx(0.5)


def test_recall_takes_k_times_as_many_predictions_as_segments() -> None:
    found = [(50, 60, 0, 0.9), (0, 10, 0, 0.8), (20, 30, 0, 0.7)]
    scores = scored([row("a", [(0, 10, 0), (20, 30, 0)], found)], ks=(1, 5))
    assert (scores["recall_1x"], scores["recall_5x/0.50"]) == (0.5, 1.0)


def test_repeated_and_empty_segments_do_not_count() -> None:
    kept = kept_segments(
        np.array([0.0, 0.0005, 5.0, 0.0]),
        np.array([1.0, 1.0005, 5.0005, 1.0]),
        np.array([0, 0, 0, 1]),
    )
    assert kept.tolist() == [True, False, False, True]
    assert scored([row("a", [(0, 10, 0), (0, 10, 0)], [(0, 10, 0, 0.9)])])[
        "mean_ap"
    ] == pytest.approx(1.0)


def test_no_predictions_is_zero() -> None:
    scores = scored([row("a", [(0, 10, 0)], [])], ks=(1,))
    assert set(scores.values()) == {0.0}


@pytest.mark.parametrize(
    ("true", "found", "message"),
    [
        ([(0, 10, 0)], [(10, 0, 0, 0.9)], r"video 'a': prediction \[10.0, 0.0\]"),
        ([(0, 10, 0)], [(0, 10, 7, 0.9)], r"video 'a': prediction with label 7; allowed: 0..2"),
        ([(0, 10, 0)], [(0, float("nan"), 0, 0.9)], "start before end"),
        ([], [(0, 10, 0, 0.9)], "none with a segment"),
    ],
)
def test_what_cannot_be_scored_is_named(true, found, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        scored([row("a", true, found)])


def test_video_twice_and_unknown_label_are_named() -> None:
    with pytest.raises(MetricError, match="video 'a': found twice"):
        scored([row("a", [(0, 1, 0)], []), row("a", [(0, 1, 0)], [])])
    with pytest.raises(MetricError, match="label 'kick', which the ground truth does not have"):
        read_predictions(
            '{"results": {"v": [{"label": "kick", "segment": [0, 1], "score": 1}]}}', ["jump"]
        )


def test_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)

    def draw(count: int) -> Segments:
        start, label = rng.uniform(0, 90, count).round(1), rng.integers(0, 4, count)
        video = np.array([f"v{number}" for number in rng.integers(0, 6, count)], object)
        return Segments(
            video,
            start,
            start + rng.uniform(1, 20, count).round(1),
            label,
            rng.random(count).round(2),
        )

    truth, found = draw(60), draw(400)
    thresholds = (0.3, 0.5)
    matches = match(truth, found, thresholds)
    for place, label in enumerate(matches.classes):
        for row_, threshold in enumerate(thresholds):
            assert matches.average_precision()[row_, place] == pytest.approx(
                plain_ap(truth, found, label, threshold)
            )
    assert scores_of(matches, ())["mean_ap"] == pytest.approx(matches.average_precision().mean())


def plain_ap(truth: Segments, found: Segments, label: int, threshold: float) -> float:
    free = {at for at in range(len(truth.label)) if truth.label[at] == label}
    total, hits, precisions = len(free), 0, []
    ordered = sorted(
        (at for at in range(len(found.label)) if found.label[at] == label),
        key=lambda at: -found.score[at],
    )
    for number, at in enumerate(ordered, 1):
        best, best_at = threshold, None
        for other in sorted(free):
            if truth.video[other] != found.video[at]:
                continue
            inner = max(
                0.0,
                min(found.end_s[at], truth.end_s[other])
                - max(found.start_s[at], truth.start_s[other]),
            )
            value = inner / (
                found.end_s[at]
                - found.start_s[at]
                + truth.end_s[other]
                - truth.start_s[other]
                - inner
            )
            if value >= best:
                best, best_at = value, other
        if best_at is not None:
            free.discard(best_at)
            hits += 1
            precisions.append((number, hits))
    values = [hit / number for number, hit in precisions]
    return sum(max(values[place:]) for place in range(len(values))) / total
