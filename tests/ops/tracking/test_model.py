"""A logged model is weights, recipe, labels and code; it comes back in a process that knows nothing
else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import models
from configs import Settings
from configs.schema import ConfigError, RecognitionRecipe
from ops.data.transforms import fixed_views
from ops.tasks.recognition.mlflow_model import interface
from ops.tracking.connect import client
from ops.tracking.mlflow_run import open_run
from ops.tracking.model import log_model
from ops.tracking.registry import register

VOCABULARY = {"labels": [f"label {index}" for index in range(10)]}
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 8, 60, 80, 3), np.uint8)


@pytest.fixture
def small(recipe: RecognitionRecipe) -> RecognitionRecipe:
    return recipe.model_copy(update={"model": {"depth": 10, "width": 8, "dropout": 0.5}})


@pytest.fixture
def weights(small: RecognitionRecipe, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_file(models.build(small).state_dict(), path)
    return path


def expected(recipe: RecognitionRecipe, weights: Path, frames: np.ndarray) -> np.ndarray:
    """What the torch model says by itself: float32 [N, classes]."""
    network = models.build(recipe)
    network.load_state_dict(load_file(weights))
    views = torch.from_numpy(
        np.concatenate([fixed_views(clip, recipe.transforms, 1) for clip in frames])
    )
    with torch.inference_mode():
        return network.eval()(views).softmax(1).numpy()


def test_the_loaded_model_predicts_what_the_torch_model_does(
    settings: Settings, small: RecognitionRecipe, weights: Path
) -> None:
    run = open_run(small, "key1", settings)
    start = time.process_time()
    model = log_model(run, small, str(weights), VOCABULARY)
    assert time.process_time() - start < 3
    again = log_model(run, small, str(weights), VOCABULARY)
    assert model.created and not again.created and again.model_id == model.model_id
    loaded = mlflow.pyfunc.load_model(
        client(settings.tracking_uri).get_logged_model(model.model_id).artifact_location
    )
    np.testing.assert_allclose(
        loaded.predict(FRAMES), expected(small, weights, FRAMES), rtol=1e-5, atol=1e-6
    )
    assert loaded.predict(loaded.input_example).shape == (1, 10)


@pytest.mark.slow  # a fresh process imports MLflow and torch
def test_a_fresh_process_knows_it_by_its_alias(
    settings: Settings, small: RecognitionRecipe, weights: Path, tmp_path: Path
) -> None:
    run = open_run(small, "key1", settings)
    register(
        run, log_model(run, small, str(weights), VOCABULARY), small, "key1", str(weights), settings
    )
    np.save(tmp_path / "frames.npy", FRAMES)
    code = (
        "import mlflow, numpy as np\n"
        "model = mlflow.pyfunc.load_model('models:/figures-recognition@challenger')\n"
        "np.save('out.npy', model.predict(np.load('frames.npy')))\n"
    )
    env = {
        **os.environ,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=env, timeout=120)
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), expected(small, weights, FRAMES), rtol=1e-5, atol=1e-6
    )


def test_the_model_folder_holds_no_pickle_and_its_labels(
    settings: Settings, small: RecognitionRecipe, weights: Path
) -> None:
    run = open_run(small, "key1", settings)
    model = log_model(run, small, str(weights), VOCABULARY)
    folder = Path(
        client(settings.tracking_uri)
        .get_logged_model(model.model_id)
        .artifact_location.removeprefix("file://")
    )
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "artifacts/model.safetensors",
        "artifacts/recipe.json",
        "artifacts/vocabulary.json",
        "mlflow_model.py",
    } <= files
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".pth", ".pickle"))]
    assert json.loads((folder / "artifacts/vocabulary.json").read_text()) == VOCABULARY
    assert (folder / "requirements.txt").read_text().splitlines()[-1].startswith("kinograph==")
    assert sum(path.stat().st_size for path in folder.rglob("*.json")) < 200_000


def test_other_weights_are_another_model_and_a_wrong_vocabulary_is_refused(
    settings: Settings, small: RecognitionRecipe, weights: Path, tmp_path: Path
) -> None:
    run = open_run(small, "key1", settings)
    first = log_model(run, small, str(weights), VOCABULARY)
    other = tmp_path / "other" / "model.safetensors"
    other.parent.mkdir()
    save_file(models.build(small).state_dict(), other)
    assert log_model(run, small, str(other), VOCABULARY).model_id != first.model_id
    with pytest.raises(ConfigError, match="num_classes"):
        log_model(run, small, str(weights), {"labels": VOCABULARY["labels"][:9]})


def test_the_interface_takes_all_temporal_views(small: RecognitionRecipe) -> None:
    views = small.views.model_copy(update={"num_clips": 2})
    signature, example = interface(small.model_copy(update={"views": views}))
    assert signature.inputs.inputs[0].shape == (-1, 16, -1, -1, 3) and example.shape == (
        1,
        16,
        8,
        8,
        3,
    )
    assert signature.outputs.inputs[0].shape == (-1, 10)
