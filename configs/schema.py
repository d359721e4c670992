"""The typed shape of every YAML in this package.

All models are frozen and refuse unknown keys, so that a misspelt key is an error that names the file and the field.
Nothing here imports torch, ray, mlflow, decord or zarr: Dagster loads this module on every start.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

TaskName = Literal["recognition", "localization", "detection", "parsing"]
TASKS: tuple[TaskName, ...] = ("recognition", "localization", "detection", "parsing")
TableName = Literal["clips", "segments", "boxes", "parts"]
BUCKETS = 16  # hash buckets of every dataset: the partitions of the per-video stages (a million videos: 62,500 a bucket)


class ConfigError(ValueError):
    """A user's mistake in a configuration: names the file, the field, what was found and what is allowed."""

    def __init__(self, where: str, field: str, found: object, allowed: str) -> None:
        self.where, self.field, self.found, self.allowed = where, field, found, allowed
        super().__init__(f"{where}: field '{field}': found {found!r}; allowed: {allowed}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str, str, str]]:
        """Errors travel between processes; `found` goes as text, since it may be anything."""
        found = self.found if isinstance(self.found, str | int | float | bool | None) else repr(self.found)
        return type(self), (self.where, self.field, found, self.allowed)  # type: ignore[return-value]


class Strict(BaseModel):
    """Base of every configuration object: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def content_hash(value: Any) -> str:
    """Sha256 (hex, 16 digits) of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------- datasets


class Frames(Strict):
    """How the videos of a dataset are decoded and stored: one Zarr array per video."""

    short_side: int | None = Field(None, ge=16, description="resize the shorter side to this many pixels; null keeps the size")
    codec: Literal["jpeg", "lossless"] = "jpeg"
    quality: int = Field(95, ge=1, le=100, description="JPEG quality; ignored by the lossless codec")
    frames_per_shard: int = Field(64, ge=1)

    def key(self) -> str:
        """Hash of every value that changes a stored pixel."""
        return content_hash(self.model_dump())


class AnnotationFile(Strict):
    """One official annotation file of a dataset and the table that it fills."""

    table: TableName
    format: Literal["kinetics_csv", "activitynet_json", "ava_csv", "kinetics_tps_json"]
    path: str = Field(description="relative to the dataset's root; a folder for kinetics_tps_json")
    split: str | None = Field(None, description="overrides the file's own split column")
    video: str = Field("{video}", description="how a row names its video, as a template over the row's columns")
    labels: str | None = Field(None, description="vocabulary: a text file with one label a line, or a .pbtxt")
    exclusions: str | None = Field(None, description="csv of excluded timestamps (ava_csv)")


class Dataset(Strict):
    """A dataset: where its videos and annotations lie, and how its frames are stored."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    licence: str
    homepage: str | None = None
    root: str = Field(description="fsspec URI; '{storage}' stands for the storage root")
    videos: str = Field("videos", description="folder of the video files below the root, scanned recursively")
    annotations: tuple[AnnotationFile, ...] = ()
    expected: dict[str, int] = Field(default_factory=dict, description="expected number of clips per split")
    frames: Frames = Frames()
    max_quarantined: float = Field(0.1, ge=0, le=1, description="share of quarantined videos above which a check fails")


# ---------------------------------------------------------------------------------------------------- recipes


class Published(Strict):
    """The facts of a published row, in the units of its table. Test-time cost, not training cost."""

    dataset: str
    pretraining: str | None = None
    protocol: str | None = None
    top1: float | None = None
    top5: float | None = None
    mean_ap: float | None = None
    gflops: float | None = None
    params_m: float | None = None
    note: str | None = Field(None, description="misprints and other things to know about the row")


class Sampling(Strict):
    """Which frames of a clip a model sees: `num_segments` snippets of `clip_len` frames, `frame_interval` apart."""

    kind: Literal["segments", "dense"]
    num_segments: int = Field(1, ge=1)
    clip_len: int = Field(1, ge=1)
    frame_interval: int = Field(1, ge=1)

    @property
    def num_frames(self) -> int:
        """T of the model's input."""
        return self.num_segments * self.clip_len


class Transforms(Strict):
    """Pixels on their way to the model. Boxes and sizes in pixels, mean and std on the 0..255 scale, RGB."""

    short_side: int = Field(ge=8)
    crop: int = Field(ge=8)
    train_crop: Literal["random", "random_resized", "multi_scale"] = "random_resized"
    area: tuple[float, float] = Field((0.08, 1.0), description="share of the image a random_resized crop covers")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    flip_labels: dict[str, str] = Field(default_factory=dict, description="labels that a flip exchanges")
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)


