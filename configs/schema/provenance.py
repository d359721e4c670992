"""Where a trained model comes from: all beside weights, recipe and vocabulary that an answer of it
depends on.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from configs.schema.datasets import Frames
from configs.schema.features import Extraction, Features
from configs.schema.strict import Strict


class Pinned(Strict):
    """A recognition model that another model builds on: by its weights, wherever its registry's
    alias points later.
    """

    model: str = Field(
        description=(
            "registry URI with a version, or a run folder; with a checkpoint the name of a recipe"
        )
    )
    sha256: str | None = Field(
        None, description="of the file of weights; null: not known when it was pinned"
    )


class Extractor(Pinned):
    """The model behind one stream of features. A published checkpoint has its recipe here: the
    catalogue may change.
    """

    extraction: Extraction
    recipe: dict[str, Any] | None = None


class Provenance(Strict):
    """Travels with weights, recipe and vocabulary; `frames` are how the videos were stored that
    training saw.
    """

    dataset: str
    frames: Frames
    features: Features | None = None
    extractors: tuple[Extractor, ...] = Field(
        (), description="one for each stream of extracted features, in their order"
    )
    action_model: Pinned | None = Field(
        None, description="of part-level parsing: the model that names a video's action"
    )
    code: dict[str, str] = Field(
        default_factory=dict, description="versions of the code by stage, and its revision"
    )
    files: dict[str, str] = Field(
        default_factory=dict, description="sha256 of the files beside it, by name"
    )
