"""What recognition networks are called with: sizes of a recipe's view, of a miniature's, and the
inputs around them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from configs.schema import RecognitionRecipe


def view_size(recipe: RecognitionRecipe) -> tuple[int, ...]:
    """(3, T, S, S) of one view."""
    sampling, views = recipe.sampling, recipe.views
    side = views.crop or recipe.transforms.crop
    assert side is not None
    return 3, (views.num_segments or sampling.num_segments) * sampling.clip_len, side, side


def miniature_size(config: Any) -> tuple[int, ...]:
    """(3, T, H, W) of a miniature that says nothing else."""
    return 3, getattr(config, "num_segments", 8), 64, 48


def inputs(values: Tensor) -> tuple[Tensor, ...]:
    """The clips (B, 3, T, H, W)."""
    return (values,)
