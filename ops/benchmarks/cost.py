"""What a recipe's network costs: parameters, and multiply-adds of one test view, counted on `meta`
tensors without weights or data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import configs
from configs.schema import ConfigError, Recipe
from ops.training.task import info, wing

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class View:
    """One test view that a network sees: T frames of `size` x `size` pixels."""

    num_frames: int
    size: int

    def __str__(self) -> str:
        return f"{self.num_frames} x {self.size}²"


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-adds (in units of 10^9) of one view through the whole network."""

    params: int
    gmacs: float


def catalogued(tasks: tuple[str, ...] = (), families: tuple[str, ...] = ()) -> list[Recipe]:
    """The recipes of published rows, by task, family and name.

    Args:
        tasks: of these; of all, without any.
        families: of these; of all, without any.

    Raises:
        ConfigError: a task has no catalogue, or a family no recipe.
    """
    known = [task for task in configs.TASKS if info(task).catalogued]
    for task in tasks:
        if task not in known:
            raise ConfigError("kinograph benchmark", "task", task, ", ".join(known))
    found = [
        configs.load(name)
        for task in known
        if task in (tasks or known)
        for name in configs.names(task)
    ]
    recipes = [recipe for recipe in found if recipe.dataset != "figures"]
    present = sorted({recipe.family for recipe in recipes})
    for family in families:
        if family not in present:
            raise ConfigError("kinograph benchmark", "family", family, ", ".join(present))
    chosen = [recipe for recipe in recipes if recipe.family in (families or present)]
    return sorted(chosen, key=lambda one: (one.task, one.family, one.name))


def cost_of(recipe: Recipe) -> Cost:
    """Count the recipe's network at its test view. Recipes that differ in data alone are counted
    once.
    """
    return _cost(
        recipe.task, recipe.family, recipe.num_classes, _text(recipe.model), view_of(recipe)
    )


def view_of(recipe: Recipe) -> View:
    """What the recipe's network sees at once in its test."""
    _, num_frames, size, _ = wing(recipe.task, "case").view_size(recipe)
    return View(num_frames, size)


def _text(model: dict[str, Any]) -> str:
    return json.dumps(model, sort_keys=True)


@cache
def _cost(task: str, family: str, num_classes: int, model: str, view: View) -> Cost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = _network(task, family, num_classes, model)
    clip = torch.empty(1, 3, view.num_frames, view.size, view.size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(clip)
    return Cost(
        sum(parameter.numel() for parameter in network.parameters()),
        counter.get_total_flops() / 2e9,
    )


@cache
def _network(task: str, family: str, num_classes: int, model: str) -> nn.Module:
    import torch

    import models

    with torch.device("meta"):
        module = models.family(task, family)
        network: nn.Module = module.build(
            module.Config(num_classes=num_classes, **json.loads(model))
        )
    return network.eval().requires_grad_(False).to("meta")
