"""The training loop in plain torch: one process, or one of several that `torch.distributed` already joins.

An epoch depends on the state before it, the recipe and the data, and on nothing else: all random generators are seeded from
(seed, epoch, rank), so that a training that was killed and resumed ends in the same bits (on CPU), and an epoch may be repeated.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from configs.schema import ConfigError, Recipe, Scale
from ops.data.loading import Loader
from ops.tasks.protocol import Mode, Row, Task
from ops.training.checkpoint import State, save_state
from ops.training.ema import WeightAverage
from ops.training.optim import LearningRate, build_optimizer
from ops.training.plan import BatchPlan, evaluation_batches
from ops.training.protocols import EpochReport, OnEpoch, OnStep, StepReport, TrainingError

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def fit(
    task: Task,
    scale: Scale,
    *,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    start: State | None = None,
    run_id: str | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
) -> State:
    """Train the task's recipe from `start` (or from scratch) to its last epoch and return the final state.

    Every rank calls it; batches, gradients and evaluation are shared among `world_size` ranks so that the result is that of
    one rank with the whole batch (statistics of batch norm aside, which are each rank's own). `on_epoch` is called on every
    rank after every epoch, `on_step` on rank 0 after every optimizer step. Raises ConfigError for what cannot work,
    SampleError for an unreadable sample, TrainingError when the loss is no longer finite.
    """
    run = _Run(task, scale, Place(rank, world_size, torch.device(device)), start, run_id)
    try:
        return run.train(on_epoch, on_step)
    finally:
        run.close()


class Place(NamedTuple):
    """Where one rank computes, and among how many."""

    rank: int
    world_size: int
    device: torch.device


ALONE = Place(0, 1, torch.device("cpu"))


class _Run:
    """One rank's part of a training."""

    def __init__(self, task: Task, scale: Scale, place: Place, start: State | None, run_id: str | None) -> None:
        self.task, self.scale, self.place = task, scale, place
        self.rank, self.world_size, device = place
        self.device, self.recipe = device, task.recipe
        _check_precision(self.recipe, device)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads unwritten memory
        torch.backends.cudnn.benchmark = False
        self.run_id = run_id
        self.samples = task.samples("train", "train")
        self.plan = BatchPlan(self.recipe, len(self.samples), self.rank, self.world_size)
        self.loader = Loader(self.samples, task.collate, scale.loader_workers, pin_memory=device.type == "cuda")
        _seed(self.recipe.training.seed, 0, 0)  # the same fresh weights on every rank
        self.model = task.model().to(device)
        self.rate = LearningRate(self.recipe, self.plan.steps)
        self.optimizer = build_optimizer(self.model, self.recipe.optimizer)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.recipe.training.amp == "fp16")
        decay = self.recipe.training.ema_decay
        self.average = WeightAverage(self.model, decay) if decay else None
        self.epochs_done, self.step, self.best = 0, 0, None if start is None else start.best
        self.history: list[dict[str, float]] = []
        if start is not None:
            self._restore(start)
        self.wrapped = self._wrap()

    # ---------------------------------------------------------------------------------------------------- state

    def _wrap(self) -> nn.Module:
        if self.world_size == 1:
            return self.model
        places = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.model, device_ids=places, gradient_as_bucket_view=True)

    def _restore(self, start: State) -> None:
        self.model.load_state_dict(start.model)
        self.optimizer.load_state_dict(start.optimizer)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(start.scaler)
        if self.average is not None and start.average is not None:
            self.average.load_state_dict(start.average)
        self.task.load_state_dict(start.task)
        self.epochs_done, self.step = start.epoch, start.step
        self.history = [dict(row) for row in start.history]

    def state(self) -> State:
        """The state after the last finished epoch; its tensors are the live ones."""
        return State(
            epoch=self.epochs_done,
            step=self.step,
            recipe_key=self.recipe.key(),
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average=self.average.state_dict() if self.average else None,
            scaler=self.scaler.state_dict(),
            task=self.task.state_dict(),
            best=self.best,
            run_id=self.run_id,
            history=self.history,
        )

    def save(self, folder: Path) -> None:
        """Write the state into a folder, on rank 0."""
        if self.rank == 0:
            save_state(self.state(), folder)

    def close(self) -> None:
        """End the loader processes."""
        self.loader.close()

    # ---------------------------------------------------------------------------------------------------- training

    def train(self, on_epoch: OnEpoch | None, on_step: OnStep | None) -> State:
        """Run the epochs that are left."""
        training = self.recipe.training
        for epoch in range(self.epochs_done + 1, training.epochs + 1):
            began = time.perf_counter()
            metrics = self._epoch(epoch, on_step)
            if epoch % training.evaluate_every == 0 or epoch == training.epochs:
                metrics |= self._validate()
            metrics["seconds"] = time.perf_counter() - began
            self.epochs_done = epoch
            self.history.append({"epoch": float(epoch), **metrics})
            if on_epoch is not None:
                on_epoch(EpochReport(epoch, training.epochs, metrics), self.save)
        return self.state()

    def _epoch(self, epoch: int, on_step: OnStep | None) -> dict[str, float]:
        _seed(self.recipe.training.seed, epoch, self.rank)
        self.samples.set_epoch(epoch)
        self.wrapped.train()
        plan = self.plan.epoch(epoch)
        batches = _Timed(self.loader.epoch([micro for step in plan for micro in step]))
        totals: dict[str, Tensor] = {}
        began, rate, seen = time.perf_counter(), 0.0, 0
        for index, step in enumerate(plan):
            rate = self.rate.apply(self.optimizer, self.step)
            self._step(step, batches, totals)
            self.step += 1
            seen += sum(map(len, step))
            if on_step is not None and self.rank == 0:
                on_step(StepReport(epoch, self.recipe.training.epochs, index + 1, len(plan), float(totals["loss"]) / seen))
        seconds = time.perf_counter() - began
        metrics = self._means(totals, self.plan.steps * self.plan.batch_size)
        if not math.isfinite(metrics["loss"]):
            raise TrainingError(f"epoch {epoch}: the loss is {metrics['loss']}; lower optimizer.lr or set optimizer.clip_grad_norm")
        speed = self.plan.steps * self.plan.batch_size / seconds
        return {**metrics, "lr": rate, "samples_per_s": speed, "data_wait_share": batches.waited / seconds}

    def _step(self, step: list[list[int]], batches: _Timed, totals: dict[str, Tensor]) -> None:
        """One optimizer step: the mean over the global batch, whatever its split into micro-batches and ranks."""
        self.optimizer.zero_grad(set_to_none=True)
        for index, micro in enumerate(step):
            batch = to_device(next(batches), self.device)
            last = index == len(step) - 1
            with self._unsynchronised(last), self._autocast():
                losses = self.task.losses(self.wrapped, batch)
                # DDP averages over the ranks: the factor undoes that and makes every sample count the same
                share = len(micro) * self.world_size / self.plan.batch_size
                self.scaler.scale(losses["loss"] * share).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + value.detach().float() * len(micro)
        if self.recipe.optimizer.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)

    def _unsynchronised(self, last: bool) -> AbstractContextManager[Any]:
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            return nullcontext()
        return self.wrapped.no_sync()

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = self.recipe.training.amp
        return nullcontext() if kind == "off" else torch.autocast(self.device.type, AMP[kind])

    def _means(self, totals: dict[str, Tensor], count: int) -> dict[str, float]:
        names = sorted(totals)
        sums = torch.stack([totals[name] for name in names]).double()
        if self.world_size > 1:
            dist.all_reduce(sums)
        return {name: value / count for name, value in zip(names, sums.tolist(), strict=True)}

    # ---------------------------------------------------------------------------------------------------- validation

    def _validate(self) -> dict[str, float]:
        model = self.model
        if self.average is not None:
            model = copy.deepcopy(model)
            model.load_state_dict(self.average.weights)
        if self.world_size > 1:
            for buffer in model.buffers():  # each rank has its own batch-norm statistics; rank 0's are the ones that are kept
                dist.broadcast(buffer, 0)
        rows = predict(self.task, model, "val", "validate", place=self.place, workers=self.scale.loader_workers)
        metric = self.task.metric("val")
        metric.update(self._gather(rows))
        metrics = metric.compute()
        watched = self.recipe.gate.metric
        if watched in metrics:
            self.best = metrics[watched] if self.best is None else max(self.best, metrics[watched])
            metrics[f"best_{watched}"] = self.best
        return metrics

    def _gather(self, rows: list[Row]) -> list[Row]:
        if self.world_size == 1:
            return rows
        parts: list[Any] = [None] * self.world_size
        dist.all_gather_object(parts, rows)
        return [row for part in parts for row in part]


