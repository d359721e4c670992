"""The maths: one module per published family, found by convention.

`models.<task>.<family>` exports `Config` (a frozen dataclass of numbers), `TINY` (a miniature) and
`build(config)`. This package needs torch and numpy only.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

from torch import nn

from models.errors import ModelConfigError


class ModelRecipe(Protocol):
    """What `build` reads of a recipe."""

    @property
    def task(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def model(self) -> Mapping[str, Any]: ...


def families(task: str) -> list[str]:
    """Names of a task's families. Raises ModelConfigError for an unknown task."""
    tasks = [
        found.name
        for found in pkgutil.iter_modules(__path__)
        if found.ispkg and found.name not in ("blocks", "keymaps")
    ]
    if task not in tasks:
        raise ModelConfigError("models", "task", task, ", ".join(tasks))
    names = [
        found.name
        for found in pkgutil.iter_modules(importlib.import_module(f"models.{task}").__path__)
    ]
    return sorted(name for name in names if not name.startswith("_"))  # those are parts of a family


def family(task: str, name: str) -> ModuleType:
    """The module of one family.

    Args:
        task: a package of families: `recognition`, `localization`, `detection` or `parsing`.
        name: one of `families(task)`.

    Raises:
        ModelConfigError: an unknown task or family.
    """
    known = families(task)
    if name not in known:
        raise ModelConfigError(f"models.{task}", "family", name, ", ".join(known))
    return importlib.import_module(f"models.{task}.{name}")


def build(recipe: ModelRecipe) -> nn.Module:
    """The recipe's model with fresh weights, drawn from torch's global generator.

    Raises ModelConfigError (a ValueError) for an unknown task, family or field and for values out
    of range.
    """
    module = family(recipe.task, recipe.family)
    where = f"models.{recipe.task}.{recipe.family}"
    if "num_classes" in recipe.model:
        raise ModelConfigError(
            where,
            "num_classes",
            recipe.model["num_classes"],
            "nothing here: it belongs to the recipe itself",
        )
    fields = [
        field.name for field in dataclasses.fields(module.Config) if field.name != "num_classes"
    ]
    for name, value in recipe.model.items():
        if name not in fields:
            raise ModelConfigError(where, name, value, "one of " + ", ".join(fields))
    return module.build(module.Config(num_classes=recipe.num_classes, **recipe.model))
