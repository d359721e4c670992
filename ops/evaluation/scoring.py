"""What the gate asks of an evaluation: a version's score, by what it was trained with, on the data as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import configs
from configs.loading import validated
from configs.schema import RECIPES, ConfigError, Dataset, DetectionRecipe, Provenance, Recipe
from configs.schema.localization import LocalizationRecipe
from configs.settings import Settings
from ops.store.files import StorageError, read_json, write_bytes
from ops.store.layout import Layout
from ops.tasks.protocol import Vocabulary, build
from ops.tracking.artifacts import MissingModelError, downloaded
from ops.tracking.registry import WAY_ON, GateError, Registered, Scored
from ops.training.runs import PROVENANCE, RECIPE, RECORD, VOCABULARY, WEIGHTS, damage, read_as, read_words, size_of

# What a recipe says of the question, not of the answer: both models are asked the challenger's.
QUESTION = {
    "recognition": (),
    "localization": ("tiou", "recall"),
    "detection": ("key_frames", "groups", "scored", "tubes"),
    "parsing": ("frames", "parts", "states", "action_model", "action_file"),
}
FEWEST = {"recognition": 2}  # labels in common: of one alone every answer is right


class Numbers(Protocol):
    """The part of an evaluation that the gate reads."""

    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def eval_set(self) -> str: ...
    @property
    def num_samples(self) -> int: ...
    @property
    def noun(self) -> str: ...


@dataclass(frozen=True)
class Challenger:
    """Who the champion is compared with."""

    recipe: Recipe
    weights: str


@dataclass(frozen=True)
class Opened:
    """A registered version with what it was trained with; `provenance` None for versions of before."""

    recipe: Recipe
    weights: str
    vocabulary: Vocabulary
    provenance: Provenance | None


def scored(evaluation: Numbers) -> Scored:
    """An evaluation as the gate takes it."""
    return Scored(evaluation.metrics, evaluation.eval_set, evaluation.num_samples, evaluation.noun)


def read_recipe(uri: str) -> Recipe:
    """The recipe of a recipe.json. Raises ConfigError for a task that is not known here and for fields that it does not have,
    StorageError for a file that is cut short too, FileNotFoundError."""
    value = read_json(uri)
    task = value.get("task") if isinstance(value, dict) else None
    kind = next((kind for name, kind in RECIPES.items() if name == task), None)
    if kind is None:
        raise ConfigError(uri, "task", task, ", ".join(RECIPES))
    return validated(kind, value, uri)


def score_version(
    version: Registered, layout: Layout, settings: Settings, dataset: Dataset | None = None, challenger: Challenger | None = None
) -> Scored:
    """Score a registered version with its own recipe, vocabulary and features; what was kept of the same set is reused.

    Its classes are matched with the labels of today by name. Where labels came, went or were renamed, both models are scored on those that
    both know, on nothing else and with nothing else to answer: `Scored.beside` is the challenger's score then, and `Scored.note` says so.
    `dataset` is the challenger's, so that both are asked about the same clips. Weights that no longer lie where they were trained are
    taken from the registry. Raises GateError for a version that cannot be compared, and says what to do.
    """
    own = open_version(version, layout, settings)
    asked = challenger or Challenger(own.recipe, own.weights)
    try:
        return _compared(version, own, asked, dataset or configs.dataset(asked.recipe.dataset), layout, settings)
    except GateError:
        raise
    except ValueError as error:  # its recipe, labels, features or weights do not go with the data or the code of now
        raise _refused(version, str(error)) from error


def _refused(version: Registered, why: str) -> GateError:
    return GateError(f"{version.name} version {version.version} cannot be compared: {why}; {WAY_ON}")


def _compared(
    version: Registered, own: Opened, asked: Challenger, dataset: Dataset, layout: Layout, settings: Settings
) -> Scored:  # fmt: skip
    recipe = _as_asked(own.recipe, asked.recipe)
    if recipe.task != asked.recipe.task:
        raise _refused(version, f"it is a {recipe.task} model, and this one is of {asked.recipe.task}")
    if own.provenance is not None and own.provenance.frames.short_side != dataset.frames.short_side:
        before, now = (_side(one) for one in (own.provenance.frames.short_side, dataset.frames.short_side))
        raise _refused(version, f"it was trained on frames {before}, and those of dataset {dataset.name} are {now}")
    today = build(asked.recipe, layout, dataset).vocabulary()
    common, note = _in_common(version, own, recipe.task, own.vocabulary["labels"], today["labels"])
    evaluate, more = import_module(f"ops.evaluation.{recipe.task}").evaluate, _own_features(own, recipe, dataset, layout, settings)
    found = evaluate(recipe, own.weights, layout, dataset=dataset, spoken=own.vocabulary, common=common, **more)
    if common is None:
        return scored(found)
    beside = evaluate(asked.recipe, asked.weights, layout, dataset=dataset, common=common)
    return Scored(found.metrics, found.eval_set, found.num_samples, found.noun, beside=scored(beside), note=note)


def _side(short_side: int | None) -> str:
    return "as they come" if short_side is None else f"with a short side of {short_side}"


def _as_asked(own: Recipe, challenger: Recipe) -> Recipe:
    """The version's recipe with the challenger's question: which data, label space, thresholds, frames."""
    if own.task != challenger.task:
        return own
    question = {name: getattr(challenger, name) for name in ("dataset", "target", *QUESTION[own.task])}
    if isinstance(own, DetectionRecipe) and isinstance(challenger, DetectionRecipe):
        question["detecting"] = own.detecting.model_copy(update={"cap": challenger.detecting.cap})
    return own.model_copy(update=question)


def _in_common(
    version: Registered, own: Opened, task: str, known: Sequence[str], today: Sequence[str]
) -> tuple[list[str] | None, str]:  # fmt: skip
    """The labels that both models know, in today's order, and how they differ; None where they are the same in whatever order."""
    if set(known) == set(today):
        return None, ""
    common = [label for label in today if label in known]
    new, gone = [label for label in today if label not in known], [label for label in known if label not in today]
    differ = "; ".join(f"{word}: {_listed(labels)}" for word, labels in (("new", new), ("gone", gone)) if labels)
    if len(common) < FEWEST.get(task, 1):
        raise _refused(version, f"it knows {len(common)} of the {len(today)} labels of today ({differ})")
    return common, f"the {len(common)} labels that both know ({differ})"


