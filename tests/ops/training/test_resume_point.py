"""Where a training goes on from, by what its folder holds; no Ray is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.training.checkpoint import FILE, CheckpointError, State, save_state
from ops.training.ray_train import SNAPSHOT, resume_point


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder with two checkpoints and Ray's snapshot of them."""
    names = [f"checkpoint_{epoch:06d}" for epoch in (1, 2)]
    for epoch, name in enumerate(names, 1):
        save_state(
            State(epoch=epoch, step=epoch, recipe_key="key", model={}, optimizer={}),
            tmp_path / name,
        )
    results = [{"checkpoint_dir_name": name, "metrics": {}} for name in names]
    (tmp_path / SNAPSHOT).write_text(json.dumps({"checkpoint_results": results}))
    return tmp_path


def test_nothing_there_is_a_fresh_start(tmp_path: Path) -> None:
    assert resume_point(str(tmp_path / "none"), "key") is None


def test_the_snapshots_newest_is_taken(run_dir: Path) -> None:
    assert resume_point(str(run_dir), "key") == f"{run_dir}/checkpoint_000002"
    assert (run_dir / SNAPSHOT).exists()


def test_a_checkpoint_that_the_snapshot_does_not_name_does_not_count(run_dir: Path) -> None:
    (run_dir / "checkpoint_000003").mkdir()
    (run_dir / "checkpoint_000003" / FILE).write_bytes(b"half an upload")
    assert resume_point(str(run_dir), "key") == f"{run_dir}/checkpoint_000002"


def test_a_damaged_checkpoint_is_told_with_what_to_do(run_dir: Path) -> None:
    path = run_dir / "checkpoint_000002" / FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        CheckpointError,
        match=(
            r"checkpoint_000002/state\.pt: damaged.*delete the folder .*checkpoint_000002 to"
            r" continue"
        ),
    ):
        resume_point(str(run_dir), "key")
    path.unlink()
    with pytest.raises(
        CheckpointError, match=r"checkpoint_000002/state\.pt: no such file; delete the folder"
    ):
        resume_point(str(run_dir), "key")


def test_the_advice_works(run_dir: Path) -> None:
    (run_dir / "checkpoint_000002" / FILE).unlink()
    (run_dir / "checkpoint_000002").rmdir()
    assert resume_point(str(run_dir), "key") == f"{run_dir}/checkpoint_000001"
    assert not (run_dir / SNAPSHOT).exists()  # Ray would refuse it


@pytest.mark.parametrize("text", ["", '{"checkpoint_results": [{"checkpo', "[]", "{}"])
def test_a_snapshot_that_was_cut_short_is_replaced_by_the_newest_readable(
    run_dir: Path, text: str
) -> None:
    (run_dir / SNAPSHOT).write_text(text)
    (run_dir / "checkpoint_000003").mkdir()
    (run_dir / "checkpoint_000003" / FILE).write_bytes(b"half an upload")
    assert resume_point(str(run_dir), "key") == f"{run_dir}/checkpoint_000002"
    assert not (run_dir / SNAPSHOT).exists()


def test_a_checkpoint_within_an_epoch_is_newer_than_the_epoch_before(run_dir: Path) -> None:
    for name in (
        "checkpoint_000002_000000090",
        "checkpoint_000002_000000100",
        "checkpoint_000001_000000800",
    ):
        save_state(
            State(epoch=2, step=1, recipe_key="key", model={}, optimizer={}, step_in_epoch=1),
            run_dir / name,
        )
    (run_dir / "checkpoint_000002_000000110").mkdir()
    (run_dir / "checkpoint_000002_000000110" / FILE).write_bytes(b"half an upload")
    (run_dir / SNAPSHOT).write_text("")
    assert resume_point(str(run_dir), "key") == f"{run_dir}/checkpoint_000002_000000100"
    save_state(
        State(epoch=3, step=1, recipe_key="key", model={}, optimizer={}),
        run_dir / "checkpoint_000003",
    )
    assert resume_point(str(run_dir), "key") == f"{run_dir}/checkpoint_000003"
