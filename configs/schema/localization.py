"""Recipes of temporal localization: which actions happen in an untrimmed video, and from when to
when.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from configs.schema.recipes import Recipe
from configs.schema.strict import Strict


class Steps(Strict):
    """The features of a video on their way to the model.

    In training a window of at most the model's `max_length` steps is cut out: of a longer video a
    random one, of a shorter one a share of it drawn from `crop_ratio`. Segments count as far as the
    window, widened by half a feature's window, holds `keep_share` of them.
    """

    crop_ratio: tuple[float, float] | None = Field(
        None, description="bounds of the share of a short video; null: all of it"
    )
    keep_share: float = Field(
        0.5, gt=0, le=1, description="a segment of which the window holds less is left out"
    )
    tries: int = Field(200, ge=1, description="windows to draw until one holds a segment")
    resample: int | None = Field(
        None,
        ge=1,
        description="every video is stretched or squeezed to this many steps, in testing too",
    )

    @field_validator("crop_ratio")
    @classmethod
    def _shares(cls, ratio: tuple[float, float] | None) -> tuple[float, float] | None:
        if ratio is not None and not 0 < ratio[0] <= ratio[1] <= 1:
            raise ValueError(
                f"crop_ratio {list(ratio)} are not two shares in ascending order, above 0 and up"
                " to 1"
            )
        return ratio


class LocalizationLoss(Strict):
    """Assignment of points to segments, and the weights of the losses."""

    radius: float | None = Field(
        1.5,
        gt=0,
        description=(
            "a point is positive this many strides around a segment's middle; null: all inside"
        ),
    )
    regression_weight: float = Field(1.0, gt=0)
    normaliser: float = Field(
        100.0, gt=0, description="positive points per batch that the running mean starts from"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of that running mean")


class Decoding(Strict):
    """From the model's points to segments. Lengths are steps of the feature grid."""

    min_probability: float = Field(0.001, ge=0, lt=1)
    max_candidates: int = Field(
        2000, ge=1, description="per level of the pyramid, before suppression"
    )
    min_length: float = Field(0.05, ge=0)
    method: Literal["soft", "hard", "none"] = "soft"
    multiclass: bool = Field(True, description="suppression within each class alone")
    iou_threshold: float = Field(
        0.1, ge=0, lt=1, description="hard: overlap from which the lower score goes"
    )
    sigma: float = Field(0.5, gt=0, description="soft: width of the Gaussian")
    min_score: float = Field(0.001, ge=0, lt=1)
    max_segments: int = Field(200, ge=1, description="per video")
    voting_threshold: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="overlap from which candidates move a survivor's ends; 0: none do",
    )

    @model_validator(mode="after")
    def _votes_across_classes(self) -> Decoding:
        if self.voting_threshold and self.multiclass:
            raise ValueError(
                f"voting_threshold {self.voting_threshold} moves nothing while multiclass is on:"
                " leave one of them out"
            )
        return self


class Fusion(Strict):
    """Scores of whole videos from another model, which give proposals their classes: each proposal
    gets the `top` classes of its video.

    The file is json: `{"results": {video: [score of each class]}}`, with the names of the classes
    in `class`, or in the order of the dataset's labels.
    """

    scores: str = Field(description="path below the dataset's root")
    video: str = Field(
        "{video}",
        description=(
            "what the file calls a video, as a template that gives the dataset's id: 'v_{video}'"
        ),
    )
    top: int = Field(2, ge=1)
    max_proposals: int = Field(200, ge=1)

    @field_validator("video")
    @classmethod
    def _a_template(cls, video: str) -> str:
        if video.count("{video}") != 1:
            raise ValueError(f"'{video}' does not hold '{{video}}' once")
        return video


class LocalizationRecipe(Recipe):
    """Labelled segments of untrimmed videos, from stored features."""

    task: Literal["localization"]
    features: str = Field(
        pattern=r"^[a-z0-9_]+$", description="name in configs/features, of the same dataset"
    )
    class_agnostic: bool = Field(
        False, description="one class for all labels: proposals, to which `fusion` gives classes"
    )
    steps: Steps = Steps()
    loss: LocalizationLoss = LocalizationLoss()
    decoding: Decoding = Decoding()
    fusion: Fusion | None = None
    tiou: tuple[float, ...] = Field(
        min_length=1, description="thresholds of the benchmark's mAP; mean_ap is the mean over them"
    )
    recall: tuple[int, ...] = Field((), description="k of Recall@kx")

    not_of_the_model = {
        **Recipe.not_of_the_model,
        "empty_classes": "the data: classes without a segment",
    }

    @field_validator("tiou")
    @classmethod
    def _thresholds(cls, tiou: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < one <= 1 for one in tiou) or list(tiou) != sorted(set(tiou)):
            raise ValueError(
                f"tiou {list(tiou)} are not thresholds in ascending order, above 0 and up to 1"
            )
        return tiou

    @field_validator("recall")
    @classmethod
    def _multiples(cls, recall: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 1 for k in recall) or len(set(recall)) < len(recall):
            raise ValueError(f"recall {list(recall)} are not different whole numbers from 1")
        return recall

    @model_validator(mode="after")
    def _one_class_or_many(self) -> LocalizationRecipe:
        if self.class_agnostic and self.num_classes != 1:
            raise ValueError(f"num_classes {self.num_classes} with class_agnostic: it is 1 then")
        if self.fusion is not None and not self.class_agnostic:
            raise ValueError("fusion gives classes to proposals: it needs class_agnostic")
        if self.training.accumulate != 1:
            raise ValueError(
                f"training.accumulate {self.training.accumulate}: it is 1 here, the losses share a"
                " count of the whole batch"
            )
        return self
