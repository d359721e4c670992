"""Frame-mAP against the evaluator that AVA's results are published with, in one run and on the same
rows.

The peer is not part of the project: KINOGRAPH_AVA_EVALUATOR names the folder that holds its package
`ava_evaluation` (as in SlowFast).
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ops.tasks.detection.matching import Boxes, boxes_of
from ops.tasks.detection.metric import frame_map

pytestmark = pytest.mark.bench
CLASSES, FRAMES, FOUND, PERSONS = 60, 1000, 50, 3  # 50,000 found boxes
AT_LEAST = 3.0


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    folder = os.environ.get("KINOGRAPH_AVA_EVALUATOR")
    if not folder or not Path(folder, "ava_evaluation").is_dir():
        pytest.skip(
            "set KINOGRAPH_AVA_EVALUATOR to the folder that holds the package ava_evaluation"
        )
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module("ava_evaluation.object_detection_evaluation")


def made() -> tuple[Boxes, Boxes]:
    """(found, true): every found box stands near a true one, or anywhere; scores of a frame fall,
    as the peer needs it.
    """
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.6, (FRAMES, PERSONS, 2))
    persons = np.concatenate(
        [corners, corners + rng.uniform(0.1, 0.4, (FRAMES, PERSONS, 2))], axis=2
    )
    kinds = rng.integers(0, CLASSES, (FRAMES, PERSONS, 2))
    true = boxes_of(
        np.repeat(np.arange(FRAMES), 2 * PERSONS),
        kinds.reshape(-1),
        np.repeat(persons.reshape(-1, 4), 2, axis=0),
    )
    who = rng.integers(0, PERSONS, (FRAMES, FOUND))
    boxes = np.take_along_axis(persons, who[..., None], axis=1) + rng.normal(
        0, 0.03, (FRAMES, FOUND, 4)
    )
    boxes = np.concatenate(
        [np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])],
        axis=2,
    )
    own = np.take_along_axis(kinds[..., 0], who, axis=1)
    labels = np.where(
        rng.random((FRAMES, FOUND)) < 0.5, own, rng.integers(0, CLASSES, (FRAMES, FOUND))
    )
    scores = np.sort(rng.random((FRAMES, FOUND)), axis=1)[:, ::-1]
    found = boxes_of(
        np.repeat(np.arange(FRAMES), FOUND),
        labels.reshape(-1),
        boxes.reshape(-1, 4),
        scores.reshape(-1),
    )
    return found, true


def peer(module: ModuleType, found: Boxes, true: Boxes) -> float:
    names = [{"id": label + 1, "name": str(label)} for label in range(CLASSES)]
    # EVAD's variant
    several = "iouThrs" in inspect.signature(module.PascalDetectionEvaluator).parameters
    evaluator = module.PascalDetectionEvaluator(names, **({"iouThrs": [0.5]} if several else {}))
    for frame in range(FRAMES):
        there, here = (
            slice(frame * 2 * PERSONS, (frame + 1) * 2 * PERSONS),
            slice(frame * FOUND, (frame + 1) * FOUND),
        )
        evaluator.add_single_ground_truth_image_info(
            str(frame),
            {
                "groundtruth_boxes": true.boxes[there],
                "groundtruth_classes": true.labels[there] + 1,
                "groundtruth_difficult": np.zeros(2 * PERSONS, bool),
            },
        )
        evaluator.add_single_detected_image_info(
            str(frame),
            {
                "detection_boxes": found.boxes[here],
                "detection_classes": found.labels[here] + 1,
                "detection_scores": found.scores[here],
            },
        )
    metrics = evaluator.evaluate()
    metrics = metrics[0] if isinstance(metrics, list) else metrics
    return float(
        next(
            value for name, value in metrics.items() if name.startswith("PascalBoxes_Precision/mAP")
        )
    )


def test_frame_map_of_60_classes(original: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    # names that the peer has from an older numpy
    monkeypatch.setattr(np, "bool", bool, raising=False)
    monkeypatch.setattr(np, "float", float, raising=False)
    logging.disable(logging.INFO)
    found, true = made()
    ours, theirs = [], []
    for _ in range(3):
        begin = time.perf_counter()
        mine = frame_map(found, true, CLASSES).mean_ap
        ours.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        other = peer(original, found, true)
        theirs.append(time.perf_counter() - begin)
    logging.disable(logging.NOTSET)
    print(
        f"\n{len(found)} found, {len(true)} true, {CLASSES} classes: {min(ours):.3f} s, peer"
        f" {min(theirs):.3f} s",
        file=sys.stderr,
    )
    assert mine == pytest.approx(other, abs=1e-6)
    assert min(theirs) / min(ours) >= AT_LEAST
