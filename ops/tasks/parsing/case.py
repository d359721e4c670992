"""What parsing networks are called with: sizes of a recipe's view, of a miniature's, and the inputs
around them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from configs.schema.parsing import ParsingRecipe


def view_size(recipe: ParsingRecipe) -> tuple[int, ...]:
    """(3, S, S) of one frame."""
    return 3, recipe.images.test_short_side, recipe.images.test_short_side


def miniature_size(config: Any) -> tuple[int, ...]:
    """(3, H, W)."""
    return 3, 64, 96


def inputs(values: Tensor) -> tuple[Tensor, ...]:
    """The frames (B, 3, H, W), and a mask (B, H, W) of what is padding: nothing."""
    mask = torch.zeros(len(values), *values.shape[2:], dtype=torch.bool)
    return values.contiguous(memory_format=torch.channels_last), mask
