"""What names a training, and when it counts as finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs import versions
from ops.data.errors import DataError
from ops.store.layout import Layout
from ops.training.run_folder import RECORD, WEIGHTS, TrainResult, finish, finished, plan_run


def test_the_key_follows_recipe_data_and_code(
    world, stored: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan_run(world.recipe(), stored, world.DATASET)
    assert (
        first.run_dir == stored.run("tiny_tsm", first.run_key) and first.coverage["val_usable"] == 9
    )
    assert (
        plan_run(world.recipe(about="other words", scale={"num_workers": 2}), stored, world.DATASET)
        == first
    )
    assert (
        plan_run(world.recipe(training={"epochs": 4}), stored, world.DATASET).run_key
        != first.run_key
    )
    monkeypatch.setattr(versions, "TRAINING", "next")
    assert plan_run(world.recipe(), stored, world.DATASET).run_key != first.run_key


def test_a_plan_refuses_what_cannot_be_trained(world, stored: Layout) -> None:
    with pytest.raises(DataError, match="num_classes of recipe"):
        plan_run(world.recipe(num_classes=2), stored, world.DATASET)


def test_a_record_counts_with_its_weights_wherever_it_lies(world, tmp_path: Path) -> None:
    run_dir = str(tmp_path / "run")
    result = TrainResult(
        run_dir,
        "key",
        f"{run_dir}/{WEIGHTS}",
        "id",
        "data",
        {"top1": 0.5},
        3,
        1.5,
        None,
        [{"epoch": 1.0}],
    )
    finish(result, world.recipe(), {"labels": ["a", "b"]})
    assert finished(run_dir) is None  # no weights
    (tmp_path / "run" / WEIGHTS).write_bytes(b"x")
    assert finished(run_dir) == result
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["name"] == "tiny_tsm"
    assert json.loads((tmp_path / "run" / "vocabulary.json").read_text()) == {"labels": ["a", "b"]}
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    found = finished(str(moved))
    assert found is not None and found.weights_uri == f"{moved}/{WEIGHTS}"
    (moved / RECORD).unlink()
    assert finished(str(moved)) is None
