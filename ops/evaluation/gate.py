"""What the gate asks of an evaluation: a version's score, by what it was trained with, on the data
as it is now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from configs.schema import Dataset, Provenance, Recipe
from configs.settings import Settings
from ops.evaluation.cache import Evaluation
from ops.evaluation.run import evaluate
from ops.files.storage import StorageError, write_bytes
from ops.store.layout import Layout
from ops.tracking.artifacts import MissingModelError, downloaded
from ops.tracking.registry import WAY_ON, GateError, Registered, ScoredModel
from ops.training.run_folder import (
    PROVENANCE,
    RECIPE,
    RECORD,
    VOCABULARY,
    WEIGHTS,
    damage,
    read_as,
    read_recipe,
    read_words,
    size_of,
)
from ops.training.task import Task, Vocabulary, build, info, wing


@dataclass(frozen=True)
class Challenger:
    """Who the champion is compared with: its task on the data as it is now, and its weights."""

    task: Task
    weights: str
    dataset: Dataset

    @property
    def recipe(self) -> Recipe:
        """What the question is taken from."""
        return self.task.recipe


@dataclass(frozen=True)
class Opened:
    """A registered version with what it was trained with; `provenance` None for versions of
    before.
    """

    recipe: Recipe
    weights: str
    vocabulary: Vocabulary
    provenance: Provenance | None


def gate_input(evaluation: Evaluation) -> ScoredModel:
    """An evaluation as the gate takes it."""
    return ScoredModel(
        evaluation.metrics, evaluation.eval_set, evaluation.num_samples, evaluation.sample_unit
    )


def score_version(
    version: Registered, challenger: Challenger, layout: Layout, settings: Settings
) -> ScoredModel:
    """Score a registered version with its own recipe, vocabulary and features; an evaluation of the
    same set is taken from beside it.

    Its classes are matched with the labels of today by name. Where labels came, went or were
    renamed, both models are scored on those that both know, on nothing else and with nothing else
    to answer: `beside` is the challenger's score then, and `note` says so. Weights that no longer
    lie where they were trained are taken from the registry.

    Args:
        version: the one to be scored.
        challenger: both are asked about its dataset, in its gate's precision.
        layout: of the store that has the data.
        settings: name the registry.

    Raises:
        GateError: the version cannot be compared; says what to do.
    """
    own = open_version(version, layout, settings)
    try:
        return _compared(version, own, challenger, layout, settings)
    except GateError:
        raise
    # its recipe, labels, features or weights do not go with the data or the code of now
    except ValueError as error:
        raise _refused(version, str(error)) from error


def _refused(version: Registered, why: str) -> GateError:
    return GateError(
        f"{version.name} version {version.version} cannot be compared: {why}; {WAY_ON}"
    )


def _compared(
    version: Registered, own: Opened, asked: Challenger, layout: Layout, settings: Settings
) -> ScoredModel:
    recipe, dataset, precision = (
        _as_asked(own.recipe, asked.recipe),
        asked.dataset,
        asked.recipe.gate.precision,
    )
    if recipe.task != asked.recipe.task:
        raise _refused(
            version, f"it is a {recipe.task} model, and this one is of {asked.recipe.task}"
        )
    if own.provenance is not None and own.provenance.frames.short_side != dataset.frames.short_side:
        before, now = (
            _side(one) for one in (own.provenance.frames.short_side, dataset.frames.short_side)
        )
        raise _refused(
            version,
            f"it was trained on frames {before}, and those of dataset {dataset.name} are {now}",
        )
    common, note = _in_common(
        version, own, recipe.task, own.vocabulary["labels"], asked.task.vocabulary()["labels"]
    )
    own_inputs = getattr(wing(recipe.task, "report"), "own_inputs", None)
    inputs = (
        {}
        if own_inputs is None
        else own_inputs(recipe, own.vocabulary, own.provenance, dataset, layout, settings)
    )
    task = build(recipe, layout, dataset, **inputs)
    found = gate_input(
        evaluate(task, own.weights, precision=precision, spoken=own.vocabulary, common=common)
    )
    if common is None:
        return found
    return replace(
        found,
        beside=gate_input(evaluate(asked.task, asked.weights, precision=precision, common=common)),
        note=note,
    )


def _side(short_side: int | None) -> str:
    return "as they come" if short_side is None else f"with a short side of {short_side}"


def _as_asked(own: Recipe, challenger: Recipe) -> Recipe:
    """The version's recipe with the challenger's question (which data, label space, thresholds,
    frames), asked on the same devices.
    """
    if own.task != challenger.task:
        return own
    asked: dict[str, object] = {}
    for field in ("dataset", "target", "scale", *info(own.task).question):
        name, _, inner = field.partition(".")
        value = getattr(challenger, name)
        asked[name] = (
            getattr(own, name).model_copy(update={inner: getattr(value, inner)}) if inner else value
        )
    return own.model_copy(update=asked)


def _in_common(
    version: Registered, own: Opened, task: str, known: Sequence[str], today: Sequence[str]
) -> tuple[list[str] | None, str]:  # fmt: skip
    """The labels that both models know, in today's order, and how they differ; None where they are
    the same in whatever order.
    """
    if set(known) == set(today):
        return None, ""
    common = [label for label in today if label in known]
    new, gone = (
        [label for label in today if label not in known],
        [label for label in known if label not in today],
    )
    differ = "; ".join(
        f"{word}: {_listed(labels)}" for word, labels in (("new", new), ("gone", gone)) if labels
    )
    if len(common) < info(task).fewest_labels:
        raise _refused(
            version, f"it knows {len(common)} of the {len(today)} labels of today ({differ})"
        )
    return common, f"the {len(common)} labels that both know ({differ})"


def _listed(labels: Sequence[str], most: int = 5) -> str:
    return ", ".join(labels[:most]) + (
        "" if len(labels) <= most else f" and {len(labels) - most} more"
    )


def open_version(version: Registered, layout: Layout, settings: Settings) -> Opened:
    """What the version was trained with: from its run folder, which is mended from the registry
    where it is not whole.

    Raises GateError where the files are gone from both, and for one that is damaged, StorageError
    for a store that fails.
    """
    folder = _folder(version, layout, settings)
    try:
        recipe, words = read_recipe(f"{folder}/{RECIPE}"), read_words(f"{folder}/{VOCABULARY}")
        try:
            provenance: Provenance | None = read_as(Provenance, f"{folder}/{PROVENANCE}")
        except FileNotFoundError:
            provenance = None
    except StorageError as error:
        if error.transient:
            raise
        raise _refused(version, str(error)) from error
    except ValueError as error:
        raise _refused(version, str(error)) from error
    return Opened(recipe, f"{folder}/{WEIGHTS}", words, provenance)


def _folder(version: Registered, layout: Layout, settings: Settings) -> str:
    folder = layout.run(version.recipe, version.run_key)
    for known in (folder, version.weights.rpartition("/")[0]):
        if all(
            size_of(f"{known}/{name}") is not None for name in (WEIGHTS, RECIPE, VOCABULARY)
        ) and damage(known) in ([], NO_RECORD):
            return known
    try:
        bring_back(version.uri, folder, settings)
    except MissingModelError as error:
        why = f"its weights are neither at {version.weights} nor in MLflow ({error})"
        raise GateError(f"{version.name} version {version.version}: {why}; {WAY_ON}") from error
    return folder


NO_RECORD = [f"{RECORD} is missing"]  # a folder that holds a model and was not trained here


def bring_back(uri: str, folder: str, settings: Settings) -> None:
    """Write a run folder again from the model in MLflow, the record last.

    Args:
        uri: models:/ URI, as `ops.tracking.artifacts.downloaded` takes it.
        folder: path or URI of the run folder.
        settings: name the tracking store.

    Raises:
        MissingModelError: the model or a file that it needs is gone.
        DamagedModelError: a file is not the one that was logged.
        StorageError: the folder cannot be written.
    """
    with downloaded(uri, settings) as copy:
        for name in (WEIGHTS, RECIPE, VOCABULARY, PROVENANCE, RECORD):
            if (copy / name).is_file():
                write_bytes(f"{folder}/{name}", (copy / name).read_bytes())
