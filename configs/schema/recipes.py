"""Recipes: one whole thing to train each, with its model, data, optimisation, evaluation and
gate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from configs.schema.strict import Positive, Strict, content_hash

Precision = Literal["fp32", "bf16", "fp16"]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Published(Strict):
    """The facts of a published row, in the units of its table. Test-time cost, not training
    cost.
    """

    dataset: str
    pretraining: str | None = None
    protocol: str | None = None
    top1: float | None = None
    top5: float | None = None
    mean_ap: float | None = None
    map_at: dict[str, float] | None = Field(None, description="mean_ap by threshold")
    recall_1x_at: dict[str, float] | None = Field(None, description="Recall@1x by threshold")
    acc_p: float | None = Field(None, description="of part-level action parsing")
    gflops: float | None = None
    params_m: float | None = None
    note: str | None = Field(None, description="misprints and other things to know about the row")


class Optimizer(Strict):
    """Optimizer, learning rate and gradient clipping."""

    name: Literal["sgd", "adamw"]
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    clip_grad_norm: float | None = Field(None, gt=0)
    base_batch_size: int | None = Field(
        None, ge=1, description="the LR is scaled by batch_size / base_batch_size"
    )
    lr_multipliers: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description=(
            "by parameter-name prefix, or by a pattern (* and ?) of whole names; the longest that"
            " fits counts"
        ),
    )
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="each block's LR as a share of the next one's (transformers)"
    )
    decay_all: bool | None = Field(
        None, description="decay norms and biases too; null: yes for sgd, no for adamw"
    )
    no_decay: tuple[str, ...] = Field(
        (), description="parameter-name prefixes or patterns without weight decay"
    )
    decay_only: tuple[Literal["conv", "linear", "embedding", "norm"], ...] = Field(
        (),
        description=(
            "kinds of modules whose `weight` decays, and nothing else; empty: as decay_all says"
        ),
    )


class Schedule(Strict):
    """Learning rate per optimizer step. Lengths are in epochs and may be fractions.

    `during_warmup` says what the curve (cosine, steps) does in that time. It waits and begins where
    the warm-up ends; or it runs from the first step on, multiplied by the warm-up (mmengine's
    schedulers that begin together); or it runs, and the warm-up is a straight line to where it is
    at the warm-up's end (PySlowFast). Milestones always count from the first step.
    """

    kind: Literal["cosine", "multistep", "constant"]
    warmup_epochs: float = Field(0.0, ge=0)
    warmup_start: float = Field(
        0.1, ge=0, le=1, description="first learning rate as a share of the full one"
    )
    warmup_per: Literal["step", "epoch"] | None = Field(
        None, description="when the rate moves within the warm-up; null: as `per`"
    )
    warmup_peak: Literal["after", "last"] = Field(
        "after",
        description=(
            "what first has the full rate: the step (epoch) after the warm-up, or the last one"
            " of it"
        ),
    )
    during_warmup: Literal["waits", "multiplied", "met"] = "waits"
    milestones: tuple[Positive, ...] = ()
    per: Literal["step", "epoch"] = Field("step", description="when the rate moves")
    gamma: float = Field(0.1, gt=0)
    min_lr: float = Field(0.0, ge=0)
    cosine_epochs: float | None = Field(
        None,
        gt=0,
        description=(
            "half a period of the cosine; null: what is left of the training. A longer one is cut"
            " off at its end"
        ),
    )

    @model_validator(mode="after")
    def _of_a_cosine(self) -> Schedule:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} do not ascend")
        if self.cosine_epochs is not None and self.kind != "cosine":
            raise ValueError(
                f"cosine_epochs {self.cosine_epochs} is for kind cosine, not {self.kind}"
            )
        return self


class HeadLabels(Strict):
    """Which labels the classifier of a starting checkpoint tells apart, so that ours take the rows
    of theirs.

    Either the labels of another dataset of the catalogue (read from its own files), or a file of
    labels, one a line (with a header, quotes, and numbers that give the order, as in a vocabulary),
    or a JSON list of labels, or of one row number for each of our classes. Labels are the same when
    they differ in case and signs alone.
    """

    dataset: str | None = Field(
        None, description="name of the dataset that the checkpoint was trained on"
    )
    file: str | None = Field(None, description="URI of its labels: text, or JSON")
    renamed: dict[str, str] = Field(
        default_factory=dict, description="our label -> what it is called there, where that differs"
    )

    @model_validator(mode="after")
    def _one_source(self) -> HeadLabels:
        if (self.dataset is None) == (self.file is None):
            raise ValueError("one of dataset and file has to be given")
        return self


class Training(Strict):
    """Everything of a training run that changes its result."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1, description="global: summed over workers and accumulation steps")
    accumulate: int = Field(1, ge=1)
    amp: Literal["off", "bf16", "fp16"] = "off"
    ema_decay: float | None = Field(None, gt=0, lt=1)
    ema_warmup: bool = Field(
        True,
        description="the average follows the first steps faster: its decay grows up to ema_decay",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    batch_norm: Literal["train", "partial", "frozen"] = Field(
        "train",
        description=(
            "partial: only the first layer's statistics move; frozen: none do, and no weights of"
            " these layers"
        ),
    )
    sync_batch_norm: bool = Field(False, description="statistics over all workers")
    recompute: bool = Field(
        False, description="activation checkpointing: less memory, a third more time"
    )
    repeated_augmentation: int = Field(
        1, ge=1, description="differently augmented copies of each sample in a batch"
    )
    seed: int = Field(0, ge=0)
    evaluate_every: int = Field(
        1, ge=1, description="epochs between evaluations on the validation split"
    )
    init_from: str | None = Field(
        None,
        description=(
            "URI of a checkpoint: of this network, its trunk, a pre-training or an image network"
        ),
    )
    init_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="what that file has to be; needed for plain http",
    )
    init_head: HeadLabels | None = Field(
        None, description="labels of that checkpoint's classifier where it has others; null: fresh"
    )
    head_scale: float | None = Field(
        None, gt=0, description="the fresh classifier's weights are multiplied by it"
    )

    @model_validator(mode="after")
    def _divides(self) -> Training:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        return self


