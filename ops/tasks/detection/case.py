"""What detection networks are called with: sizes of a recipe's view, of a miniature's, and the
inputs around them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from configs.schema import DetectionRecipe


def view_size(recipe: DetectionRecipe) -> tuple[int, ...]:
    """(3, T, S, S) of one key frame's clip, padded as batches are."""
    side = -(-recipe.pictures.short_side // recipe.pictures.pad_to) * recipe.pictures.pad_to
    return 3, recipe.sampling.clip_len, side, side


def miniature_size(config: Any) -> tuple[int, ...]:
    """(3, T, H, W) of a miniature that says nothing else."""
    return 3, getattr(config, "num_segments", 8), 64, 48


def inputs(values: Tensor) -> tuple[Tensor, ...]:
    """The clips (B, 3, T, H, W), and the heights and widths of their frames (B, 2)."""
    return values, torch.tensor([values.shape[3:]] * len(values))
