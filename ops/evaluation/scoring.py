"""What the gate asks of an evaluation: a version's score, on the data as it is now."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Protocol

from configs.schema import RECIPES, ConfigError, Dataset, Recipe
from configs.settings import Settings
from ops.store.files import exists, read_bytes, write_bytes
from ops.store.layout import Layout
from ops.tracking.model import RECIPE, WEIGHTS, MissingModelError, downloaded
from ops.tracking.registry import GateError, Registered, Scored


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


def scored(evaluation: Numbers) -> Scored:
    """An evaluation as the gate takes it."""
    return Scored(evaluation.metrics, evaluation.eval_set, evaluation.num_samples, evaluation.noun)


def read_recipe(uri: str) -> Recipe:
    """The recipe of a recipe.json. Raises ConfigError for a task that is not known here, FileNotFoundError."""
    value = json.loads(read_bytes(uri))
    kind = RECIPES.get(value.get("task"))
    if kind is None:
        raise ConfigError(uri, "task", value.get("task"), ", ".join(RECIPES))
    return kind.model_validate(value)


def score_version(version: Registered, layout: Layout, settings: Settings, dataset: Dataset | None = None) -> Scored:
    """Score a registered version with its own recipe; what was kept of the same set is reused.

    `dataset` is the challenger's, so that both are asked about the same clips. Weights that no longer lie where they were
    trained are taken from the registry. Raises GateError when they are gone there too, and what the evaluation raises.
    """
    weights = _weights(version, layout, settings)
    recipe = read_recipe(f"{weights.rpartition('/')[0]}/{RECIPE}")
    return scored(import_module(f"ops.evaluation.{recipe.task}").evaluate(recipe, weights, layout, dataset=dataset))


def _weights(version: Registered, layout: Layout, settings: Settings) -> str:
    folder = layout.run(version.recipe, version.run_key)
    for known in (f"{folder}/{WEIGHTS}", version.weights):
        if exists(known) and exists(f"{known.rpartition('/')[0]}/{RECIPE}"):
            return known
    try:
        with downloaded(version.uri, settings) as copy:
            write_bytes(f"{folder}/{RECIPE}", (copy / RECIPE).read_bytes())
            write_bytes(f"{folder}/{WEIGHTS}", (copy / WEIGHTS).read_bytes())
    except MissingModelError as error:
        raise GateError(f"{version.name} version {version.version}: its weights are neither at {version.weights} nor in MLflow") from error
    return f"{folder}/{WEIGHTS}"
