"""A trained model in MLflow: weights, recipe and labels beside a few lines of code ("models from
code"), never a pickle.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature

from configs.schema import ConfigError, Provenance, Recipe
from ops.files.storage import local_copy, sha256_of
from ops.tracking.artifacts import (
    WEIGHTS_SHA256,
    DamagedModelError,
    MissingModelError,
    downloaded,
    file_tags,
)
from ops.tracking.connect import client
from ops.tracking.mlflow_run import RunLogger
from ops.training.run_folder import PROVENANCE, RECIPE, RECORD, VOCABULARY, WEIGHTS
from ops.training.task import Vocabulary, wing

__all__ = [
    "PROVENANCE",
    "RECIPE",
    "RECORD",
    "VOCABULARY",
    "WEIGHTS",
    "WEIGHTS_SHA256",
    "DamagedModelError",
    "LoggedModel",
    "MissingModelError",
    "downloaded",
    "log_model",
    "model_folder",
    "save_model",
]
# by MLflow
ARTIFACTS = {
    WEIGHTS: "weights",
    RECIPE: "recipe",
    VOCABULARY: "vocabulary",
    PROVENANCE: "provenance",
    RECORD: "record",
}
# given, or MLflow loads the model in a new process to guess them
REQUIREMENTS = [f"kinograph=={version('kinograph')}"]


@dataclass(frozen=True)
class LoggedModel:
    """A model in MLflow. `uri` is what `mlflow.pyfunc.load_model` takes."""

    model_id: str
    created: bool  # by this call

    @property
    def uri(self) -> str:
        return f"models:/{self.model_id}"


class Beside(NamedTuple):
    """What goes with the weights of a model: `record` is the training's, by which a lost run folder
    can be made again.
    """

    vocabulary: Vocabulary
    provenance: Provenance | None = None
    record: bytes | None = None


def log_model(
    run: RunLogger,
    recipe: Recipe,
    weights_uri: str,
    vocabulary: Vocabulary,
    provenance: Provenance | None = None,
    record: bytes | None = None,
) -> LoggedModel:
    """Log the weights as the run's model, once: the same weights give the same logged model again.

    The task's module `ops.tasks.<task>.mlflow_model` is the code that MLflow copies beside them; it
    gives the signature and a tiny input example.

    Args:
        run: whose model it is.
        recipe: of the training; its name is the model's.
        weights_uri: a safetensors file.
        vocabulary: the names that its classes stand for, as its task gives them.
        provenance: what else the answers depend on; None leaves it out.
        record: content of the training's record; None leaves it out.

    Raises:
        ConfigError: the number of labels is not the recipe's.
    """
    if (found := len(vocabulary["labels"])) != recipe.num_classes:
        raise ConfigError(
            f"recipe {recipe.name}",
            "num_classes",
            recipe.num_classes,
            f"{found}, the number of labels",
        )
    with local_copy(weights_uri) as weights:
        return _existing(run, sha256_of(weights)) or _upload(
            run, recipe, weights, Beside(vocabulary, provenance, record)
        )


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


def _upload(run: RunLogger, recipe: Recipe, weights: Path, beside: Beside) -> LoggedModel:
    """What `mlflow.pyfunc.log_model` does, without its global state, its trial prediction and its
    guessing of requirements.
    """
    store = client(run.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        files = _files(Path(scratch), recipe, weights, beside)
        tags = {
            "kinograph.recipe": recipe.name,
            "kinograph.recipe_key": recipe.key(),
            **file_tags(files),
        }
        made = store.create_logged_model(
            run.experiment_id,
            name=recipe.name,
            source_run_id=run.run_id,
            tags=tags,
            model_type=recipe.task,
        )
        status: Literal["READY", "FAILED"] = "FAILED"
        try:
            model = Model(
                artifact_path=made.artifact_location,
                model_uuid=made.model_id,
                run_id=run.run_id,
                model_id=made.model_id,
            )
            folder = Path(scratch, "model")
            _save(folder, recipe, files, model)
            store.log_model_artifacts(made.model_id, str(folder))
            store.log_outputs(run.run_id, [LoggedModelOutput(made.model_id, step=0)])
            status = "READY"
        finally:
            store.finalize_logged_model(made.model_id, status)
    return LoggedModel(made.model_id, created=True)


def _files(scratch: Path, recipe: Recipe, weights: Path, beside: Beside) -> Path:
    """A folder with the model's files, under the names that readers expect."""
    folder = scratch / "files"
    folder.mkdir()
    shutil.copyfile(weights, folder / WEIGHTS)
    (folder / RECIPE).write_text(recipe.model_dump_json(indent=1), encoding="utf-8")
    (folder / VOCABULARY).write_text(
        json.dumps(beside.vocabulary, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    if beside.provenance is not None:
        own = {name: sha256_of(folder / name) for name in (WEIGHTS, RECIPE, VOCABULARY)}
        text = beside.provenance.model_copy(update={"files": own}).model_dump_json(indent=1)
        (folder / PROVENANCE).write_text(text, encoding="utf-8")
    if beside.record is not None:
        (folder / RECORD).write_bytes(beside.record)
    return folder


@contextmanager
def model_folder(
    recipe: Recipe,
    weights: Path,
    vocabulary: Vocabulary,
    provenance: Provenance | None = None,
    record: bytes | None = None,
) -> Iterator[Path]:
    """The whole folder of a model as MLflow keeps it, made again from its files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        _save(
            folder,
            recipe,
            _files(Path(scratch), recipe, weights, Beside(vocabulary, provenance, record)),
            Model(),
        )
        yield folder


def save_model(
    folder: Path, recipe: Recipe, weights: Path, vocabulary: Vocabulary, code: Path
) -> None:
    """Write an MLflow model folder that no run has: the files below artifacts/, and the code."""
    with tempfile.TemporaryDirectory() as scratch:
        _save(
            folder,
            recipe,
            _files(Path(scratch), recipe, weights, Beside(vocabulary)),
            Model(),
            code,
        )


def _save(
    folder: Path, recipe: Recipe, files: Path, model: Model, code: Path | None = None
) -> None:
    """Write the MLflow model folder: the files of the folder `files` below artifacts/, and the
    task's code.
    """
    signature, example = _interface(recipe)
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(code or wing(recipe.task, "mlflow_model").__file__),
        artifacts={ARTIFACTS[path.name]: str(path) for path in sorted(files.iterdir())},
        signature=signature,
        input_example=example,
        pip_requirements=REQUIREMENTS,
        mlflow_model=model,
    )


def _interface(recipe: Recipe) -> tuple[ModelSignature, np.ndarray]:
    return wing(recipe.task, "mlflow_model").interface(recipe)
