"""Scoring 10,000 predictions of 20 classes at 5 thresholds, against ActionFormer's own evaluator
where a checkout of it is named.

KINOGRAPH_ACTIONFORMER is the folder of github.com/happyharrycn/actionformer_release.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from activitynet_files import read_truth
from ops.tasks.localization.metric import Segments, match
from reference import load_module

CLASSES, VIDEOS, THRESHOLDS = 20, 200, (0.3, 0.4, 0.5, 0.6, 0.7)

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def original() -> ModuleType:
    folder = os.environ.get("KINOGRAPH_ACTIONFORMER")
    if not folder:
        pytest.skip("no checkout of the original (set KINOGRAPH_ACTIONFORMER)")
    if not hasattr(np, "float"):
        np.float = float  # type: ignore[attr-defined]  # what the original calls it
    return load_module(Path(folder, "libs", "utils", "metrics.py"), "original_metrics")


def world(num_found: int) -> tuple[dict, Segments]:
    """Ground truth in ActivityNet's form, and predictions of which half lie near a segment of their
    class.
    """
    rng = np.random.default_rng(0)
    database, truth = {}, []
    for number in range(VIDEOS):
        starts = np.sort(rng.uniform(0, 190, 15))
        labels = rng.choice(CLASSES, 2)[rng.integers(0, 2, 15)]
        ends = starts + rng.uniform(1, 10, 15)
        truth += [
            (number, start, end, label)
            for start, end, label in zip(starts, ends, labels, strict=True)
        ]
        annotations = [
            {"label": f"{label:02d}", "label_id": int(label), "segment": [float(start), float(end)]}
            for start, end, label in zip(starts, ends, labels, strict=True)
        ]
        database[f"v{number:03d}"] = {"subset": "validation", "annotations": annotations}
    near = rng.integers(0, len(truth), num_found)
    video, start, end, label = (np.array(column)[near] for column in zip(*truth, strict=True))
    stray = rng.random(num_found) < 0.5
    start = start + rng.normal(0, 1, num_found) + stray * rng.uniform(-40, 40, num_found)
    end = np.maximum(end + rng.normal(0, 1, num_found), start + 0.5)
    label = np.where(rng.random(num_found) < 0.2, rng.integers(0, CLASSES, num_found), label)
    names = np.array([f"v{number:03d}" for number in video], object)
    return database, Segments(names, start, end, label.astype(np.int64), rng.random(num_found))


def test_against_the_original(original: ModuleType, tmp_path: Path) -> None:
    database, found = world(10_000)
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"database": database}))
    theirs = original.ANETdetection(
        str(file), split="validation", tiou_thresholds=np.array(THRESHOLDS), num_workers=1
    )
    columns = dict(zip(("video-id", "t-start", "t-end", "label", "score"), found, strict=True))
    start = time.perf_counter()
    expected, _, expected_recall = theirs.evaluate(columns, verbose=False)
    other = time.perf_counter() - start
    own, (precision, recall) = timed(file, found)
    print(f"10,000 predictions: ours {own:.3f} s, original {other:.2f} s, ratio {other / own:.0f}")
    np.testing.assert_allclose(precision, expected, atol=1e-9)
    np.testing.assert_allclose(recall, expected_recall, atol=1e-9)
    assert other / own >= 3
    many, _ = timed(file, world(10_000 * CLASSES)[1])
    print(
        f"{10_000 * CLASSES:,} predictions: ours {many:.2f} s, the original would take about"
        f" {CLASSES * other:.0f} s"
    )
    assert CLASSES * other / many >= 3


def timed(file: Path, found: Segments) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    """Seconds from the file to the scores, and mAP and recall by threshold."""
    start = time.perf_counter()
    truth, _ = read_truth(file.read_text(), "validation")
    matches = match(truth, found, THRESHOLDS)
    scores = matches.average_precision().mean(1), matches.recall().mean(2)
    return time.perf_counter() - start, scores
