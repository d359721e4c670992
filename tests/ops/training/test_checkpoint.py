"""Checkpoints: all of the state comes back, and a damaged file is named with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ops.training.checkpoint import FILE, CheckpointError, State, load_state, save_state

ADVICE = "delete the folder .* to continue from the checkpoint before it"


def state() -> State:
    weights = {"a": torch.randn(40, 50), "n": torch.tensor(3)}
    optimizer = {
        "state": {0: {"momentum_buffer": torch.randn(40, 50)}},
        "param_groups": [{"lr": 0.1, "params": [0], "multiplier": 1.0}],
    }
    return State(
        epoch=4,
        step=120,
        recipe_key="key",
        model=weights,
        optimizer=optimizer,
        average={"steps": 9, "weights": {"a": torch.zeros(40, 50), "n": torch.tensor(3)}},
        task={"normaliser": torch.tensor(12.5)},
        best=0.75,
        run_id="abc",
        history=[{"epoch": 1.0, "loss": 2.0}],
        step_in_epoch=7,
        tallies=[{"samples": 56, "totals": {"loss": 1.5}, "seconds": 3.0, "waited": 0.5}] * 2,
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    saved = state()
    assert save_state(saved, tmp_path / "new" / "folder").name == FILE
    found = load_state(tmp_path / "new" / "folder", "key")
    assert (found.epoch, found.step, found.best, found.run_id, found.history) == (
        4,
        120,
        0.75,
        "abc",
        [{"epoch": 1.0, "loss": 2.0}],
    )
    assert (found.step_in_epoch, found.tallies) == (7, saved.tallies)
    assert torch.equal(found.model["a"], saved.model["a"]) and found.model["n"] == 3
    assert torch.equal(
        found.optimizer["state"][0]["momentum_buffer"],
        saved.optimizer["state"][0]["momentum_buffer"],
    )
    assert found.task["normaliser"] == 12.5
    assert torch.equal(found.weights["a"], torch.zeros(40, 50))  # the average is what is published
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [FILE]


def damage_cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_empty(data: bytes) -> bytes:
    return b""


def damage_text(data: bytes) -> bytes:
    return b"not a checkpoint at all"


def damage_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_text, damage_bit])
def test_damage_is_told_with_file_and_advice(tmp_path: Path, damage) -> None:
    save_state(state(), tmp_path)
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    with pytest.raises(CheckpointError, match=rf"store/run/{FILE}: damaged.*{ADVICE}"):
        load_state(tmp_path, "key", shown_as="store/run")


def test_a_missing_or_foreign_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{FILE}: no such file; {ADVICE}"):
        load_state(tmp_path, "key")
    save_state(state(), tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to another recipe \(key, expected other\)"):
        load_state(tmp_path, "other")


def test_objects_other_than_data_are_never_run(tmp_path: Path) -> None:
    torch.save({"format": 1, "model": Path("/")}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(tmp_path, "key")
