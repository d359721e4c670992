"""A network at work on samples: validation, evaluation and the gate see them through this one
loop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from configs.schema import ConfigError, Precision, Recipe, Scale
from ops.data.loading import Loader, WorkerPool
from ops.training.batch_sampler import evaluation_batches
from ops.training.task import Row, Samples, Task

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Place(NamedTuple):
    """Where one rank computes, and among how many."""

    rank: int
    world_size: int
    device: torch.device


def wanted_device(scale: Scale) -> torch.device:
    """What the recipe's workers compute on, wherever they are."""
    return torch.device("cuda" if scale.use_gpu else "cpu")


def device_of(scale: Scale) -> torch.device:
    """Where a recipe's network is evaluated and served on this machine: what its workers have, or
    the CPU where there is no GPU.
    """
    return wanted_device(scale if torch.cuda.is_available() else Scale())


def place_of(model: nn.Module) -> torch.device:
    """Where a model lies: what it sees has to lie there too."""
    return next(model.parameters()).device


def alone(scale: Scale) -> Place:
    """The one process of a machine that evaluates or serves."""
    return Place(0, 1, device_of(scale))


def training_precision(recipe: Recipe) -> Precision:
    """What a recipe trains and validates in."""
    return "fp32" if recipe.training.amp == "off" else recipe.training.amp


def check_precision(recipe: Recipe, field: str, precision: Precision, device: torch.device) -> None:
    """Raise ConfigError for a precision of the recipe's field that the device does not have."""
    if precision == "fp16" and device.type != "cuda":
        wide = "off" if field == "training.amp" else "fp32"
        raise ConfigError(
            f"recipe '{recipe.name}'", field, "fp16", f"{wide} or bf16 on device '{device.type}'"
        )


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """A context in which matrices are multiplied in this precision."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, AMP[precision])


def predict(
    task: Task,
    model: nn.Module,
    samples: Samples,
    *,
    place: Place,
    precision: Precision = "fp32",
    batch_size: int | None = None,
    workers: int | WorkerPool | Loader = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Prediction rows of all samples in their order, on every rank, whatever the number of ranks;
    the model is left in eval mode.

    Args:
        task: gives batches and rows their form.
        model: lies on the place's device.
        samples: all of them, on every rank.
        place: every rank takes its share of the samples.
        precision: that the network computes in.
        batch_size: samples in the network together on one rank; None is a rank's share of the
            recipe's batch.
        workers: loader processes, or a loader of these samples that lives on.
        progress: is told (done, all) after every batch.

    Raises:
        SampleError: a sample cannot be read.
        LoaderError: a loader process died.
    """
    training, (rank, world_size, device) = task.recipe.training, place
    size = batch_size or max(1, training.batch_size // (training.accumulate * world_size))
    batches = evaluation_batches(len(samples), size, rank, world_size)
    given = isinstance(workers, Loader)
    loader = (
        workers
        if isinstance(workers, Loader)
        else Loader(samples, task.collate, workers, pin_memory=device.type == "cuda")
    )
    rows: list[Row] = []
    model.eval()
    try:
        with torch.inference_mode(), autocast(device, precision):
            for batch, made in zip(batches, loader.epoch(batches), strict=True):
                rows += task.predict(model, to_device(made, device))
                if progress is not None:
                    progress(min(len(samples), batch[-1] + 1), len(samples))
    finally:
        if not given:
            loader.close()
    return in_order(gathered(rows, world_size))


def gathered(own: Any, world_size: int) -> list[Any]:
    """Every rank's value, by rank."""
    parts: list[Any] = [own] * world_size
    if world_size > 1:
        dist.all_gather_object(parts, own)
    return parts


def in_order(parts: list[list[Row]]) -> list[Row]:
    """The rows of all ranks, one a sample, in the order of the samples: rank r has every
    `len(parts)`-th from sample r on.
    """
    rows: list[Row] = [{}] * sum(map(len, parts))
    for rank, own in enumerate(parts):
        rows[rank :: len(parts)] = own
    return rows


def to_device(value: Any, device: torch.device) -> Any:
    """The same nested dicts, lists and tuples with every tensor on the device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    return value
