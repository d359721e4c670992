"""What localization networks are called with: sizes of a recipe's view, of a miniature's, and the
inputs around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from configs.schema.localization import LocalizationRecipe

STEPS = 64  # of features


def view_size(recipe: LocalizationRecipe) -> tuple[int, ...]:
    """(channels, steps) of one video's features."""
    return _width(recipe.model["input_dims"]), STEPS


def miniature_size(config: Any) -> tuple[int, ...]:
    """(channels, steps)."""
    return _width(getattr(config, "input_dims", 0)), STEPS


def _width(input_dims: int | Sequence[int]) -> int:
    return input_dims if isinstance(input_dims, int) else sum(input_dims)


def inputs(values: Tensor) -> tuple[Tensor, ...]:
    """Features (B, C, T), and where they are a video's (B, T): the last one ends after three
    quarters.
    """
    steps = values.shape[2]
    valid = torch.ones(len(values), steps, dtype=torch.bool)
    valid[-1, steps * 3 // 4 :] = False
    return values * valid[:, None], valid
