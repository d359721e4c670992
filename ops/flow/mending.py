"""What is there of a finished training, and what can be made again from the rest: the run folder
from MLflow, MLflow from the run folder.

Nothing here trains. A folder and a registered version hold the same files, and each knows sizes and
sha256 of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from configs import versions
from configs.schema import Provenance, Recipe
from configs.settings import Settings
from ops.evaluation.gate import bring_back
from ops.files.storage import local_copy, read_bytes, write_bytes
from ops.tracking.artifacts import (
    Located,
    MissingModelError,
    file_tags,
    located,
    pin,
    problems,
    restore,
)
from ops.tracking.connect import NoDatabaseError, client, reader
from ops.tracking.mlflow_run import RunLogger, find_run
from ops.tracking.model import LoggedModel, log_model, model_folder
from ops.tracking.registry import GateError, Registered, registered_run
from ops.tracking.revision import git_revision
from ops.training.run_folder import PROVENANCE, RECORD, VOCABULARY, RunPlan, TrainResult, damage
from ops.training.task import Task, Vocabulary


@dataclass(frozen=True)
class Look:
    """What is wrong, in words: with the run folder, and with what MLflow holds. `copy` is a whole
    model there, by URI.
    """

    folder: list[str] = field(default_factory=list)
    tracked: list[str] = field(default_factory=list)
    copy: str | None = None
    registered: bool = False  # a version of it, whole or not

    @property
    def problems(self) -> list[str]:
        """All of them."""
        return [*self.folder, *self.tracked]


def look(recipe: Recipe, plan: RunPlan, settings: Settings) -> Look:
    """What there is of this training; changes nothing.

    Args:
        recipe: of the training; a model of it that was never registered is no problem.
        plan: names the training and its folder.
        settings: name the registry.

    Raises:
        TrackingError: MLflow does not answer.
        StorageError: a store does not answer.
    """
    folder = [f"{problem} in its run folder" for problem in damage(plan.run_dir)]
    try:
        reader(settings.tracking_uri)
    except NoDatabaseError:
        return Look(folder, ["MLflow has no database"])
    version = _version(recipe, plan.run_key, settings)
    if version is None:
        return Look(folder)
    tracked = [] if find_run(settings, plan.run_key) is not None else ["its MLflow run is gone"]
    try:
        model = located(version.uri, settings)
        wrong = problems(model, settings)
    except MissingModelError as error:
        return Look(
            folder,
            [*tracked, f"version {version.version} of {version.name}: {error}"],
            registered=True,
        )
    whole = version.uri if not wrong else None
    return Look(
        folder,
        [*tracked, *(f"{one} in version {version.version} of {version.name}" for one in wrong)],
        whole,
        True,
    )


def _version(recipe: Recipe, run_key: str, settings: Settings) -> Registered | None:
    try:
        return registered_run(recipe.gate.registered_model, run_key, settings)
    except GateError:  # its other tags were removed; it is registered again
        return None


def mend_folder(recipe: Recipe, plan: RunPlan, settings: Settings) -> bool:
    """Write the run folder again from MLflow where it is not whole, as far as a whole copy is
    there; whether anything was written.
    """
    found = look(recipe, plan, settings)
    if not found.folder or found.copy is None:
        return False
    bring_back(found.copy, plan.run_dir, settings)
    return True


def logged(
    recipe: Recipe, task: Task, result: TrainResult, run: RunLogger, settings: Settings
) -> LoggedModel:
    """The training's model in MLflow, with all that its answers depend on: logged if it was not,
    written again where files are gone.

    Args:
        recipe: of the training.
        task: gives vocabulary and provenance where the run folder has none.
        result: the finished training.
        run: whose model it is.
        settings: name the tracking store.
    """
    words, provenance = _vocabulary(task, result), _provenance(task, result, settings)
    record = read_bytes(f"{result.run_dir}/{RECORD}")
    model = log_model(run, recipe, result.weights_uri, words, provenance, record)
    if model.created:
        return model
    places = [located(model.uri, settings)]
    if (version := _version(recipe, result.run_key, settings)) is not None:
        places.append(located(version.uri, settings))
    broken = [place for place in places if problems(place, settings)]
    if not broken:
        return model
    with (
        local_copy(result.weights_uri) as weights,
        model_folder(recipe, weights, words, provenance, record) as folder,
    ):
        for place in {place.location: place for place in broken}.values():
            restore(place, folder, settings)
        tags = file_tags(folder / "artifacts")
    _retag(tags, model, places, settings)
    return model


def _retag(
    tags: dict[str, str], model: LoggedModel, places: list[Located], settings: Settings
) -> None:
    """Note what the files are now: the weights are the same, the recipe beside them may have
    another text about it.
    """
    store = client(settings.tracking_uri)
    store.set_logged_model_tags(model.model_id, tags)
    for place in places:
        if place.version is not None:
            name, number = place.version.removeprefix("models:/").split("/")
            for key, value in tags.items():
                store.set_model_version_tag(name, number, key, value)


def relog(result: TrainResult, run: RunLogger) -> None:
    """Write the epochs of a finished training into a run that holds none of them."""
    if run.run().data.metrics.keys() & {"epoch", *(name for row in result.history for name in row)}:
        return
    for row in result.history:
        run.log_epoch(
            int(row["epoch"]), {name: value for name, value in row.items() if name != "epoch"}
        )


def _vocabulary(task: Task, result: TrainResult) -> Vocabulary:
    """The words that it was trained with."""
    try:
        return json.loads(read_bytes(f"{result.run_dir}/{VOCABULARY}"))
    except (FileNotFoundError, ValueError):
        return task.vocabulary()


def _provenance(task: Task, result: TrainResult, settings: Settings) -> Provenance:
    """As it stands in the run folder, where it is written when the training ends; the models it
    names are pinned once, and stay so.
    """
    uri = f"{result.run_dir}/{PROVENANCE}"
    try:
        found = Provenance.model_validate_json(read_bytes(uri))
    except (FileNotFoundError, ValueError):
        found = task.provenance()
    if found.code:
        return found
    named = found.action_model
    found = found.model_copy(
        update={
            "code": _code(),
            "action_model": None if named is None else pin(named.model, settings),
        }
    )
    write_bytes(uri, found.model_dump_json(indent=1).encode())
    return found


def _code() -> dict[str, str]:
    stages = ("FRAMES", "FEATURES", "TRAINING", "EVALUATION")
    return {
        "revision": git_revision(),
        **{name.lower(): str(getattr(versions, name)) for name in stages},
    }
