"""Mistakes reach the person as one clear message and exit status 1."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

import configs
from configs.loading import _recipe_sources
from ops.annotations.read import last_report
from ops.files.storage import list_files, write_bytes
from ops.flow.data_checks import CheckError, annotation_tables, require_sound
from ops.flow.recipe import train_recipe
from ops.store.layout import Layout
from ops.store.reader import FrameReader, read_manifest
from ops.store.tables import read_table
from ops.training.checkpoint import CheckpointError
from ops.training.run_folder import plan_run
from pipelines.line import run_checks, run_stage, stages
from pipelines.main import _status, main
from pipelines.summary import print_summary

NAME = "kinetics400"


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]):
    """refused(*arguments) -> stderr of a command that must fail, without the line that leads to the
    UI.
    """

    def run(*arguments: str) -> str:
        capfd.readouterr()
        assert main([*arguments]) == 1
        err = capfd.readouterr().err
        assert "Traceback" not in err and "Stack Trace" not in err and 'File "' not in err, err
        lines = [
            line for line in err.splitlines() if "the whole story is in the Dagster UI" not in line
        ]
        assert lines and lines[0].startswith("kinograph: "), err
        return "\n".join(lines)

    return run


def small_run() -> tuple[str, ...]:
    return ("run", "--dataset", NAME, "--recipe", "small_tsn")


def stored(home) -> list[str]:
    """What lies in the storage beside Dagster's own."""
    return [
        info.path_below
        for info in list_files(home.storage)
        if not info.path_below.startswith(("dagster/", "mlflow.db"))
    ]


def test_an_unknown_recipe_or_dataset(home, small, refused) -> None:
    said = refused("run", "--dataset", NAME, "--recipe", "no_such")
    assert "found 'no_such'" in said and "small_tsn" in said
    said = refused("run", "--dataset", "nowhere", "--recipe", "small_tsn")
    assert "found 'nowhere'; allowed: " in said and "figures, " in said and "kinetics400" in said
    assert "trains on dataset kinetics400" in refused("run", "--recipe", "small_tsn")
    assert stored(home) == []


def test_an_unknown_key_and_a_wrong_value_in_a_yaml(home, small, refused, recipe_file) -> None:
    path = recipe_file(home.configs, "small_tsn", optimizer={"lr": -1})
    said = refused(*small_run())
    assert str(path) in said and "field 'optimizer.lr': found -1" in said
    recipe_file(home.configs, "small_tsn", optimizer={"lr": 0.1, "learning_rate": 0.1})
    said = refused(*small_run())
    assert str(path) in said and "optimizer.learning_rate" in said and "lr_multipliers" in said
    assert stored(home) == []


def test_a_folder_that_is_missing_or_empty(home, small, refused, tmp_path: Path) -> None:
    small.write_yaml(root=str(tmp_path / "elsewhere"))
    said = refused(*small_run())
    assert (
        f"the videos folder {tmp_path}/elsewhere/videos does not exist" in said and "'root'" in said
    )
    (tmp_path / "elsewhere" / "videos").mkdir(parents=True)
    assert f"the videos folder {tmp_path}/elsewhere/videos is empty" in refused(*small_run())
    assert stored(home) == []


def test_no_file_is_a_video(home, small, refused, tmp_path: Path) -> None:
    folder = tmp_path / "texts" / "videos"
    folder.mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_text("text")
    for path in small.root.iterdir():  # the annotations are good
        if path.is_file():
            (tmp_path / "texts" / path.name).write_bytes(path.read_bytes())
    small.write_yaml(root=str(tmp_path / "texts"))
    said = refused(*small_run())
    assert "none of the 2 files below" in said and "2 x not a video file" in said


