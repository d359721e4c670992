"""Rows past the last stored frame of a video, in each task: said by check and coverage, and no
training or evaluation ends for them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

import clip_world
import configs
import key_frame_world as scenes
import localization_world
import part_world
from configs.schema import Dataset
from ops.data.errors import DataError
from ops.evaluation.run import evaluate
from ops.files.storage import write_bytes
from ops.store.frames import write_frames
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.tables import CLIPS, from_rows, read_table, write_table
from ops.training.loop import fit
from ops.training.task import Task, build

ONCE = {"epochs": 1, "evaluate_every": 1}


def held(layout: Layout, dataset: Dataset, video_id: str, times: list[float]) -> None:
    """Stores a video's frames again, with these times."""
    row = next(
        row for row in read_manifest(layout, dataset).to_pylist() if row["video_id"] == video_id
    )
    frames = np.zeros((row["num_frames"], row["height"], row["width"], 3), np.uint8)
    write_frames(
        row["array_uri"], frames, dataset.frames, {"fps": row["fps"], "timestamps_s": times}
    )


def samples_of(task: Task, layout: Layout, dataset: Dataset, folder: Path) -> int:
    """Check, one epoch, and the evaluation of its weights; of how many samples."""
    task.check()
    done = fit(task, task.recipe.scale)
    assert np.isfinite(done.history[-1]["loss"])
    save_file(done.weights, folder / "model.safetensors")
    return evaluate(task, str(folder / "model.safetensors")).num_samples


def clips(layout: Layout, *places: tuple[float, float]) -> None:
    """More rows of the first video of each split, at these places."""
    clip_world.build_world(layout, 6, 3)
    uri = layout.annotation_table("tiny", "clips")
    rows = read_table(uri).to_pylist()
    for split in ("train", "val"):
        for number, (start_s, end_s) in enumerate(places):
            more = {
                "clip_id": f"more-{split}{number}",
                "start_s": start_s,
                "end_s": end_s,
                "source": f"clips.csv:{90 + number}",
            }
            rows.append({**next(row for row in rows if row["video_id"] == f"{split}/000"), **more})
    write_table(uri, from_rows(rows, CLIPS))


def test_recognition(
    layout: Layout, tmp_path: Path, plain, caplog: pytest.LogCaptureFixture
) -> None:
    clips(layout, (1.0, 9.0), (1.25, 1.5), (30.0, 40.0))
    task = build(clip_world.recipe(training=ONCE), layout, clip_world.DATASET)
    assert samples_of(task, layout, clip_world.DATASET, tmp_path) == 4
    assert (
        "clips.csv:91: clip 'more-val1' is left out: 1.25 s is after the last frame of its video"
        in caplog.text
    )
    coverage = task.coverage()
    assert [coverage[f"train_{name}"] for name in ("annotated", "usable", "beyond_end")] == [
        10,
        7,
        2,
    ]


def test_a_split_whose_clips_all_begin_too_late_is_named(layout: Layout) -> None:
    clips(layout, (30.0, 40.0))
    uri = layout.annotation_table("tiny", "clips")
    write_table(
        uri,
        from_rows(
            [
                row
                for row in read_table(uri).to_pylist()
                if row["split"] == "train" or row["start_s"]
            ],
            CLIPS,
        ),
    )
    task = build(clip_world.recipe(training=ONCE), layout, clip_world.DATASET)
    with pytest.raises(
        DataError,
        match=(
            r"1 annotated clips, none with stored frames \(1 begin after the last frame of their"
            r" video\)"
        ),
    ):
        task.check()


def test_detection(layout: Layout, tmp_path: Path) -> None:
    box = (0.1, 0.1, 0.5, 0.9)
    extra = [
        scenes.box_row(f"{split}/00", split, at, box, 1, 0)
        for split in ("train", "val")
        for at in (3.87, 3.9, 3.99, 4.0, 99.0)
    ]
    scenes.build_world(layout, 4, 2, extra=extra)
    # of variable rate: by the mean of all the last frame is shown until 4 s, by the last ones until
    # 3.88 s
    for split in ("train", "val"):
        held(layout, scenes.DATASET, f"{split}/00", [0.0, *np.linspace(3.0, 3.85, 31)])
    task = build(scenes.recipe(training=ONCE), layout, scenes.DATASET)
    assert samples_of(task, layout, scenes.DATASET, tmp_path) == 7
    assert task.coverage()["train_outside_video"] == task.coverage()["val_outside_video"] == 4


def test_parsing(layout: Layout, tmp_path: Path) -> None:
    part_world.build_people(layout, 4, 2)

    def edit(rows: list[dict]) -> list[dict]:
        first = [
            next(row for row in rows if row["video_id"] == f"{split}/0")
            for split in ("train", "val")
        ]
        far = [
            {**own, "frame": frame, "source": f"x:{frame}"} for own in first for frame in (12, 9999)
        ]
        # not one frame is there
        lost = [
            {**row, "frame": row["frame"] + 50 * (row["video_id"] in ("train/1", "val/1"))}
            for row in rows
        ]
        return lost + far

    part_world.change(layout, edit)
    write_bytes(
        layout.placed("{storage}/actions.json"),
        json.dumps({"val/0": "act_0", "val/1": "act_1"}).encode(),
    )
    task = build(part_world.recipe(training=ONCE), layout, part_world.DATASET)
    assert samples_of(task, layout, part_world.DATASET, tmp_path) > 0
    assert task.coverage()["odd_missing_frame"] == 28


def test_localization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setenv("KINOGRAPH_STORAGE", str(tmp_path / "storage"))
    localization_world.write_configs(tmp_path / "configs")
    path, root = tmp_path / "configs" / "features" / "own.yaml", tmp_path / "storage" / "own"
    path.write_text(f"{path.read_text()}  fps: {localization_world.FPS}\n")
    database = localization_world.write_files(root, 4, 2)
    for name in ("train_00", "val_00"):
        end = database[name]["duration"]
        database[name]["annotations"] += [
            {"label": "kick", "segment": place}
            for place in ([end + 5, end + 8], [end - 0.01, end + 4])
        ]
    for name in ("train_01", "val_01"):
        database[name]["annotations"] = [{"label": "kick", "segment": [500.0, 510.0]}]
    # a file that says no length: nothing is known before the features are there
    for item in database.values():
        del item["duration"], item["fps"]
    localization_world.write_json(root, database)
    layout = Layout(str(tmp_path / "storage"))
    localization_world.bring_in(layout)
    task = build(localization_world.recipe(training=ONCE), layout, configs.dataset("own"))
    assert samples_of(task, layout, configs.dataset("own"), tmp_path) == 2
    assert task.coverage()["left_out"] == 4
