"""Recipes of recognition."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.schema.recipes import Recipe
from configs.schema.sampling import Images, Mixing, Sampling, Transforms, Views


class RecognitionRecipe(Recipe):
    """One label per clip."""

    task: Literal["recognition"]
    sampling: Sampling
    transforms: Transforms
    views: Views = Views()
    mixing: Mixing | None = None
    images: Images | None = None
    fusion: tuple[str, ...] = Field(
        (),
        description="recipes, trained apart, whose scores are averaged under the views of this one",
    )
