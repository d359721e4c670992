"""Acc^p of 1,000 videos of 20 frames against the evaluator of the challenge, measured in the same
run.

`KINOGRAPH_TPS_EVALUATOR` names a folder with a checkout of xiadingZ/Kinetics-TPS-evaluation;
without it the test skips.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.tasks.parsing.columns import ParsingMetric, TrueHumans
from ops.tasks.parsing.metric import parsing_scores
from reference import load_module

pytestmark = pytest.mark.bench
VIDEOS, FRAMES, PARTS, STATES = 1000, 20, 10, 74


@pytest.fixture(scope="module")
def original() -> Any:
    folder = os.environ.get("KINOGRAPH_TPS_EVALUATOR")
    if not folder or not Path(folder, "eval_detection.py").is_file():
        pytest.skip("no evaluator to compare with (set KINOGRAPH_TPS_EVALUATOR)")
    return load_module(Path(folder, "eval_detection.py"), "tps_evaluator")


def world(proposals: int) -> tuple[TrueHumans, list[dict[str, Any]], dict[str, str]]:
    """One to four people a frame, nine of ten of their parts annotated, found within some pixels,
    states mostly right.
    """
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, VIDEOS * FRAMES)
    total = int(counts.sum())
    low, size = rng.integers(0, 800, (total, 2)), rng.integers(100, 300, (total, 2))
    boxes = np.concatenate([low, low + size], 1).astype(float)
    corner = low[:, None] + rng.integers(0, 60, (total, PARTS, 2))
    parts = np.concatenate([corner, corner + 40], 2).astype(float)
    seen, states = rng.random((total, PARTS)) < 0.9, rng.integers(0, STATES, (total, PARTS))
    videos = [f"v{number}" for number in range(VIDEOS)]
    actions = [f"a{number % 24}" for number in range(VIDEOS)]
    place = np.repeat(np.arange(VIDEOS), FRAMES)
    truth = TrueHumans(
        videos,
        actions,
        place,
        np.tile(np.arange(FRAMES) * 5, VIDEOS),
        counts,
        boxes,
        seen,
        parts,
        states,
    )
    rows, starts = [], np.cumsum(counts) - counts
    for frame in range(len(counts)):
        own = np.arange(starts[frame], starts[frame] + counts[frame])
        own = rng.permutation(own[rng.random(len(own)) < 0.95])
        right = rng.random((len(own), PARTS, proposals)) < 0.6
        named = np.where(right, states[own][..., None], rng.integers(0, STATES, right.shape))
        rows.append(
            {
                "video_id": videos[place[frame]],
                "frame": int(truth.frame[frame]),
                "scores": np.ones(len(own)),
                "states": named,
                "boxes": boxes[own] + rng.integers(-20, 20, (len(own), 4)),
                "parts": parts[own] + rng.integers(-12, 12, (len(own), PARTS, 4)),
                "state_scores": np.ones(named.shape),
            }
        )
    return (
        truth,
        rows,
        {
            video: action if rng.random() < 0.95 else "other"
            for video, action in zip(videos, actions, strict=True)
        },
    )


@pytest.mark.parametrize("proposals", [1, 5])
def test_it_is_ten_times_as_fast_and_says_the_same(original: Any, proposals: int) -> None:
    from ops.tasks.parsing.predictions_file import predictions, truth_files

    truth, rows, said = world(proposals)
    names = [f"part{part}" for part in range(PARTS)], [f"state_{state}" for state in range(STATES)]
    true_parts, true_actions = truth_files(truth, *names)
    found = predictions(truth.videos, rows, *names)

    began = time.process_time()
    theirs = original.cal_task_acc(true_actions, true_parts, said, found)
    area = original.cal_area(theirs)
    official = time.process_time() - began

    def arrays() -> Any:
        metric = ParsingMetric(truth, names[0], said)
        metric.update(rows)
        return metric.scores()

    times = {}
    for way, work in (
        ("arrays", arrays),
        ("files", lambda: parsing_scores(true_parts, true_actions, found, said)),
    ):
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            scores = work()
            area_of_ours = scores.acc_p
            best = min(best, time.process_time() - began)
        times[way] = best
        assert area_of_ours == pytest.approx(area, abs=1e-9)
        assert max(abs(scores.psc[video] - score) for video, score, _ in theirs) < 1e-9
    ratios = {way: official / seconds for way, seconds in times.items()}
    print(
        f"\n{proposals} proposals: official {official:.2f} s; "
        + ", ".join(f"{way} {times[way]:.3f} s ({ratios[way]:.1f}x)" for way in times)
    )
    assert ratios["arrays"] >= 10
    assert ratios["files"] >= 2  # most of the time goes into reading nested dictionaries
