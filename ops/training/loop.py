"""The training loop in plain torch: one process, or one of several that `torch.distributed` already
joins.

An optimizer step depends on the state before it, the recipe and the data, and on nothing else: all
random generators are seeded from (seed, epoch, step, rank), so that a training that was killed
anywhere and resumed ends in the same bits (on CPU), and steps may be repeated.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from configs.schema import Scale
from ops.data.loading import Loader, WorkerPool
from ops.training.batch_sampler import BatchPlan
from ops.training.callbacks import (
    EpochReport,
    OnCheckpoint,
    OnEpoch,
    OnStep,
    StepReport,
    TrainingError,
)
from ops.training.checkpoint import State, save_state
from ops.training.ema import WeightAverage
from ops.training.epoch_stats import Tally
from ops.training.inference import (
    Place,
    autocast,
    check_precision,
    gathered,
    predict,
    to_device,
    training_precision,
    wanted_device,
)
from ops.training.model_setup import (
    check_compiler,
    compiling,
    freeze_batch_norms,
    recomputing,
    synchronised,
)
from ops.training.optim import LearningRate, build_optimizer
from ops.training.task import Samples, Task


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
    on_checkpoint: OnCheckpoint | None = None,
) -> State:
    """Train the task's recipe to its last epoch and return the final state.

    Every rank calls it; batches, gradients and evaluation are shared among `world_size` ranks so
    that the result is that of one rank with the whole batch (statistics of batch norm aside, which
    are each rank's own).

    Args:
        task: the recipe on its data.
        scale: where it runs; no part of the recipe's hash.
        rank: this process's, 0..world_size-1.
        world_size: number of ranks.
        device: of this rank.
        start: what the training goes on from; None is from scratch.
        run_id: of the MLflow run, noted in the state.
        on_epoch: called on every rank after every epoch.
        on_step: called on rank 0 after every optimizer step.
        on_checkpoint: called on every rank within an epoch, every `scale.checkpoint_every_steps`
            steps.

    Raises:
        ConfigError: recipe and scale cannot work.
        SampleError: a sample cannot be read.
        LoaderError: a loader process died.
        TrainingError: the loss is no longer finite.
    """
    run = _Run(task, scale, Place(rank, world_size, torch.device(device)), start, run_id)
    try:
        return run.train(on_epoch, on_step, on_checkpoint)
    finally:
        run.close()


class _Run:
    """One rank's part of a training."""

    def __init__(
        self, task: Task, scale: Scale, place: Place, start: State | None, run_id: str | None
    ) -> None:
        self.task, self.scale, self.place = task, scale, place
        self.rank, self.world_size, device = place
        self.device, self.recipe = device, task.recipe
        self.precision = training_precision(self.recipe)
        check_precision(self.recipe, "training.amp", self.precision, device)
        check_compiler(self.recipe, scale)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # nothing here reads unwritten memory
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        self.run_id = run_id
        self.samples = task.samples("train", "train")
        self.plan = BatchPlan(self.recipe, len(self.samples), self.rank, self.world_size)
        self.pool = WorkerPool(scale.loader_workers) if scale.loader_workers else 0
        self.loader = self._loader(self.samples)
        self.validation: tuple[Samples, Loader] | None = None
        _seed(self.recipe.training.seed, 0, 0, 0)  # the same fresh weights on every rank
        self.model = synchronised(task.model().to(device), self.recipe, self.world_size, device)
        freeze_batch_norms(self.model, self.recipe)
        self.rate = LearningRate(self.recipe, self.plan.steps)
        self.optimizer = build_optimizer(self.model, self.recipe.optimizer)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.recipe.training.amp == "fp16")
        decay = self.recipe.training.ema_decay
        self.average = (
            WeightAverage(self.model, decay, self.recipe.training.ema_warmup) if decay else None
        )
        self.epochs_done, self.step, self.best = 0, 0, None if start is None else start.best
        self.history: list[dict[str, float]] = []
        self.tally, self.tallies = Tally(), list[dict[str, Any]]()
        if start is not None:
            self._restore(start)
        recomputing(self.model, self.recipe)
        compiling(self.model, scale)
        self.wrapped = self._wrap()

    def _loader(self, samples: Samples) -> Loader:
        return Loader(samples, self.task.collate, self.pool, pin_memory=self.device.type == "cuda")

    # ----------------------------------------------------------------------------------------------
    # state

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
        self.tally = Tally.restored(start.step_in_epoch, start.tallies, self.rank, self.world_size)

    def state(self) -> State:
        """The state after the last finished epoch, or at the step of `on_checkpoint`; its tensors
        are the live ones.
        """
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
            step_in_epoch=self.tally.steps if self.tallies else 0,
            tallies=self.tallies,
        )

    def save(self, folder: Path) -> None:
        """Write the state into a folder, on rank 0."""
        if self.rank == 0:
            save_state(self.state(), folder)

    def close(self) -> None:
        """End the loader processes."""
        if isinstance(self.pool, WorkerPool):
            self.pool.close()

    # ----------------------------------------------------------------------------------------------
    # training

    def train(
        self, on_epoch: OnEpoch | None, on_step: OnStep | None, on_checkpoint: OnCheckpoint | None
    ) -> State:
        """Run the epochs that are left."""
        training = self.recipe.training
        for epoch in range(self.epochs_done + 1, training.epochs + 1):
            began = time.perf_counter() - self.tally.seconds
            metrics = self._epoch(epoch, on_step, on_checkpoint)
            if epoch % training.evaluate_every == 0 or epoch == training.epochs:
                metrics |= self._validate()
            metrics["seconds"] = time.perf_counter() - began
            self.epochs_done = epoch
            self.history.append({"epoch": float(epoch), **metrics})
            if on_epoch is not None:
                on_epoch(EpochReport(epoch, training.epochs, metrics), self.save)
        return self.state()

    def _epoch(
        self, epoch: int, on_step: OnStep | None, on_checkpoint: OnCheckpoint | None
    ) -> dict[str, float]:
        """Run the steps of an epoch that are left, and return the metrics of all of them."""
        self.samples.set_epoch(epoch)
        self.wrapped.train()
        freeze_batch_norms(self.model, self.recipe)
        plan, tally = self.plan.epoch(epoch), self.tally
        batches = _Timed(
            self.loader.epoch([micro for step in plan[tally.steps :] for micro in step]),
            tally.waited,
        )
        began, rate, every = (
            time.perf_counter() - tally.seconds,
            0.0,
            self.scale.checkpoint_every_steps,
        )
        for index, step in list(enumerate(plan, 1))[tally.steps :]:
            _seed(self.recipe.training.seed, epoch, self.rank, index)
            rate = self.rate.apply(self.optimizer, self.step)
            self._step(step, batches, tally.totals)
            self.step += 1
            tally.add(sum(map(len, step)), time.perf_counter() - began, batches.waited)
            report = (
                StepReport(epoch, self.recipe.training.epochs, index, len(plan), tally.loss)
                if on_step or on_checkpoint
                else None
            )
            if on_step is not None and report is not None and self.rank == 0:
                on_step(report)
            if (
                on_checkpoint is not None
                and report is not None
                and every
                and index % every == 0
                and index < len(plan)
            ):
                self._within(report, on_checkpoint)
        count = self.plan.steps * self.plan.batch_size
        metrics = self._means(tally.totals, count)
        _check_loss(epoch, metrics["loss"])
        self.tally = Tally()
        return {
            **metrics,
            "lr": rate,
            "samples_per_s": count * self.plan.copies / tally.seconds,
            "data_wait_share": tally.waited / tally.seconds,
        }

    def _within(self, report: StepReport, on_checkpoint: OnCheckpoint) -> None:
        """Offer a checkpoint in the middle of an epoch: each rank's sums go into rank 0's file."""
        self.tallies = gathered(self.tally.state_dict(), self.world_size)
        # on all ranks alike
        _check_loss(report.epoch, sum(own["totals"]["loss"] for own in self.tallies))
        on_checkpoint(report, self.save)
        self.tallies = []

    def _step(self, step: list[list[int]], batches: _Timed, totals: dict[str, Tensor]) -> None:
        """One optimizer step: the mean over the global batch, whatever its split into micro-batches
        and ranks.
        """
        self.optimizer.zero_grad(set_to_none=True)
        for index, micro in enumerate(step):
            batch = to_device(next(batches), self.device)
            last = index == len(step) - 1
            with self._unsynchronised(last), autocast(self.device, self.precision):
                losses = self.task.losses(self.wrapped, batch)
                # DDP averages over the ranks: the factor undoes that and makes every sample count
                # the same
                share = len(micro) * self.world_size / self.plan.batch_size
                self.scaler.scale(losses["loss"] * share).backward()
            for name, value in losses.items():
                totals[name] = totals.get(
                    name, torch.zeros((), device=self.device)
                ) + value.detach().float() * len(micro)
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

    def _means(self, totals: dict[str, Tensor], count: int) -> dict[str, float]:
        names = sorted(totals)
        sums = torch.stack([totals[name] for name in names]).double()
        if self.world_size > 1:
            dist.all_reduce(sums)
        return {name: value / count for name, value in zip(names, sums.tolist(), strict=True)}

    # ----------------------------------------------------------------------------------------------
    # validation

    def _validate(self) -> dict[str, float]:
        model = self.model
        if self.average is not None:
            model = copy.deepcopy(model)
            model.load_state_dict(self.average.weights)
        if self.world_size > 1:
            # each rank has its own batch-norm statistics; rank 0's are the ones that are kept
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)
        if self.validation is None:
            samples = self.task.samples("val", "validate")
            self.validation = samples, self._loader(samples)
        samples, loader = self.validation
        metric = self.task.metric("val")
        metric.update(
            predict(
                self.task,
                model,
                samples,
                place=self.place,
                precision=self.precision,
                workers=loader,
            )
        )
        metrics = metric.compute()
        watched = self.recipe.gate.metric
        if watched in metrics:
            self.best = metrics[watched] if self.best is None else max(self.best, metrics[watched])
            metrics[f"best_{watched}"] = self.best
        return metrics


class _Timed:
    """An iterator that adds up the time its consumer waits."""

    def __init__(self, source: Iterator[Any], waited: float) -> None:
        self._source = source
        self.waited = waited

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            return next(self._source)
        finally:
            self.waited += time.perf_counter() - began


def _seed(seed: int, epoch: int, rank: int, step: int) -> None:
    """Seed python, numpy and torch (all devices) from one number that no other epoch, rank or step
    has.
    """
    value = int(np.random.SeedSequence((seed, epoch, rank, step)).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def _check_loss(epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"epoch {epoch}: the loss is {loss}; lower optimizer.lr or set optimizer.clip_grad_norm"
        )


def check_recipe(task: Task, scale: Scale) -> None:
    """Raise ConfigError for a batch size, worker number, precision or compilation that cannot work;
    called before workers are started.
    """
    check_precision(
        task.recipe, "training.amp", training_precision(task.recipe), wanted_device(scale)
    )
    check_compiler(task.recipe, scale)
    BatchPlan(task.recipe, len(task.samples("train", "train")), 0, scale.num_workers)
