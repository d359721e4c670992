"""Which frames a model sees and what happens to their pixels, in training and in testing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from configs.schema.strict import Bounds, Place, Positive, Strict, in_order

Sides = Annotated[tuple[int, int], AfterValidator(in_order)]


class Sampling(Strict):
    """Which frames of a clip a model sees: `num_segments` snippets of `clip_len` frames,
    `frame_interval` apart.

    segments: one snippet in each equal share of the clip (TSN; the originals' SampleFrames). dense:
    one snippet anywhere. uniform: `clip_len` frames spread over the whole clip (UniFormerV2).
    dense_sample: `num_segments` frames spread over a window of `sample_range` frames, from
    `num_positions` windows in testing (TSM dense). pan: snippets of consecutive frames with PAN's
    own rounding. key_frame: centred on an annotated frame (AVA). sliding: every window of the clip,
    `stride` frames apart.
    """

    kind: Literal["segments", "dense", "uniform", "dense_sample", "pan", "key_frame", "sliding"]
    num_segments: int = Field(1, ge=1)
    clip_len: int = Field(1, ge=1)
    frame_interval: int = Field(1, ge=1)
    fps: float | None = Field(
        None,
        gt=0,
        description=(
            "sample on a clock of this rate by the frames' timestamps; null samples by frame"
        ),
    )
    beyond_end: Literal["loop", "repeat_last"] = Field(
        "loop", description="what an index past the last frame reads"
    )
    keep_tail: bool = Field(
        False, description="training segments share all frames evenly, the remainder included"
    )
    sample_range: int = Field(64, ge=1, description="dense_sample: frames of the window")
    num_positions: int = Field(10, ge=1, description="dense_sample: windows in testing")
    stride: int = Field(1, ge=1, description="sliding: frames between the starts of two windows")

    @property
    def num_frames(self) -> int:
        """T of the model's input."""
        return self.num_segments * self.clip_len


class RandAugment(Strict):
    """RandAugment (Cubuk et al., 2020) in timm's form: the same operations for all frames of a
    clip.
    """

    num_ops: int = Field(4, ge=1)
    magnitude: float = Field(7, ge=0, le=10)
    magnitude_std: float = Field(0.5, ge=0, description="normal noise on the magnitude")
    probability: float = Field(0.5, ge=0, le=1, description="of each drawn operation")
    increasing: bool = Field(True, description="operations whose strength grows with the magnitude")
    after_crop: bool = Field(
        False, description="on the cropped view, not on the whole frames of `short_side`"
    )


class RandomErasing(Strict):
    """Random erasing (Zhong et al., 2020): one rectangle at the same place in all frames."""

    probability: float = Field(0.25, ge=0, le=1)
    mode: Literal["constant", "random", "pixel", "bytes"] = Field(
        "pixel",
        description=(
            "after normalisation: zeros, one random colour, or normal noise; bytes: uniform noise"
            " of 0..255 before it"
        ),
    )
    area: Bounds = (0.02, 1 / 3)
    aspect: Bounds = (0.3, 10 / 3)


class Transforms(Strict):
    """Pixels on their way to the model. Boxes and sizes in pixels, mean and std on the 0..255
    scale, RGB.
    """

    short_side: int = Field(ge=8)
    short_side_range: Sides | None = Field(
        None, description="training: shorter side drawn from these two bounds, both included"
    )
    crop: int = Field(ge=8)
    train_crop: Literal["random", "random_resized", "multi_scale"] = "random_resized"
    area: Bounds = Field((0.08, 1.0), description="share of the image a random_resized crop covers")
    aspect: Bounds = Field((3 / 4, 4 / 3), description="width / height of a random_resized crop")
    scales: tuple[Positive, ...] = Field(
        (1.0, 0.875, 0.75, 0.66), description="multi_scale: sides as shares of the shorter one"
    )
    max_scale_gap: int = Field(
        1, ge=0, description="multi_scale: how many scales width and height may be apart"
    )
    fixed_places: Literal[5, 13] | None = Field(
        13, description="multi_scale: how many places; null is anywhere"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    flip_labels: dict[str, str] = Field(
        default_factory=dict, description="labels that a flip exchanges; empty takes the dataset's"
    )
    colour_probability: float = Field(1.0, ge=0, le=1, description="of the whole jitter below")
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)
    hue: float = Field(0.0, ge=0, le=0.5)
    randaugment: RandAugment | None = None
    erasing: RandomErasing | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)


class Views(Strict):
    """Test-time views of a clip: `num_clips` temporal x `num_crops` spatial. Values that are null
    are those of training.
    """

    num_clips: int = Field(1, ge=1)
    num_crops: Literal[1, 3, 5, 10] = 1
    average: Literal["prob", "score", "feature"] = "prob"
    twice: bool = Field(
        False, description="the originals' twice_sample: every view again, half a segment earlier"
    )
    num_segments: int | None = Field(
        None, ge=1, description="segments in testing (TSN trains with 3 or 8 and tests with 25)"
    )
    short_side: int | None = Field(None, ge=8)
    crop: int | None = Field(None, ge=8)
    full: bool = Field(False, description="no crop at all: the resized frame as it is")


class Images(Strict):
    """Single images as a second source of training, for networks with a branch for them."""

    root: Place = Field(
        description=(
            "fsspec URI of a folder of folders, one a class; '{storage}' stands for the storage"
            " root"
        )
    )
    per_clip: int = Field(ge=1, description="images that come with every clip of a batch")
    weight: float = Field(1.0, gt=0, description="of their loss beside that of the clips")


class Mixing(Strict):
    """Mixup and cutmix of a batch, with soft labels. With both, one of them is drawn per batch."""

    mixup_alpha: float = Field(0.0, ge=0)
    cutmix_alpha: float = Field(0.0, ge=0)
    probability: float = Field(1.0, ge=0, le=1)
    switch_probability: float = Field(0.5, ge=0, le=1, description="of cutmix where both are on")

    @model_validator(mode="after")
    def _something(self) -> Mixing:
        if not self.mixup_alpha and not self.cutmix_alpha:
            raise ValueError("mixup_alpha and cutmix_alpha are both 0: leave the section out")
        return self