class Views(Strict):
    """Test-time views of a clip: `num_clips` temporal x `num_crops` spatial."""

    num_clips: int = Field(1, ge=1)
    num_crops: Literal[1, 3, 10] = 1
    average: Literal["prob", "score", "feature"] = "prob"


class Optimizer(Strict):
    """Optimizer, learning rate and gradient clipping."""

    name: Literal["sgd", "adamw"]
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    clip_grad_norm: float | None = Field(None, gt=0)
    base_batch_size: int | None = Field(None, ge=1, description="the LR is scaled by batch_size / base_batch_size")
    lr_multipliers: dict[str, float] = Field(default_factory=dict, description="by parameter-name prefix")


class Schedule(Strict):
    """Learning rate per optimizer step. Lengths are in epochs and may be fractions."""

    kind: Literal["cosine", "multistep", "constant"]
    warmup_epochs: float = Field(0.0, ge=0)
    warmup_start: float = Field(0.1, ge=0, le=1, description="first learning rate as a share of the full one")
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    min_lr: float = Field(0.0, ge=0)


class Training(Strict):
    """Everything of a training run that changes its result."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1, description="global: summed over workers and accumulation steps")
    accumulate: int = Field(1, ge=1)
    amp: Literal["off", "bf16", "fp16"] = "off"
    ema_decay: float | None = Field(None, gt=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    seed: int = 0
    evaluate_every: int = Field(1, ge=1, description="epochs between evaluations on the validation split")
    init_from: str | None = Field(None, description="URI of a checkpoint in the original authors' key names")

    @model_validator(mode="after")
    def _divides(self) -> Training:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        return self


class Scale(Strict):
    """Where the training runs. Nothing here is part of the recipe's hash."""

    num_workers: int = Field(1, ge=1, description="Ray Train workers")
    use_gpu: bool = False
    cpus_per_worker: float = Field(2, gt=0)
    loader_workers: int = Field(0, ge=0, description="DataLoader processes per training worker")
    max_failures: int = Field(2, ge=-1, description="restarts of the worker group before the run fails; -1 is no limit")
    checkpoint_every: int = Field(1, ge=1, description="epochs between checkpoints")


class Gate(Strict):
    """When a challenger becomes champion: `metric` above `floor`, and better than the champion by `min_gain`."""

    metric: str
    floor: float
    min_gain: float = 0.0
    registered_model: str


class Recipe(Strict):
    """One whole thing to train: model, data, optimisation, evaluation, gate."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    task: TaskName
    family: str
    about: str = Field(description="what it is for, how long it takes and what it should reach")
    origin: str | None = Field(None, description="file stem of the original configuration")
    published: Published | None = None
    dataset: str
    num_classes: int = Field(ge=1)
    model: dict[str, Any] = Field(description="arguments of the family's Config")
    optimizer: Optimizer
    schedule: Schedule
    training: Training
    scale: Scale = Scale()
    gate: Gate

    def key(self) -> str:
        """Hash of everything that changes the trained weights or their evaluation."""
        return content_hash(self.model_dump(exclude={"name", "about", "origin", "published", "scale", "gate"}))


class RecognitionRecipe(Recipe):
    """One label per clip."""

    task: Literal["recognition"]
    sampling: Sampling
    transforms: Transforms
    views: Views = Views()

    @field_validator("model")
    @classmethod
    def _classes_are_the_recipes(cls, model: dict[str, Any]) -> dict[str, Any]:
        if "num_classes" in model:
            raise ValueError("num_classes belongs to the recipe itself, not to its model section")
        return model


RECIPES: dict[TaskName, type[Recipe]] = {"recognition": RecognitionRecipe}
