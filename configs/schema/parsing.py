"""Recipes of part-level action parsing: persons of a frame, their body parts, and what each part
does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.schema.recipes import Recipe
from configs.schema.strict import Place, Positive, Strict


class FrameChoice(Strict):
    """Which frames of a video are seen."""

    per_video: int = Field(
        4,
        ge=1,
        description=(
            "training: frames of a video in an epoch, one drawn from each of so many equal shares"
        ),
    )
    every: int = Field(5, ge=1, description="evaluation: every n-th frame, from the first on")


class Images(Strict):
    """Pixels of a frame on their way to the model, as DETR has them. Sizes are pixels; mean and std
    on the 0..255 scale, RGB.

    In training a frame is resized to a shorter side drawn from `short_sides`; with probability
    `crop` it is resized to one of `crop_short_sides` first, and a window of random sides within
    `crop_sides` is cut from it. Tests take `test_short_side`. The longer side is never above
    `long_side`, so that a huge frame costs what any other does.
    """

    short_sides: tuple[int, ...] = Field(min_length=1)
    test_short_side: int = Field(ge=16)
    long_side: int = Field(ge=16)
    flip: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability of a left-right flip; it exchanges left and right parts",
    )
    flip_parts: dict[str, str] = Field(
        default_factory=dict, description="parts that a flip exchanges; empty: left_x with right_x"
    )
    crop: float = Field(0.5, ge=0, le=1)
    crop_short_sides: tuple[int, ...] = Field((400, 500, 600), min_length=1)
    crop_sides: tuple[int, int] = (384, 600)
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)

    @model_validator(mode="after")
    def _sizes(self) -> Images:
        if min(*self.short_sides, *self.crop_short_sides, *self.crop_sides) < 16:
            raise ValueError("short_sides, crop_short_sides and crop_sides are pixels, 16 or more")
        if self.crop_sides[0] > self.crop_sides[1]:
            raise ValueError(f"crop_sides {list(self.crop_sides)} do not ascend")
        return self


class Answers(Strict):
    """What is answered for a frame; the challenge allows 10 persons and 5 proposals a part."""

    persons: int = Field(10, ge=1, le=10)
    proposals: int = Field(
        1, ge=1, le=5, description="states a part; each further one lowers what a right one scores"
    )
    min_score: float = Field(0.0, ge=0, le=1, description="persons below are left out")
    known_pairs: bool = Field(
        True, description="a part has only states that it has in the training data"
    )


class ParsingRecipe(Recipe):
    """Persons, parts and part states of frames; the video's action comes from a recognition model,
    or from a file.

    `num_classes` counts part states. The names of parts and states are those of the dataset's
    tables unless they are pinned here; a state of the tables that is not pinned is reported, and is
    right for no answer.
    """

    task: Literal["parsing"]
    frames: FrameChoice = FrameChoice()
    images: Images
    answers: Answers = Answers()
    parts: tuple[str, ...] | None = Field(
        None,
        description="names of the parts in the model's order; null: those of the tables, sorted",
    )
    states: tuple[str, ...] | None = Field(
        None,
        description="names of the states in the model's order; null: those of the tables, sorted",
    )
    loss_weights: dict[str, float] = Field(
        default_factory=dict, description="of the family's criterion; those left out are its own"
    )
    action_model: str | None = Field(
        None,
        description=(
            "registry URI or run folder of the recognition model that names a video's action"
        ),
    )
    action_file: Place | None = Field(
        None,
        description=(
            "json {video: action} that names it instead; {storage} stands for the storage root"
        ),
    )

    @model_validator(mode="after")
    def _one_source_of_actions(self) -> ParsingRecipe:
        if (self.action_model is None) == (self.action_file is None):
            raise ValueError(
                "action_model and action_file: give one of them; the true actions are not the"
                " parser's to use"
            )
        if self.states is not None and len(self.states) != self.num_classes:
            raise ValueError(
                f"states names {len(self.states)}, num_classes says {self.num_classes}"
            )
        return self
