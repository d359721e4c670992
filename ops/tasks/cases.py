"""Networks to look at and inputs of the right shapes: a recipe's own, or a family's miniature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import configs
import models

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 2
STEPS = 64  # of features
USUAL = (3, 8, 64, 48)  # of a miniature's clip that says nothing else


class Case(NamedTuple):
    """A network and its inputs, float32 on the CPU."""

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]


def of_recipe(recipe: configs.Recipe) -> Case:
    """A recipe's network at the size of one of its views. Raises ModelConfigError."""
    size: tuple[int, ...]
    if recipe.task == "recognition":
        sampling, views = recipe.sampling, recipe.views  # type: ignore[attr-defined]
        side = views.crop or recipe.transforms.crop  # type: ignore[attr-defined]
        size = (3, (views.num_segments or sampling.num_segments) * sampling.clip_len, side, side)
    elif recipe.task == "detection":
        pictures, sampling = recipe.pictures, recipe.sampling  # type: ignore[attr-defined]
        side = -(-pictures.short_side // pictures.pad_to) * pictures.pad_to
        size = (3, sampling.clip_len, side, side)
    elif recipe.task == "parsing":
        side = recipe.images.test_short_side  # type: ignore[attr-defined]
        size = (3, side, side)
    else:
        size = (_width(recipe.model["input_dims"]), STEPS)
    return Case(recipe.name, lambda: models.build(recipe), inputs(recipe.task, size))


def of_miniature(task: str, family: str) -> Case:
    """A family's miniature. Raises ModelConfigError for an unknown one."""
    module = models.family(task, family)
    config = module.TINY
    usual = {"localization": (_width(getattr(config, "input_dims", 0)), STEPS), "parsing": (3, 64, 96)}
    clip = (3, getattr(config, "num_segments", USUAL[1]), *USUAL[2:])
    return Case(f"{task}/{family}", lambda: module.build(config), inputs(task, getattr(module, "TINY_INPUT", usual.get(task, clip))))


def _width(input_dims: int | Sequence[int]) -> int:
    return input_dims if isinstance(input_dims, int) else sum(input_dims)


def inputs(task: str, size: tuple[int, ...]) -> tuple[Tensor, ...]:
    """What the task's networks are called with, drawn at random; `size` without the batch. The last sample is smaller where one may be."""
    import torch

    generator = torch.Generator().manual_seed(0)
    values = torch.randn((BATCH, *size), generator=generator)
    if task == "localization":
        valid = torch.ones(BATCH, size[1], dtype=torch.bool)
        valid[-1, size[1] * 3 // 4 :] = False
        return values * valid[:, None], valid
    if task == "parsing":
        return values.contiguous(memory_format=torch.channels_last), torch.zeros(BATCH, *size[1:], dtype=torch.bool)
    if task == "detection":
        return values, torch.tensor([size[2:]] * BATCH)
    return (values,)