def _listed(labels: Sequence[str], most: int = 5) -> str:
    return ", ".join(labels[:most]) + ("" if len(labels) <= most else f" and {len(labels) - most} more")


def _own_features(own: Opened, recipe: Recipe, dataset: Dataset, layout: Layout, settings: Settings) -> dict[str, Any]:
    """The features that a localization model was trained on, made by the very models that made them then, where today's are others."""
    if not isinstance(recipe, LocalizationRecipe):
        return {}
    from ops.evaluation.localizer import extractors_of, features_config
    from ops.features.materialize import make_pinned

    config = features_config(recipe, own.provenance)
    extractors = extractors_of(recipe, own.vocabulary, own.provenance)
    return {"features": make_pinned(config, extractors, dataset, layout, settings)}


def open_version(version: Registered, layout: Layout, settings: Settings) -> Opened:
    """What the version was trained with: from its run folder, which is mended from the registry where it is not whole.

    Raises GateError where the files are gone from both, and for one that is damaged, StorageError for a store that fails.
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
        if all(size_of(f"{known}/{name}") is not None for name in (WEIGHTS, RECIPE, VOCABULARY)) and damage(known) in ([], NO_RECORD):
            return known
    try:
        bring_back(version.uri, folder, settings)
    except MissingModelError as error:
        why = f"its weights are neither at {version.weights} nor in MLflow ({error})"
        raise GateError(f"{version.name} version {version.version}: {why}; {WAY_ON}") from error
    return folder


NO_RECORD = [f"{RECORD} is missing"]  # a folder that holds a model and was not trained here


def bring_back(uri: str, folder: str, settings: Settings) -> None:
    """Write a run folder again from the model in MLflow, the record last. Raises MissingModelError, DamagedModelError, StorageError."""
    with downloaded(uri, settings) as copy:
        for name in (WEIGHTS, RECIPE, VOCABULARY, PROVENANCE, RECORD):
            if (copy / name).is_file():
                write_bytes(f"{folder}/{name}", (copy / name).read_bytes())
