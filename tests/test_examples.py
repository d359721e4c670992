"""The examples, run as a user runs them: copied into a folder of their own, one after another, on
clips that are made here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import small_world

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"


@pytest.mark.slow  # a run, and a Ray in it
@pytest.mark.timeout(1200)
def test_own_clips_become_a_model_features_and_answers(tmp_path: Path) -> None:
    data, work, features = tmp_path / "my data", tmp_path / "work", tmp_path / "features"
    for number in range(16):
        small_world.write_video(
            data / "videos" / ("left", "right")[number % 2] / f"clip {number}.mp4",
            seed=number,
            num_frames=24,
        )
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KINOGRAPH_", "MLFLOW_", "DAGSTER_", "RAY_"))
    }

    def run(script: str, *arguments: Path) -> str:
        command = [sys.executable, script, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{script}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    out = run("train_own_clips.py", data, work)
    assert "Done in" in out and "own-recognition v1 @champion" in out, out[-3000:]
    assert "Nothing to do" in run("train_own_clips.py", data, work)
    lines = [
        line for line in run("extract_features.py", work, features).splitlines() if ".npy: " in line
    ]
    # Windows of 16 frames in 24, every 4 frames.
    assert len(lines) == 16 and all("3 steps of 128 channels, float32" in line for line in lines), (
        lines
    )
    video = data / "videos" / "left" / "clip 0.mp4"
    (answer,) = run("predict.py", work, video).splitlines()
    name, *best = answer.split("\t")
    assert name == str(video) and {label.split()[0] for label in best} == {"left", "right"}, answer
    assert sum(float(label.split()[1]) for label in best) == pytest.approx(1, abs=0.002)


def test_every_example_is_told_of_and_run() -> None:
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    run = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"]({path.name})" in told and f'"{path.name}"' in run, path.name