class Scale(Strict):
    """Where the training runs. Nothing here is part of the recipe's hash."""

    num_workers: int = Field(1, ge=1, description="Ray Train workers")
    use_gpu: bool = False
    compile: bool = Field(
        False, description="networks through torch.compile; the first step waits for the compiler"
    )
    cpus_per_worker: float = Field(2, gt=0)
    loader_workers: int = Field(0, ge=0, description="DataLoader processes per training worker")
    max_failures: int = Field(
        2, ge=-1, description="restarts of the worker group before the run fails; -1 is no limit"
    )
    checkpoint_every: int = Field(1, ge=1, description="epochs between checkpoints")
    checkpoint_every_steps: int | None = Field(
        None, ge=1, description="also within an epoch, every so many optimizer steps"
    )


class Gate(Strict):
    """When a challenger becomes champion: `metric` above `floor`, and better than the champion by
    `min_gain`.
    """

    metric: str
    floor: float
    min_gain: float = Field(0.0, ge=0)
    registered_model: str
    precision: Precision = Field(
        "fp32", description="what challenger and champion are scored in, however they were trained"
    )

    @model_serializer(mode="wrap")
    def _usual_precision_goes_without_saying(
        self, rest: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """Recipes that were stored before there was a choice read as those of today."""
        return {
            name: value
            for name, value in rest(self).items()
            if (name, value) != ("precision", "fp32")
        }


def _check_plain(name: str, value: Any) -> None:
    """Raises ValueError for a value of the model section that looks like a number, or a truth
    value, and is none.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value} is not a finite number")
    if isinstance(value, str) and re.fullmatch(
        r"[-+]?[\d.][\d_.:]*(e[-+]?\d+)?|true|false|yes|no|on|off", value, re.I | re.A
    ):
        raise ValueError(
            f"{name}: '{value}' is text: write a number in decimal digits, true or false, without"
            " quotes"
        )
    for inner in (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, (list, tuple))
        else ()
    ):
        _check_plain(name, inner)


class Recipe(Strict):
    """One whole thing to train: model, data, optimisation, evaluation, gate."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    task: str
    family: str
    about: str = Field(description="what it is for, how long it takes and what it should reach")
    origin: str | None = Field(None, description="file stem of the original configuration")
    published: Published | None = None
    dataset: str
    target: str = Field(
        "label", pattern=r"^[a-z_]+$", description="which of the dataset's label spaces is learnt"
    )
    num_classes: int = Field(ge=1)
    model: dict[str, Any] = Field(description="arguments of the family's Config")
    optimizer: Optimizer
    schedule: Schedule
    training: Training
    scale: Scale = Scale()
    gate: Gate

    not_of_the_model: ClassVar[Mapping[str, str]] = {"num_classes": "the recipe itself"}
    """Fields of a network's Config that a recipe's model section must not set, and where they come
    from.
    """

    @field_validator("model")
    @classmethod
    def _model_leaves_what_comes_from_elsewhere(cls, model: dict[str, Any]) -> dict[str, Any]:
        for name, place in cls.not_of_the_model.items():
            if name in model:
                raise ValueError(f"{name} belongs to {place}, not to its model section")
        for name, value in model.items():
            _check_plain(name, value)
        return model

    def key(self) -> str:
        """Hash of everything that changes the trained weights or their evaluation."""
        kept_out = {"name", "about", "origin", "published", "scale", "gate"}
        # a new field with a default changes no key
        return content_hash(self.model_dump(exclude=kept_out, exclude_defaults=True))
