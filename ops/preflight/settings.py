"""Settings that every recipe has: numbers that can work together, a gate that can be passed, a name
that the registry takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from configs.schema import ConfigError
from ops.preflight.about import About
from ops.training.task import wing

HIGHEST = 1.0  # every metric of every task is a share
NOT_OF_A_MODEL = {"chance"}  # numbers among the metrics that no training moves
LARGEST_SEED = 2**63 - 1


def numbers(about: About) -> Iterator[ConfigError]:
    """No number is infinite or none; the seed is one that generators take."""
    for name, value in _floats(about.recipe.model_dump(exclude={"published"})):
        if not math.isfinite(value):
            yield about.wrong(name, value, "a finite number")
    training, optimizer = about.recipe.training, about.recipe.optimizer
    if not 0 <= training.seed <= LARGEST_SEED:
        yield about.wrong("training.seed", training.seed, f"0 to {LARGEST_SEED}")
    if not 0 <= optimizer.momentum < 1:
        yield about.wrong("optimizer.momentum", optimizer.momentum, "0 up to 1, without 1")


def _floats(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _floats(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from _floats(inner, f"{name}[{place}]")
    elif isinstance(value, float):
        yield name, value


def times(about: About) -> Iterator[ConfigError]:
    """What is to happen in an epoch happens before the last one."""
    training, schedule = about.recipe.training, about.recipe.schedule
    if schedule.warmup_epochs >= training.epochs:
        allowed = (
            f"fewer than the {training.epochs} epochs: the learning rate would never be the"
            " full one"
        )
        yield about.wrong("schedule.warmup_epochs", schedule.warmup_epochs, allowed)
    for milestone in schedule.milestones:
        if not 0 < milestone < training.epochs:
            yield about.wrong(
                "schedule.milestones",
                milestone,
                f"more than 0 and less than the {training.epochs} epochs",
            )
    if schedule.kind == "multistep" and not schedule.milestones:
        yield about.wrong("schedule.milestones", "none", "one or more with kind multistep")
    if schedule.min_lr > about.recipe.optimizer.lr:
        yield about.wrong(
            "schedule.min_lr",
            schedule.min_lr,
            f"at most optimizer.lr, {about.recipe.optimizer.lr:g}",
        )


def gate(about: About) -> Iterator[ConfigError]:
    """The gate reads a metric that the task's evaluation has, at a height that can be reached."""
    asked = about.recipe.gate
    known = set(wing(about.recipe.task, "preflight").metrics(about)) - NOT_OF_A_MODEL
    if known and asked.metric not in known:
        yield about.wrong(
            "gate.metric",
            asked.metric,
            ", ".join(sorted(known, key=lambda name: ("/" in name, name))),
        )
    if not asked.floor < HIGHEST:
        yield about.wrong(
            "gate.floor",
            asked.floor,
            f"below {HIGHEST:g}: the metrics are shares, and the floor has to be exceeded",
        )
    if not abs(asked.min_gain) <= HIGHEST:
        yield about.wrong(
            "gate.min_gain", asked.min_gain, f"at most {HIGHEST:g}: the metrics are shares"
        )


def registered_model(about: About) -> Iterator[ConfigError]:
    """A name that MLflow takes, of models of this task."""
    from ops.tracking.names import unusable_model_name

    name = about.recipe.gate.registered_model
    if reason := unusable_model_name(name):
        yield about.wrong("gate.registered_model", name, reason)
        return
    for other in about.before:
        if other.gate.registered_model == name and other.task != about.recipe.task:
            allowed = (
                f"a name of {about.recipe.task} models: recipe {other.name} of this line registers"
                f" {other.task} models by it"
            )
            yield about.wrong("gate.registered_model", name, allowed)


def champion(about: About) -> Iterator[ConfigError]:
    """The champion that the new version will face is of the same task."""
    from ops.files.storage import StorageError
    from ops.tracking.model import RECIPE
    from ops.tracking.names import unusable_model_name
    from ops.tracking.registry import GateError, opponent
    from ops.training.run_folder import read_recipe

    name = about.recipe.gate.registered_model
    if unusable_model_name(name):
        return
    try:
        found = opponent(name, about.settings)
    except GateError as error:
        yield about.wrong(
            "gate.registered_model", name, f"a model that this project registered ({error})"
        )
        return
    if found is None:
        return
    try:
        other = read_recipe(f"{found.weights.rpartition('/')[0]}/{RECIPE}")
    # gone or moved: the gate takes it from the registry, or says so
    except (FileNotFoundError, ValueError):
        return
    except StorageError as error:
        if error.transient:
            raise
        return  # damaged: the same
    if other.task != about.recipe.task:
        allowed = (
            f"a name of {about.recipe.task} models; the champion of this one, version"
            f" {found.version}, is of task {other.task}"
        )
        yield about.wrong("gate.registered_model", name, allowed)
