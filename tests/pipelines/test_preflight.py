"""A recipe's mistakes reach a person before anything is made: `kinograph check RECIPE`, `kinograph
run`, and Dagster's asset check.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from pipelines.line import Stage, run_checks, run_stage
from pipelines.main import main


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe_file) -> Path:
    """An empty home, and a recipe on the sample world that is not made yet, with two mistakes."""
    monkeypatch.chdir(tmp_path)
    for name in ("KINOGRAPH_STORAGE", "MLFLOW_TRACKING_URI", "DAGSTER_HOME", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setenv("COLUMNS", "400")
    recipe_file(tmp_path / "configs", "odd", num_classes=11, gate={"metric": "mean_ap"})
    recipe_file(tmp_path / "configs", "sound")
    return tmp_path


def test_check_tells_all_mistakes_and_makes_nothing(bare, capsys) -> None:
    assert main(["check", "odd"]) == 1
    out = capsys.readouterr().out
    assert "odd  (recognition on figures): 2 mistakes" in out and "tsn.yaml (odd)" in out
    assert (
        "num_classes" in out
        and "10, the labels of figures" in out
        and "mean_class_accuracy, pair_order" in out
    )
    assert main(["check", "sound", "actionformer_tiny_figures"]) == 1
    out = capsys.readouterr().out
    assert (
        "sound  (recognition on figures): nothing stands in the way" in out
        and "promote one first" in out
    )
    assert main(["check", "sound"]) == 0
    assert "kinograph run --dataset figures --recipe sound" in capsys.readouterr().out
    assert not (bare / "home").exists()
    assert main(["check", "no_such"]) == 1
    assert "a recipe (kinograph recipes lists them)" in capsys.readouterr().err


def test_a_line_for_each_dataset_and_each_recipe_once(bare, capsys, monkeypatch) -> None:
    # of what is printed when all is well
    monkeypatch.setattr("ops.preflight.run.preflight", lambda *_, **__: [])
    assert main(["check", "sound", "sound", "tsn_r50_3f_k400_100e"]) == 0
    said = capsys.readouterr().out
    assert (
        "run --dataset figures --recipe sound && kinograph run --dataset kinetics400 --recipe"
        " tsn_r50_3f_k400_100e\n" in said
    )


def test_a_refused_line_sets_no_champion_aside(bare, capsys, monkeypatch) -> None:
    monkeypatch.setattr("ops.flow.recipe.set_aside", lambda *_: pytest.fail("set aside"))
    assert main(["run", "--recipe", "odd", "--reset-champion"]) == 1
    assert "field 'num_classes': found 11" in capsys.readouterr().err


def test_run_refuses_before_the_sample_world_is_made(bare, capsys) -> None:
    assert main(["run", "--recipe", "sound", "--recipe", "odd"]) == 1
    err = capsys.readouterr().err
    assert "field 'num_classes': found 11" in err and "field 'gate.metric': found 'mean_ap'" in err
    assert not (bare / "home" / "datasets").exists() and not (bare / "home" / "frames").exists()


def test_dagster_shows_every_mistake_beside_the_training_that_it_stops(bare) -> None:
    stage = Stage(
        "model odd", ("localization/trained_model",), partition="actionformer_tiny_figures"
    )
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(dg.Failure, match="segments|annotations"):
            run_stage(stage, instance)
        (run,) = instance.get_run_records()
        (check,) = run_checks(instance, run.dagster_run.run_id)
    assert check.name == "preflight" and check.failed and "promote one first" in check.says
