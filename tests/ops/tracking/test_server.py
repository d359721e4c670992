"""The same over HTTP, against a real MLflow server that keeps its own artifacts; and with artifacts
on S3.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save, save_file

import models
from configs import Settings
from configs.schema import RecognitionRecipe
from mlflow_server import mlflow_server
from ops.files.storage import list_files, read_bytes, write_bytes
from ops.tracking.mlflow_run import find_run, open_run
from ops.tracking.model import downloaded, log_model
from ops.tracking.registry import CHAMPION, ScoredModel, promote, register
from registered import find_version

pytestmark = pytest.mark.slow  # a server takes many seconds to come up
VOCABULARY = {"labels": [f"label {index}" for index in range(10)]}


@pytest.fixture
def served(tmp_path: Path, settings: Settings) -> Iterator[Settings]:
    """Settings of a user whose MLflow is a server on loopback."""
    with mlflow_server(settings.tracking_uri, tmp_path) as url:
        yield settings.model_copy(update={"tracking_uri": url})


def test_run_model_registry_and_gate_over_http(
    served: Settings, recipe: RecognitionRecipe, tmp_path: Path, capfd
) -> None:
    small = recipe.model_copy(update={"model": {"depth": 10, "width": 8}})
    weights = tmp_path / "model.safetensors"
    save_file(models.build(small).state_dict(), weights)
    versions = []
    for key in ("key1", "key2"):
        run = open_run(small, key, served, coverage={"usable": 1.0})
        with run.system_metrics(0.5):
            start = time.monotonic()
            for epoch in range(5):
                run.log_epoch(epoch, {"train/loss": 1.0 / (epoch + 1), "val/top1": epoch / 5})
            took = (time.monotonic() - start) / 5
            time.sleep(1)
        run.log_text("hello", "notes/a.txt")
        start = time.monotonic()
        model = log_model(run, small, str(weights), VOCABULARY)
        logged = time.monotonic() - start
        versions.append(register(run, model, small, key, str(weights), served))
        run.finish()
    assert capfd.readouterr() == ("", "")
    print(f"\nan epoch's metrics {took * 1000:.0f} ms, a model {logged:.2f} s")
    again = open_run(small, "key1", served)
    assert again == find_run(served, "key1") and again.curves()["val/top1"][-1] == (4, 0.8)
    assert (tmp_path / "served").is_dir() and not Path(served.artifacts).exists()
    first = promote(
        small.gate,
        versions[0],
        ScoredModel({"top1": 0.6}, "set1", 16),
        lambda version: pytest.fail(version.uri),
        served,
    )
    second = promote(
        small.gate,
        versions[1],
        ScoredModel({"top1": 0.55}, "set1", 16),
        lambda version: pytest.fail(version.uri),
        served,
    )
    assert first.promoted and not second.promoted
    champion = find_version("figures-recognition", CHAMPION, served)
    assert champion is not None and champion.version == 1
    code = (
        "import sys, mlflow; m = mlflow.pyfunc.load_model('models:/figures-recognition@champion');"
        " print(m.predict(m.input_example).shape)"
    )
    env = {
        **os.environ,
        "MLFLOW_TRACKING_URI": served.tracking_uri,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=env,
        timeout=120,
    )
    assert done.stdout.strip() == "(1, 10)", done.stderr


def test_artifacts_on_s3(settings: Settings, recipe: RecognitionRecipe, s3) -> None:
    remote = settings.model_copy(update={"storage": f"{s3.bucket}/root"})
    small = recipe.model_copy(update={"model": {"depth": 10, "width": 8}})
    weights = f"{s3.bucket}/root/runs/a/model.safetensors"
    write_bytes(weights, save(models.build(small).state_dict()))
    run = open_run(small, "key1", remote)
    model = log_model(run, small, weights, VOCABULARY)
    keys = [info.path_below for info in list_files(s3.bucket)]
    assert any(
        key.startswith("root/mlflow/recognition/") and key.endswith("recipe.yaml") for key in keys
    )
    with downloaded(model.uri, remote) as folder:
        assert (folder / "model.safetensors").read_bytes() == read_bytes(weights)
