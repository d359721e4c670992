"""Exactly one run per training, from any process."""

from __future__ import annotations

import contextlib
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import ViewType

from configs import Settings
from configs.schema import RecognitionRecipe
from ops.tracking import mlflow_run, revision
from ops.tracking.connect import TrackingError, absolute, client, shown
from ops.tracking.mlflow_run import find_run, flatten, metric_name, open_run


def runs(settings: Settings) -> list:
    store = client(settings.tracking_uri)
    ids = [found.experiment_id for found in store.search_experiments()]
    return list(store.search_runs(ids, run_view_type=ViewType.ALL))


def test_flatten_bounds_names_and_lengths() -> None:
    flat = flatten(
        {"a": {"b": 1, "c": {"d(x)": [1, 2]}}, "none": None, "empty": {}, "long": "x" * 900}
    )
    assert flat["a.b"] == "1" and flat["a.c.d_x_"] == "[1, 2]"
    assert flat["none"] == flat["empty"] == "none"
    assert len(flat["long"]) == mlflow_run.MAX_PARAM and flat["long"].endswith("...")
    assert metric_name("pair/sit~stand") == "pair/sit_stand"


def test_a_run_holds_recipe_tags_links_and_coverage(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    logger = open_run(
        recipe,
        "key1",
        settings,
        {"own": 1},
        data_version="d1",
        coverage={"usable": 0.9},
        dagster_run_id="abc",
    )
    run = logger.run()
    assert run.info.status == "RUNNING" and run.info.run_name == recipe.name
    assert run.data.params["optimizer.lr"] == "0.05" and run.data.params["model.depth"] == str(
        recipe.model["depth"]
    )
    assert run.data.metrics["coverage/usable"] == 0.9
    tags = run.data.tags
    assert tags["kinograph.run_key"] == "key1" and tags["kinograph.recipe_key"] == recipe.key()
    assert tags["kinograph.data_version"] == "d1" and tags["own"] == "1"
    assert (
        tags["kinograph.dagster_run"] == "http://127.0.0.1:3000/runs/abc"
        and "/runs/abc" in tags["mlflow.note.content"]
    )
    assert logger.url.endswith(f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    stored = Path(
        settings.storage, "mlflow", "recognition", logger.run_id, "artifacts", "recipe.yaml"
    )
    assert "tsn_tiny_figures" in stored.read_text()


def test_the_same_training_continues_its_run_whatever_its_status(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    first = open_run(recipe, "key1", settings)
    killed = open_run(recipe, "key1", settings)  # nothing closed it: it is RUNNING still
    assert killed.run_id == first.run_id
    first.finish("FAILED")
    resumed = open_run(recipe, "key1", settings)
    assert resumed.run_id == first.run_id and resumed.run().info.status == "RUNNING"
    resumed.finish()
    found = find_run(settings, "key1")
    assert found == first and found is not None and found.run().info.status == "FINISHED"
    assert open_run(recipe, "key2", settings).run_id != first.run_id
    assert find_run(settings, "key3") is None
    assert len(runs(settings)) == 2


def test_a_changed_scale_does_not_stop_a_resumed_run(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    open_run(recipe, "key1", settings)
    wider = recipe.model_copy(update={"scale": recipe.scale.model_copy(update={"num_workers": 2})})
    assert open_run(wider, "key1", settings).run().data.params["scale.num_workers"] == "1"


def test_an_epoch_is_logged_once_and_curves_come_back(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    logger = open_run(recipe, "key1", settings)
    for epoch, loss in enumerate([2.0, 1.0, 0.5]):
        logger.log_epoch(epoch, {"train/loss": loss})
    resumed = pickle.loads(pickle.dumps(logger))
    resumed.log_epoch(2, {"train/loss": 9.0, "val/top1": 0.5})
    resumed.log_epoch(3, {"train/loss": math.nan})
    assert resumed.history("train/loss")[:3] == [(0, 2.0), (1, 1.0), (2, 0.5)]
    assert math.isnan(resumed.history("train/loss")[3][1])
    assert resumed.curves()["val/top1"] == [(2, 0.5)]


def test_another_process_writes_into_the_run_and_says_nothing(
    settings: Settings, recipe: RecognitionRecipe, tmp_path: Path
) -> None:
    logger = open_run(recipe, "key1", settings)
    (tmp_path / "logger").write_bytes(pickle.dumps(logger))
    code = (
        "import pickle, sys; from pathlib import Path\n"
        f"logger = pickle.loads(Path({str(tmp_path / 'logger')!r}).read_bytes())\n"
        "with logger.system_metrics(0.2):\n"
        "    import time; time.sleep(1)\n"
        "    logger.log_epoch(1, {'train/loss': 0.25})\n"
        "logger.log_text('hello', 'notes/a.txt'); logger.finish()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run = logger.run()
    assert run.info.status == "FINISHED" and run.data.metrics["train/loss"] == 0.25
    assert any(key.startswith("system/cpu") for key in run.data.metrics)


def test_a_relative_database_is_the_same_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///a/b.db") == f"sqlite:///{tmp_path}/a/b.db"
    assert absolute("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_a_block_closes_its_run(settings: Settings, recipe: RecognitionRecipe) -> None:
    for error, status in (
        (None, "FINISHED"),
        (ValueError, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
    ):
        logger = open_run(recipe, f"key {status}", settings)
        with contextlib.suppress(ValueError, KeyboardInterrupt), logger.closing():
            if error is not None:
                raise error
        assert logger.run().info.status == status


@pytest.mark.slow  # a new database takes seconds of migrations, here under a second process
def test_two_processes_at_once_make_one_database_and_one_run(tmp_path: Path) -> None:
    code = (
        "from configs import load, settings; from ops.tracking.mlflow_run import open_run\n"
        "print(open_run(load('tsn_tiny_figures'), 'key1', settings()).run_id)"
    )
    env = {"PATH": "/usr/bin:/bin", "KINOGRAPH_HOME": str(tmp_path / "home")}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=env,
        )
        for _ in range(2)
    ]
    results = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], results
    assert results[0] == results[1] and len(results[0][0].split()) == 1 and results[0][1] == ""


def test_a_dead_server_a_folder_and_a_deleted_experiment_are_named(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    with pytest.raises(
        TrackingError, match="no MLflow server answers at http://127.0.0.1:9 "
    ) as error:
        client("http://user:secret@127.0.0.1:9")
    assert (
        "secret" not in str(error.value) and shown("postgresql://u:pw@h/db") == "postgresql://h/db"
    )
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI"):
        client("./mlruns")
    logger = open_run(recipe, "key1", settings)
    assert "sqlite" not in repr(logger)
    client(settings.tracking_uri).delete_experiment(logger.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        open_run(recipe, "key2", settings)


def test_the_revision_is_this_checkouts_or_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    revision.git_revision.cache_clear()
    found = revision.git_revision().removesuffix("-dirty")
    assert len(found) == 40 if (revision.ROOT / ".git").exists() else found == "unknown"
    revision.git_revision.cache_clear()
    monkeypatch.setattr(revision, "ROOT", tmp_path)
    assert revision.git_revision() == "unknown"
    revision.git_revision.cache_clear()
