"""Video-mAP against the official evaluator's answers, and linking against tubes that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ops.tasks.detection.matching import Boxes, boxes_of
from ops.tasks.detection.metric import tube_frame_map
from ops.tasks.detection.tubes import (
    SWEEP,
    FoundTube,
    Linking,
    Tube,
    link,
    suppress,
    tube_iou,
    video_map,
)


def moving(start: int, count: int, x: float = 10.0, step: float = 1.0) -> Tube:
    at = x + step * np.arange(count)
    return Tube(
        np.arange(start, start + count),
        np.stack([at, np.full(count, 5.0), at + 20, np.full(count, 45.0)], axis=1),
    )


def tube_of(rows: list[list[float]]) -> Tube:
    """A tube from rows of frame, x1, y1, x2, y2."""
    table = np.asarray(rows, np.float64).reshape(-1, 5)
    return Tube(table[:, 0].astype(np.int64), table[:, 1:])


@pytest.mark.parametrize("case", ["easy", "duplicates"])
def test_the_official_answers(shared: Path, case: str) -> None:
    folder = shared / "metrics" / "tubes" / case
    expected, truth, found = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("expected", "ground_truth", "predictions")
    )
    classes, videos = len(truth["labels"]), truth["test_videos"][0]
    true: dict[int, dict[str, list[Tube]]] = {}
    for video in videos:
        for label, tubes in truth["gttubes"][video].items():
            true.setdefault(int(label), {})[video] = [tube_of(tube) for tube in tubes]
    tubes = {
        int(label): [FoundTube(video, score, tube_of(rows)) for video, score, rows in own]
        for label, own in found["tubes"].items()
    }
    scores = video_map(tubes, true, classes, (0.2, *SWEEP))
    for threshold in (0.2, 0.5, 0.75):
        assert 100 * scores[threshold].mean_ap == pytest.approx(
            expected["moc"][str(threshold)]["video_mAP"], abs=1e-2
        )
    sweep = 100 * np.mean([scores[threshold].mean_ap for threshold in SWEEP])
    assert sweep == pytest.approx(expected["moc"]["0.5:0.95"]["video_mAP"], abs=1e-2)
    rows, truths = frame_boxes(found["frame_detections"], true, videos)
    for threshold in (0.2, 0.5, 0.75):
        assert 100 * tube_frame_map(rows, truths, classes, threshold).mean_ap == pytest.approx(
            expected["moc"][str(threshold)]["frame_mAP"], abs=1e-2
        )


def frame_boxes(
    rows: list[list[float]], true: dict[int, dict[str, list[Tube]]], videos: list[str]
) -> tuple[Boxes, Boxes]:
    table = np.array(rows)
    found = boxes_of(table[:, 0] * 10_000 + table[:, 1], table[:, 2], table[:, 4:], table[:, 3])
    frames, labels, boxes = [], [], []
    for label, by_video in true.items():
        for video, tubes in by_video.items():
            for tube in tubes:
                frames += (videos.index(video) * 10_000 + tube.frames).tolist()
                labels += [label] * len(tube.frames)
                boxes += tube.boxes.tolist()
    return found, boxes_of(frames, labels, boxes)


def test_overlap_in_space_and_time() -> None:
    tube = moving(3, 10)
    assert tube_iou(tube, tube) == 1
    # the same boxes on the last 5 of 10 frames
    assert tube_iou(tube, moving(8, 5, x=15.0)) == pytest.approx(0.5)
    assert tube_iou(tube, moving(13, 5)) == 0
    # half of 21 pixels aside: a third of the union
    shifted = Tube(tube.frames, tube.boxes + 0.5 * 21 * np.array([1, 0, 1, 0]))
    assert tube_iou(tube, shifted) == pytest.approx(1 / 3)


def test_suppression_keeps_the_surest_of_each_place() -> None:
    tubes = [
        FoundTube("v", score, moving(1, 8, x))
        for score, x in ((0.5, 10.0), (0.9, 11.0), (0.7, 100.0))
    ]
    assert [tube.score for tube in suppress(tubes)] == [0.9, 0.7]


def test_a_class_without_tubes_counts_zero_and_one_without_truth_does_not() -> None:
    true = {0: {"v": [moving(1, 9)]}, 1: {"v": [moving(1, 9)]}}
    found = {0: [FoundTube("v", 0.9, moving(1, 9))], 2: [FoundTube("v", 0.9, moving(1, 9))]}
    scores = video_map(found, true, 3, (0.5,))[0.5]
    assert scores.mean_ap == 0.5
    assert np.isnan(scores.per_class[2])
    with pytest.raises(ValueError, match=r"label 3; allowed: 0\.\.2"):
        video_map({3: []}, true, 3, (0.5,))


def test_linking_separates_persons_and_bridges_gaps() -> None:
    left, right = moving(0, 30, x=10.0), moving(4, 26, x=120.0, step=-1.0)
    rows = [
        (frame, box, 0.8)
        for frame, box in zip(left.frames, left.boxes, strict=True)
        if frame not in (11, 12)
    ]
    rows += [(frame, box, 0.9) for frame, box in zip(right.frames, right.boxes, strict=True)]
    rows += [(20, np.array([60.0, 60, 70, 70]), 0.99)]  # a flash
    rng = np.random.default_rng(0)
    rows = [rows[place] for place in rng.permutation(len(rows))]
    frames, boxes, scores = (np.array(column) for column in zip(*rows, strict=True))
    tubes = sorted(link(frames, boxes, scores, 30), key=lambda tube: -tube[0])
    assert [round(score, 6) for score, _ in tubes] == [0.9, 0.8]
    for (_, tube), known in zip(tubes, (right, left), strict=True):
        np.testing.assert_array_equal(tube.frames, known.frames)
        # straight motion: the bridged frames are right too
        np.testing.assert_allclose(tube.boxes, known.boxes)


def test_linking_ends_a_tube_that_is_gone() -> None:
    first, second = moving(0, 20), moving(30, 20)
    frames, boxes = np.r_[first.frames, second.frames], np.r_[first.boxes, second.boxes]
    assert len(link(frames, boxes, np.ones(40), 60)) == 2
    assert len(link(frames, boxes, np.ones(40), 60, Linking(overlap=0.0, patience=11))) == 1
    assert link(np.array([3]), first.boxes[:1], np.ones(1), 60) == []
    assert len(link(np.array([0]), first.boxes[:1], np.ones(1), 1)) == 1