def test_bad_annotation_rows_are_kept_as_problems_and_a_bad_file_stops_the_run(
    home, small, refused, recipe_file
) -> None:
    small.write_rows("left,nobody,0,0.5,train", "sideways,train1,0,0.5,train")
    small.write_yaml(allow=["missing_video", "unknown_label"])
    with dg.DagsterInstance.ephemeral() as instance:
        for stage in stages(NAME, []):
            run_stage(stage, instance)
    assert last_report(NAME, home.layout).num_problems == 2
    problems = {
        row["field"]: row for row in read_table(home.layout.problem_table(NAME)).to_pylist()
    }
    assert problems["label"]["found"] == "sideways" and problems["label"]["line"] == 16
    assert [row["found"] for row in problems.values() if row["field"] != "label"] == ["nobody"]

    recipe_file(home.configs, "small_tsn", num_classes=1)
    said = refused(*small_run())
    assert (
        "label 'right' has id 1; allowed: 0..0 (num_classes of recipe 'small_tsn')" in said
        and "clips.csv:3" in said
    )
    assert not any(path.startswith("runs/") for path in stored(home))

    (small.root / "clips.csv").write_text("who,what\n1,2\n")
    said = refused(*small_run())
    assert f"{small.root}/clips.csv: header: found 'who,what'" in said
    (small.root / "clips.csv").unlink()
    assert f"{small.root}/clips.csv" in refused(*small_run())


