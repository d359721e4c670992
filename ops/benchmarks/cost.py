"""What a recipe's network costs: parameters, and multiply-adds of one test view, counted on `meta` tensors without weights or data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import configs
from configs.schema import ConfigError, Recipe, RecognitionRecipe

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


def recognition_view(recipe: Recipe) -> View:
    """The view of the recipe's test: its segments and its crop, which are those of training where the test names no others."""
    assert isinstance(recipe, RecognitionRecipe)
    segments = recipe.views.num_segments or recipe.sampling.num_segments
    return View(segments * recipe.sampling.clip_len, recipe.views.crop or recipe.transforms.crop)


# The view of each task whose networks map a clip (B, 3, T, H, W); a task that is not named here has no catalogue yet.
VIEWS: dict[str, Callable[[Recipe], View]] = {"recognition": recognition_view}


def catalogued(tasks: tuple[str, ...] = (), families: tuple[str, ...] = ()) -> list[Recipe]:
    """The recipes of published rows of these tasks and families (of all, without any), by task, family and name.

    Raises ConfigError for a task without a catalogue and for a family without a recipe.
    """
    for task in tasks:
        if task not in VIEWS:
            raise ConfigError("kinograph benchmark", "task", task, ", ".join(VIEWS))
    found = [configs.load(name) for task in VIEWS if task in (tasks or VIEWS) for name in configs.names(task)]
    recipes = [recipe for recipe in found if recipe.dataset != "figures"]
    known = sorted({recipe.family for recipe in recipes})
    for family in families:
        if family not in known:
            raise ConfigError("kinograph benchmark", "family", family, ", ".join(known))
    return sorted((recipe for recipe in recipes if recipe.family in (families or known)), key=lambda one: (one.task, one.family, one.name))


def cost_of(recipe: Recipe) -> Cost:
    """Count the recipe's network at its test view. Recipes that differ in data alone are counted once."""
    return _cost(recipe.task, recipe.family, recipe.num_classes, _text(recipe.model), view_of(recipe))


def view_of(recipe: Recipe) -> View:
    """What the recipe's network sees at once in its test."""
    return VIEWS[recipe.task](recipe)


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
    return Cost(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() / 2e9)


@cache
def _network(task: str, family: str, num_classes: int, model: str) -> nn.Module:
    import torch

    import models

    with torch.device("meta"):
        module = models.family(task, family)
        network: nn.Module = module.build(module.Config(num_classes=num_classes, **json.loads(model)))
    return network.eval().requires_grad_(False).to("meta")
