"""A trained model in MLflow: weights, recipe and labels beside a few lines of code ("models from code"), never a pickle."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import mlflow.pyfunc
import numpy as np
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature

from configs.schema import ConfigError, Recipe
from configs.settings import Settings
from ops.store.files import local_copy, sha256_of
from ops.tasks.protocol import Vocabulary
from ops.tracking.connect import client
from ops.tracking.mlflow_run import RunLogger

WEIGHTS, RECIPE, VOCABULARY = "model.safetensors", "recipe.json", "vocabulary.json"  # below artifacts/ of the model's folder
WEIGHTS_SHA256 = "kinograph.weights_sha256"
REQUIREMENTS = [f"kinograph=={version('kinograph')}"]  # given, or MLflow loads the model in a new process to guess them


class MissingModelError(LookupError):
    """No model under this URI."""


@dataclass(frozen=True)
class LoggedModel:
    """A model in MLflow. `uri` is what `mlflow.pyfunc.load_model` takes."""

    model_id: str
    created: bool  # by this call

    @property
    def uri(self) -> str:
        return f"models:/{self.model_id}"


def log_model(run: RunLogger, recipe: Recipe, weights_uri: str, vocabulary: Vocabulary) -> LoggedModel:
    """Log the weights as the run's model, once: the same weights give the same logged model again.

    `weights_uri` is a safetensors file, `vocabulary` the names that its classes stand for, as its task gives them. The task's module
    `ops.tracking.<task>_model` is the code that MLflow copies beside them; it gives the signature and a tiny input example.
    Raises ConfigError when the number of labels is not the recipe's.
    """
    if (found := len(vocabulary["labels"])) != recipe.num_classes:
        raise ConfigError(f"recipe {recipe.name}", "num_classes", recipe.num_classes, f"{found}, the number of labels")
    code = Path(__file__).with_name(f"{recipe.task}_model.py")
    with local_copy(weights_uri) as weights:
        sha256 = sha256_of(weights)
        return _existing(run, sha256) or _upload(run, recipe, weights, sha256, vocabulary, code)


def _existing(run: RunLogger, sha256: str) -> LoggedModel | None:
    store = client(run.tracking_uri)
    outputs = run.run().outputs
    for output in outputs.model_outputs if outputs else []:
        try:
            model = store.get_logged_model(output.model_id)
        except MlflowException:  # deleted in the UI
            continue
        if model.tags.get(WEIGHTS_SHA256) == sha256 and model.status == "READY":
            return LoggedModel(model.model_id, created=False)
    return None


def _upload(run: RunLogger, recipe: Recipe, weights: Path, sha256: str, vocabulary: Vocabulary, code: Path) -> LoggedModel:
    """What `mlflow.pyfunc.log_model` does, without its global state, its trial prediction and its guessing of requirements."""
    store = client(run.tracking_uri)
    tags = {"kinograph.recipe": recipe.name, "kinograph.recipe_key": recipe.key(), WEIGHTS_SHA256: sha256}
    made = store.create_logged_model(run.experiment_id, name=recipe.name, source_run_id=run.run_id, tags=tags, model_type=recipe.task)
    status: Literal["READY", "FAILED"] = "FAILED"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "model")
            model = Model(artifact_path=made.artifact_location, model_uuid=made.model_id, run_id=run.run_id, model_id=made.model_id)
            save_model(folder, recipe, weights, vocabulary, code, model)
            store.log_model_artifacts(made.model_id, str(folder))
        store.log_outputs(run.run_id, [LoggedModelOutput(made.model_id, step=0)])
        status = "READY"
    finally:
        store.finalize_logged_model(made.model_id, status)
    return LoggedModel(made.model_id, created=True)


def save_model(folder: Path, recipe: Recipe, weights: Path, vocabulary: Vocabulary, code: Path, model: Model | None = None) -> None:
    """Write the MLflow model folder: model.safetensors, recipe.json and vocabulary.json below artifacts/, and the code."""
    signature, example = _interface(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        weights_file, recipe_file, vocabulary_file = (Path(scratch, name) for name in (WEIGHTS, RECIPE, VOCABULARY))
        shutil.copyfile(weights, weights_file)  # under the name that readers expect
        recipe_file.write_text(recipe.model_dump_json(indent=1))
        vocabulary_file.write_text(json.dumps(vocabulary, ensure_ascii=False, indent=1))
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(code),
            artifacts={"weights": str(weights_file), "recipe": str(recipe_file), "vocabulary": str(vocabulary_file)},
            signature=signature,
            input_example=example,
            pip_requirements=REQUIREMENTS,
            mlflow_model=model or Model(),
        )


def _interface(recipe: Recipe) -> tuple[ModelSignature, np.ndarray]:
    return importlib.import_module(f"ops.tracking.{recipe.task}_model").interface(recipe)


@contextmanager
def downloaded(uri: str, settings: Settings) -> Iterator[Path]:
    """A local folder with the files WEIGHTS, RECIPE and VOCABULARY of a models:/ URI: name@alias, name/version or a model's id.

    Goes by the given settings, whatever MLflow's global tracking store is. Raises MissingModelError, TrackingError.
    """
    store = client(settings.tracking_uri)
    name = uri.removeprefix("models:/")
    try:
        if "@" in name:
            name, _, alias = name.partition("@")
            location = store.get_model_version_download_uri(name, store.get_model_version_by_alias(name, alias).version)
        elif "/" in name:
            location = store.get_model_version_download_uri(*name.split("/", 1))
        else:
            location = store.get_logged_model(name).artifact_location
    except MlflowException as error:
        raise MissingModelError(error.message) from error
    with tempfile.TemporaryDirectory(prefix="kinograph-") as scratch:
        try:
            folder = download_artifacts(f"{location.rstrip('/')}/artifacts", dst_path=scratch, tracking_uri=settings.tracking_uri)
        except (MlflowException, OSError) as error:
            raise MissingModelError(f"its files at {location} cannot be read: {error}") from error
        yield Path(folder)
