"""Recipes of spatio-temporal action detection: persons on key frames, and what each of them
does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from configs.schema.recipes import Recipe
from configs.schema.sampling import Sampling
from configs.schema.strict import Positive, Strict


class KeyFrames(Strict):
    """Which frames are key frames. Datasets with timestamps have their own; datasets of tubes have
    a box on every frame.

    Frames of annotated videos without a box are key frames without a person: of tubes every frame,
    of timestamps every second of `seconds`. Excluded key frames never count.
    """

    every: int = Field(
        1,
        ge=1,
        description="tubes: train on every n-th frame of a video; evaluation sees all of them",
    )
    seconds: tuple[int, int] | None = Field(
        None, description="first and last second of a video that is annotated (AVA: 902, 1798)"
    )
    empty_in_training: bool = Field(False, description="train on key frames without a person too")
    empty_in_evaluation: bool = Field(
        False,
        description="found persons on key frames without a person are mistakes; tubes: always",
    )

    @field_validator("seconds")
    @classmethod
    def _forwards(cls, seconds: tuple[int, int] | None) -> tuple[int, int] | None:
        if seconds is not None and not 0 <= seconds[0] <= seconds[1]:
            raise ValueError(f"seconds {list(seconds)} do not run forwards from 0")
        return seconds


class Pictures(Strict):
    """Pixels of a clip on their way to the model. The whole frame is seen; mean and std are on the
    0..255 scale, RGB.
    """

    short_side: int = Field(ge=16)
    long_side: int | None = Field(
        None, ge=16, description="the longer side is at most this; the shorter one shrinks with it"
    )
    zoom: float = Field(
        1.0,
        gt=0,
        le=1,
        description=(
            "training: a window of at least this share of both sides is cut out; 1 cuts nothing"
        ),
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip in training")
    flip_labels: dict[str, str] = Field(
        default_factory=dict, description="labels that a flip exchanges; empty takes the dataset's"
    )
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)
    pad_to: int = Field(
        32,
        ge=1,
        description="a batch is padded, right and below, to a multiple of this many pixels",
    )
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (114.75, 114.75, 114.75)
    std: tuple[Positive, Positive, Positive] = (57.375, 57.375, 57.375)


class LossWeights(Strict):
    """Weights of the matching cost (against those of the boxes) and of the loss terms."""

    person: float = Field(2.0, ge=0)
    distance: float = Field(5.0, ge=0, description="L1 of boxes as shares of the picture")
    overlap: float = Field(2.0, ge=0, description="generalised IoU")
    action: float = Field(12.0, ge=0, description="loss only: actions are not matched")
    no_person: float = Field(
        0.1, gt=0, description="class weight of unmatched queries in the person loss"
    )


class Detecting(Strict):
    """From the model's output to persons and scores."""

    person_threshold: float = Field(
        0.7,
        ge=0,
        le=1,
        description="a query at least this sure is a person; without any, all queries count",
    )
    times_person: bool = Field(
        False, description="scores are the action's probability times the person's"
    )
    cap: int | None = Field(
        None,
        ge=1,
        description="rows per key frame in frame-mAP (50 in the 2018 challenge); null is no limit",
    )


class Tubes(Strict):
    """Linking of frame detections into tubes, for video-mAP."""

    overlap: float = Field(0.2, ge=0, le=1)
    per_frame: int = Field(10, ge=1)
    patience: int = Field(5, ge=0, description="frames without a box after which a tube ends")
    min_length: int = Field(15, ge=1)
    nms: float = Field(0.3, ge=0, le=1)


class DetectionRecipe(Recipe):
    """Persons on key frames and their actions."""

    task: Literal["detection"]
    sampling: Sampling
    key_frames: KeyFrames = KeyFrames()
    pictures: Pictures
    weights: LossWeights = LossWeights()
    detecting: Detecting = Detecting()
    start_boxes: Literal["whole", "typical"] = Field(
        "whole",
        description=(
            "where proposals start: all at the whole picture (published), or spread over typical"
            " boxes of the data"
        ),
    )
    tubes: Tubes | None = Field(
        None, description="datasets of tubes: frame-mAP in pixels and video-mAP as they report them"
    )
    scored: str | None = Field(
        None,
        description="pbtxt of the actions that count, below the dataset's root (60 of AVA's 80)",
    )
    groups: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description=(
            "groups of labels with a figure of their own; empty: AVA's three, where the ids are"
            " AVA's"
        ),
    )

    @model_validator(mode="after")
    def _around_a_key_frame(self) -> DetectionRecipe:
        if self.sampling.kind != "key_frame":
            raise ValueError(f"sampling.kind '{self.sampling.kind}': detection needs key_frame")
        if self.training.label_smoothing:
            raise ValueError("training.label_smoothing has no effect on detection: leave it out")
        return self
