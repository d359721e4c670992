"""Frame-mAP against the official answers, and against small cases with answers known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ava_files import AvaFileError, as_boxes, read_boxes, read_excluded
from ops.annotations.vocabulary import parse
from ops.tasks.detection.matching import Boxes, any_free, best_only, boxes_of, ious
from ops.tasks.detection.metric import (
    DetectionMetric,
    capped,
    envelope,
    frame_map,
    person_ap,
    trapezoid,
    tube_frame_map,
)

CASES = ["easy", "excluded_timestamps", "iou_above_half", "no_second_best_match"]
UNIT = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("case", CASES)
def test_the_official_answers(shared: Path, case: str) -> None:
    folder = shared / "metrics" / "ava" / case
    words = parse((folder / "action_list.pbtxt").read_bytes(), "action_list.pbtxt", own_ids=True)
    excluded = folder / "excluded.csv"
    out = read_excluded(excluded.read_bytes(), "excluded.csv") if excluded.exists() else set()
    files = (
        read_boxes((folder / name).read_bytes(), name, words.ids, out)
        for name in ("gt.csv", "pred.csv")
    )
    true, found = as_boxes(*files, {number: place for place, number in enumerate(words.ids)})
    answers = json.loads((folder / "expected.json").read_text())
    # The rows of `easy` are not sorted, which SlowFast's evaluator takes as they are; the official
    # one sorts them, as we do.
    expected = answers["activitynet2018_official" if case == "easy" else "slowfast_style"]
    rng = np.random.default_rng(0)
    for shuffled in (found, found.taken(rng.permutation(len(found)))):
        scores = frame_map(shuffled, true.taken(rng.permutation(len(true))), len(words.ids))
        assert scores.mean_ap == pytest.approx(expected["mAP"], abs=1e-6)
        for name, value in zip(words.names, scores.per_class, strict=True):
            answer = expected["per_class"].get(name)
            assert (np.isnan(value) and answer is None) or value == pytest.approx(answer, abs=1e-6)


def rows(*values: tuple[int, int, tuple[float, float, float, float], float]) -> Boxes:
    frames, labels, boxes, scores = zip(*values, strict=True) if values else ((), (), (), ())
    return boxes_of(frames, labels, np.array(boxes).reshape(-1, 4), scores)


def test_the_surest_box_takes_its_best_true_one_and_no_other() -> None:
    a, b = (0.0, 0, 0.4, 0.4), (0.04, 0, 0.44, 0.4)
    true = rows((0, 0, a, 1), (0, 0, b, 1))
    found = rows((0, 0, (0.01, 0, 0.41, 0.4), 0.8), (0, 0, a, 0.9))
    hits, mate = best_only(found, true, 0.5)
    assert hits.tolist() == [False, True]
    assert mate.tolist() == [0, 0]
    assert frame_map(found, true, 1).mean_ap == 0.5
    # tubes' rule falls back to the free one
    assert any_free(found, true, 0.5, pixels=0).tolist() == [True, True]
    assert tube_frame_map(found, true, 1).mean_ap == pytest.approx(1.0)


def test_found_boxes_of_a_frame_without_truth_are_wrong() -> None:
    true = rows((0, 0, UNIT, 1))
    found = rows((1, 0, UNIT, 0.9), (0, 0, UNIT, 0.8))
    assert frame_map(found, true, 1).mean_ap == 0.5


def test_classes_without_detections_count_and_classes_without_truth_do_not() -> None:
    scores = frame_map(
        rows((0, 0, UNIT, 0.9), (0, 2, UNIT, 0.9)), rows((0, 0, UNIT, 1), (0, 1, UNIT, 1)), 3
    )
    assert scores.mean_ap == 0.5
    assert np.isnan(scores.per_class[2])
    assert np.isnan(frame_map(rows(), rows(), 3).mean_ap)
    assert frame_map(rows(), rows((0, 0, UNIT, 1)), 3).mean_ap == 0


def test_an_overlap_of_exactly_half_counts() -> None:
    assert frame_map(rows((0, 0, (0, 0, 0.5, 1), 1)), rows((0, 0, UNIT, 1)), 1).mean_ap == 1


def test_boxes_without_area_overlap_nothing() -> None:
    empty = np.array([[0.5, 0.5, 0.5, 0.5]])
    assert ious(empty, empty)[0] == 0
    assert ious(empty, np.array([UNIT]))[0] == 0


def test_equal_scores_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 0.5, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.5, (60, 2))], axis=1)
    true = boxes_of(rng.integers(0, 5, 20), rng.integers(0, 2, 20), boxes[:20])
    found = boxes_of(
        rng.integers(0, 5, 60), rng.integers(0, 2, 60), boxes, rng.integers(1, 4, 60) / 4
    )
    values = {
        frame_map(found.taken(rng.permutation(60)), true.taken(rng.permutation(20)), 2).mean_ap
        for _ in range(10)
    }
    assert len(values) == 1


def test_the_areas_by_hand() -> None:
    hits = np.array([True, False, True, False])
    assert envelope(hits, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert trapezoid(hits, 4) == pytest.approx(0.25 * 1 + 0.25 * (0.5 + 2 / 3) / 2)
    assert envelope(~hits & False, 4) == trapezoid(~hits & False, 4) == 0


def test_the_cap_keeps_the_surest_rows_of_each_frame() -> None:
    found = rows((0, 0, UNIT, 0.1), (0, 1, UNIT, 0.9), (1, 0, UNIT, 0.2), (0, 2, UNIT, 0.5))
    kept = capped(found, 2)
    assert sorted(zip(kept.frames.tolist(), kept.scores.tolist(), strict=True)) == [
        (0, 0.5),
        (0, 0.9),
        (1, 0.2),
    ]
    assert len(capped(rows(), 2)) == 0


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found boxes have labels 0\.\.3; allowed: 0\.\.2"):
        frame_map(rows((0, 3, UNIT, 1), (0, 0, UNIT, 1)), rows(), 3)
    with pytest.raises(ValueError, match="box of row 1"):
        boxes_of([0, 0], [0, 0], [UNIT, (0, 0, np.nan, 1)])


def key_frame(second: int, video: str = "v", **changes: object) -> dict[str, object]:
    row = {
        "video_id": video,
        "timestamp_s": float(second),
        "boxes": [UNIT, (0, 0, 0.3, 0.3)],
        "person_scores": [0.9, 0.4],
        "scores": [[0.9, 0.1], [0.2, 0.8]],
        "true_boxes": [UNIT],
        "true_labels": [[True, False]],
    }
    return {**row, **changes}


def test_rows_of_key_frames() -> None:
    metric = DetectionMetric(["walk", "hold"], {"movement": [0], "object": [1]})
    metric.update([key_frame(1), key_frame(2, boxes=[], person_scores=[], scores=np.empty((0, 2)))])
    numbers = metric.compute()
    assert numbers == {
        "frame_map": 0.5,
        "person_ap": 0.5,
        "person_recall": 0.5,
        "frame_map/movement": 0.5,
    }
    assert metric.per_class() == {"walk": 0.5}
    with pytest.raises(ValueError, match=r"key frame 1\.0 of video 'v' came twice"):
        metric.update([key_frame(1)])


def test_a_person_without_action_is_a_person() -> None:
    metric = DetectionMetric(["walk", "hold"])
    metric.update([key_frame(1, true_labels=[[False, False]])])
    assert metric.compute() == {"frame_map": 0.0, "person_ap": 1.0, "person_recall": 1.0}


def test_frames_without_persons_and_classes_that_do_not_count() -> None:
    metric = DetectionMetric(["walk", "hold"], scored=[1])
    metric.update(
        [
            key_frame(1, true_boxes=np.empty((0, 4)), true_labels=np.empty((0, 2))),
            key_frame(2, true_labels=[[True, True]]),
        ]
    )
    assert metric.per_class() == {"hold": 0.25}  # behind three boxes that are wrong
    assert metric.compute()["frame_map"] == 0.25
    assert metric.compute()["person_ap"] == 0.5


def test_person_ap_does_not_look_at_labels() -> None:
    assert person_ap(rows((0, 1, UNIT, 0.9)), rows((0, 0, UNIT, 1))) == 1


def test_files_with_mistakes_are_refused_by_line() -> None:
    with pytest.raises(AvaFileError, match=r"pred.csv:2: found 'x'"):
        read_boxes(b"v,0902,0,0,1,1,1,0.5\nv,0902,0,x,1,1,1,0.5\n", "pred.csv", (1,))
    with pytest.raises(AvaFileError, match=r"gt.csv:1: .*video,timestamp,x1"):
        read_boxes(b"v,0902,0,0,1\n", "gt.csv", (1,))
    with pytest.raises(AvaFileError, match="video,timestamp"):
        read_excluded(b"v\n", "excluded.csv")
    found = read_boxes(b"v,902.0,0,0,1,1,1\nv,0902,0,0,1,1,7,0.5\n", "pred.csv", (1,))
    assert (found.frames, found.marks, found.unknown) == ([("v", 902_000)], [None], 1)