def test_a_bug_in_an_asset_shows_its_stack(
    home, small, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("nobody reckoned with it")

    monkeypatch.setattr("ops.media.ingest.ingest", broken)
    assert main([*small_run()]) == 1
    err = capfd.readouterr().err
    assert (
        err.startswith("kinograph: KeyError: 'nobody reckoned with it'")
        and "Stack Trace" in err
        and "in broken" in err
    )


def test_a_store_that_refuses(home, small, refused, s3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_STORAGE", f"{s3.bucket}/prefix")
    s3.refuse = True
    said = refused(*small_run())
    assert "access refused" in said and "check AWS_ACCESS_KEY_ID" in said and s3.bucket in said
    assert "test-secret" not in said and "test-key" not in said


def test_listing(home, small, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert (
        "dataset  figures" in out
        and "recipe   small_tsn" in out
        and len(out.splitlines()) == len(configs.names()) + len(configs.datasets())
    )


def test_a_broken_recipe_or_dataset_does_not_hide_the_others(
    home, small, recipe_file, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file(home.configs, "small_tsn", num_classes="two")
    (home.configs / "datasets" / "odd.yaml").write_text("title: [")
    assert main(["recipes"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == len(configs.names()) + len(configs.datasets())
    assert (
        "recipe   small_tsn                    cannot be read" in said.out
        and "dataset  odd " in said.out
    )
    assert "num_classes" in said.err and "odd.yaml" in said.err and "Traceback" not in said.err


def test_a_file_of_recipes_that_cannot_be_read_does_not_hide_the_others(
    home, small, capsys: pytest.CaptureFixture[str]
) -> None:
    number = len(configs.names()) + len(configs.datasets())
    (home.configs / "recognition" / "cut.yaml").write_text("mine: [")
    _recipe_sources.cache_clear()
    assert main(["recipes"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == number + 1 and "recipe   small_tsn" in said.out
    assert said.err.count("cut.yaml: field '(whole file)'") == 1
    (home.configs / "recognition" / "cut.yaml").write_text("small_tsn: {}")
    _recipe_sources.cache_clear()
    assert main(["recipes"]) == 1
    assert "a second recipe of this name" in capsys.readouterr().err


@pytest.mark.slow  # it mounts a disk, and needs root for that
def test_a_full_disk(
    home, small, refused, write_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk needs root on Linux")
    try:
        monkeypatch.setenv("KINOGRAPH_STORAGE", str(disk))
        # or it is told before anything runs
        monkeypatch.setattr("ops.preflight.places.disk", lambda about: ())
        for index in range(6):
            write_video(small.video(f"train{index}"), seed=index, num_frames=40, size=(120, 160))
        small.write_yaml(frames={"codec": "lossless"})
        said = refused(*small_run())
        assert str(disk) in said and "No space left on device" in said
        rows = read_manifest(Layout(str(disk)), configs.dataset(NAME)).to_pylist()
        for row in rows:  # what the ledger names is whole
            if row["status"] == "ok":
                assert (
                    len(FrameReader(row["array_uri"]).read(range(row["num_frames"])))
                    == row["num_frames"]
                )
        assert not any(info.path_below.endswith(".kinograph-tmp") for info in list_files(str(disk)))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow  # ray and mlflow are imported
def test_a_damaged_checkpoint(home, small) -> None:
    name = "small_tsn"
    with dg.DagsterInstance.ephemeral() as instance:
        for stage in stages(NAME, []):
            run_stage(stage, instance)
    plan = plan_run(configs.load(name), home.layout)
    write_bytes(f"{plan.run_dir}/checkpoint_000001/state.pt", b"half")
    snapshot = {"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_000001"}]}
    write_bytes(f"{plan.run_dir}/checkpoint_manager_snapshot.json", json.dumps(snapshot).encode())
    with pytest.raises(CheckpointError) as told:
        train_recipe(configs.load(name), home.layout, home.settings)
    said = str(told.value)
    assert f"{plan.run_dir}/checkpoint_000001/state.pt: damaged" in said
    assert (
        f"delete the folder {plan.run_dir}/checkpoint_000001" in said
        and len(said.splitlines()) == 1
    )
    assert not [
        path for path in stored(home) if path.endswith(("model.safetensors", "complete.json"))
    ]


def test_a_leak_stops_the_line_before_a_model_is_trained_on_it(home, small, refused, capfd) -> None:
    small.video("val0").write_bytes(small.video("train0").read_bytes())
    said = refused(*small_run())
    assert "no_leak: 1 of 11 contents stand in more than one split: train0, val0" in said
    assert "allow: [no_leak]" in said and not any(path.startswith("runs/") for path in stored(home))

    with pytest.raises(
        CheckError,
        match=r"dataset 'kinetics400': no_leak: .*train0, val0; allowed: .*'allow: \[no_leak\]'",
    ):
        train_recipe(configs.load("small_tsn"), home.layout, home.settings)  # whoever starts it
    assert not any(path.startswith("runs/") for path in stored(home))

    small.write_yaml(allow=["no_leak"])
    require_sound(
        configs.dataset(NAME), home.layout, annotation_tables(configs.dataset(NAME), home.layout)
    )
    with dg.DagsterInstance.ephemeral() as instance:
        run = run_stage(stages(NAME, [])[-1], instance)
        found = {check.name: check for check in run_checks(instance, run, NAME)}
    assert (
        found["no_leak"].allowed
        and not found["no_leak"].failed
        and "allowed by the dataset's YAML" in found["no_leak"].says
    )
    assert found["label_vocabulary"].passed and found["coverage"].passed


def test_too_many_quarantined_videos_stop_the_line_with_the_reasons(home, small, refused) -> None:
    small.write_yaml(max_quarantined=0.0)  # one of the small world's files is broken
    said = refused(*small_run())
    assert (
        "quarantine_floor: 1 of 13 videos are quarantined; 0% are allowed: 1 x not a video file"
        in said
    )
    assert "allow: [quarantine_floor]" in said and not any(
        path.startswith("tables/kinetics400/clips") for path in stored(home)
    )


def test_a_check_that_stops_nothing_is_told_and_counted(home, small, capfd) -> None:
    data = stages(NAME, [])
    with dg.DagsterInstance.ephemeral() as instance:
        for stage in data:
            run_stage(stage, instance)
        rows = read_manifest(home.layout, configs.dataset(NAME)).to_pylist()
        arrays = {row["video_id"]: Path(row["array_uri"]) for row in rows if row["array_uri"]}
        for name, array in arrays.items():  # every array holds another video's frames
            if name.startswith("train"):
                shutil.rmtree(array / "c")
                shutil.copytree(arrays["val0"] / "c", array / "c")
        run_stage(data[0], instance)
        failed = print_summary(
            Console(width=150), instance, home.settings, NAME, [], parent_run=None
        )
    assert [check.name for check in failed] == ["second_decoder"] and _status(failed) == 1
    of_model = replace(failed[0], asset="recognition/evaluation", name="above_chance")
    # it has been trained and judged, as was asked
    assert of_model.failed and _status([of_model]) == 0
    said = capfd.readouterr().out
    assert (
        "Checks: 4 of 5 hold, 1 failed" in said
        and "second_decoder of kinetics400: 8 of a sample of 12 videos differ" in said
    )