def predict(
    task: Task,
    model: nn.Module,
    split: str,
    mode: Mode = "test",
    *,
    place: Place = ALONE,
    workers: int = 0,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Prediction rows of this rank's share of a split, in the precision of the recipe; the model is left in eval mode.

    `on_batch(done, total)` is told of every batch. Raises SampleError.
    """
    training = task.recipe.training
    rank, world_size, device = place
    samples = task.samples(split, mode)
    size = max(1, training.batch_size // (training.accumulate * world_size))
    batches = evaluation_batches(len(samples), size, rank, world_size)
    loader = Loader(samples, task.collate, workers, pin_memory=device.type == "cuda")
    amp = nullcontext() if training.amp == "off" else torch.autocast(device.type, AMP[training.amp])
    model.eval()
    rows: list[Row] = []
    try:
        with torch.inference_mode(), amp:
            for index, batch in enumerate(loader.epoch(batches)):
                rows += task.predict(model, to_device(batch, device))
                if on_batch is not None:
                    on_batch(index + 1, len(batches))
    finally:
        loader.close()
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


class _Timed:
    """An iterator that adds up the time its consumer waits."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self.waited = 0.0

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            return next(self._source)
        finally:
            self.waited += time.perf_counter() - began


def _seed(seed: int, epoch: int, rank: int) -> None:
    """Seed python, numpy and torch (all devices) from one number that no other epoch or rank has."""
    value = int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def check_recipe(task: Task, scale: Scale) -> None:
    """Raise ConfigError for a batch size, worker number or precision that cannot work; called before workers are started."""
    _check_precision(task.recipe, torch.device("cuda" if scale.use_gpu else "cpu"))
    BatchPlan(task.recipe, len(task.samples("train", "train")), 0, scale.num_workers)


def _check_precision(recipe: Recipe, device: torch.device) -> None:
    if recipe.training.amp == "fp16" and device.type != "cuda":
        raise ConfigError(f"recipe '{recipe.name}'", "training.amp", "fp16", f"off or bf16 on device '{device.type}'")
