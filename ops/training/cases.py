"""Networks to look at and inputs of the right shapes: a recipe's own, or a family's miniature."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import configs
import models
from ops.training.task import wing

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 2


class Case(NamedTuple):
    """A network and its inputs, float32 on the CPU."""

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]


def of_recipe(recipe: configs.Recipe) -> Case:
    """A recipe's network at the size of one of its views. Raises ModelConfigError."""
    size = wing(recipe.task, "case").view_size(recipe)
    return Case(recipe.name, lambda: models.build(recipe), _inputs(recipe.task, size))


def of_miniature(task: str, family: str) -> Case:
    """A family's miniature. Raises ModelConfigError for an unknown one."""
    module = models.family(task, family)
    size = getattr(module, "TINY_INPUT", None) or wing(task, "case").miniature_size(module.TINY)
    return Case(f"{task}/{family}", lambda: module.build(module.TINY), _inputs(task, size))


def _inputs(task: str, size: tuple[int, ...]) -> tuple[Tensor, ...]:
    """What the task's networks are called with, drawn at random; `size` without the batch."""
    import torch

    values = torch.randn((BATCH, *size), generator=torch.Generator().manual_seed(0))
    return wing(task, "case").inputs(values)
