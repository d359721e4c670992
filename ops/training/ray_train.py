"""A training under Ray Train: workers, failures, checkpoints on the storage path, and one record
when it is finished.

The same recipe, data and code give the same run folder, and a training that finds checkpoints there
goes on from the newest. Ray's snapshot in the run folder says which checkpoints are whole.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from safetensors.torch import save as to_safetensors

from configs.errors import KinographError
from configs.schema import ConfigError, Dataset, Recipe
from configs.settings import Settings
from models.checkpoints import PublishedWeightsError
from models.errors import ModelConfigError
from ops.compute.cluster import connect, interrupt_handler_kept
from ops.compute.progress import progress_bar
from ops.data.errors import DataError
from ops.files.storage import exists, list_files, local_copy, read_bytes, remove, write_bytes
from ops.store.layout import Layout
from ops.store.threads import set_decode_threads
from ops.training.callbacks import EpochLogger, EpochReport, Save, StepReport, TrainingError
from ops.training.checkpoint import FILE, CheckpointError, State, load_state
from ops.training.loop import check_recipe, fit
from ops.training.progress import Display, ProgressFile, followed
from ops.training.run_folder import (
    WEIGHTS,
    Prepared,
    RunPlan,
    TrainResult,
    finish,
    finished,
    prepare,
)
from ops.training.task import build

SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's own name
KEPT = 2  # checkpoints
# Mistakes that every rank finds alike and that a restart would only repeat.
FINAL = (
    ConfigError,
    DataError,
    ModelConfigError,
    PublishedWeightsError,
    CheckpointError,
    TrainingError,
)


class TrainingInputError(KinographError, ValueError):
    """A user's mistake that only a worker could see; the message is the worker's."""


@dataclass(frozen=True)
class Job:
    """What a worker gets."""

    recipe: Recipe
    dataset: Dataset
    layout: Layout
    plan: RunPlan
    start: str | None
    logger: EpochLogger | None


def train(
    recipe: Recipe,
    layout: Layout,
    settings: Settings,
    run_logger: EpochLogger | None = None,
    *,
    dataset: Dataset | None = None,
    prepared: Prepared | None = None,
) -> TrainResult:
    """Train the recipe, or return the record of the training that has been finished already.

    A killed training goes on from its last checkpoint and ends in the same weights.

    Args:
        recipe: what is trained; its content and the data's name the training.
        layout: of the store that has the data and gets the run folder.
        settings: name the Ray cluster; without an address it is this machine.
        run_logger: is told of every epoch; None logs nothing.
        dataset: defaults to the one that the recipe names.
        prepared: what was read of the data already; None reads it now.

    Raises:
        ValueError: a subclass of it, for a user's mistake.
        CheckpointError: a checkpoint is damaged.
        StorageError: a store does not answer.
        TrainingError: the workers failed more often than `scale.max_failures` allows.
    """
    task, plan, _, dataset = prepared or prepare(recipe, layout, dataset)
    done = finished(plan.run_dir)
    if done is not None:
        return done
    check_recipe(task, recipe.scale)
    start = resume_point(plan.run_dir, recipe.key())
    with progress_bar(recipe.name, "steps") as bar:
        display = Display(recipe.name, bar)
        display.note(
            f"{'resuming' if start else 'training'} with {recipe.scale.num_workers} worker(s) in"
            f" {plan.run_dir}"
        )
        connect(settings, recipe.scale)
        with followed(plan.run_dir, display):
            summary = _run(
                Job(recipe, dataset, layout, plan, start, run_logger),
                local=settings.ray_address is None,
            )
    result = TrainResult(
        run_dir=plan.run_dir,
        run_key=plan.run_key,
        weights_uri=f"{plan.run_dir}/{WEIGHTS}",
        run_id=run_logger.run_id if run_logger else None,
        data_version=plan.data_version,
        **summary,
    )
    finish(result, recipe, task.vocabulary(), task.provenance())
    return result


# --------------------------------------------------------------------------------------------------
# driver


def _run(job: Job, local: bool) -> dict[str, Any]:
    """Run the workers and return rank 0's summary."""
    scale = job.recipe.scale
    storage_path, _, name = job.plan.run_dir.rpartition("/")
    kind = _LocalTrainer if local else TorchTrainer
    trainer = kind(
        _work,  # type: ignore[arg-type]  # Ray allows a result, its annotation does not
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if scale.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=scale.num_workers,
            use_gpu=scale.use_gpu,
            resources_per_worker=_resources(job.recipe),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage_path,
            failure_config=ray.train.FailureConfig(max_failures=scale.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT),
        ),
    )
    advice = (
        f"run the same command again to continue from the last checkpoint in {job.plan.run_dir}"
    )
    try:
        with interrupt_handler_kept():
            summary = trainer.fit().return_value  # type: ignore[attr-defined]
    except ray.train.TrainingFailedError as error:
        raise TrainingError(f"recipe '{job.recipe.name}': {_cause(error)}; {advice}") from error
    except ray.exceptions.RayActorError as error:
        raise TrainingError(
            f"recipe '{job.recipe.name}': the training was stopped; {advice}"
        ) from error
    if summary is None:
        raise TrainingError(
            f"recipe '{job.recipe.name}': the workers ended without a result; {advice}"
        )
    if "mistake" in summary:
        raise TrainingInputError(summary["mistake"])
    if "error" in summary:
        raise TrainingError(summary["error"])
    return summary


def _resources(recipe: Recipe) -> dict[str, float]:
    scale = recipe.scale
    return {"CPU": scale.cpus_per_worker, **({"GPU": 1.0} if scale.use_gpu else {})}


def _cause(error: ray.train.TrainingFailedError) -> str:
    """Type and last line of the first failed worker's error."""
    failures = getattr(error, "worker_failures", None) or {}
    if not failures:
        return str(error).strip()
    rank, failure = sorted(failures.items())[0]
    lines = [line for line in str(failure).strip().splitlines() if line.strip()]
    return (
        f"worker {rank} failed with {type(failure).__name__}:"
        f" {lines[-1].strip() if lines else 'no message'}"
    )


def resume_point(run_dir: str, recipe_key: str) -> str | None:
    """URI of the checkpoint that the next start goes on from, None for a fresh start.

    Ray's snapshot names the whole checkpoints. Where it is cut short, or names one that is gone, it
    is removed and the newest folder that can be read takes its place. Raises CheckpointError when
    the snapshot's newest checkpoint is damaged.
    """
    uri = f"{run_dir}/{SNAPSHOT}"
    try:
        names = [
            entry["checkpoint_dir_name"]
            for entry in json.loads(read_bytes(uri))["checkpoint_results"]
        ]
    except FileNotFoundError:
        names = []
    except (ValueError, KeyError, TypeError):
        names = [""]  # the writing of the snapshot was cut short
    if names and all(name and exists(f"{run_dir}/{name}") for name in names):
        _verify(f"{run_dir}/{names[-1]}", recipe_key)
        return f"{run_dir}/{names[-1]}"
    remove(uri)
    for folder in reversed(_checkpoints(run_dir)):
        try:
            _verify(folder, recipe_key)
        except CheckpointError:
            continue  # its upload was cut short: it never counted
        return folder
    return None


def _checkpoints(run_dir: str) -> list[str]:
    return sorted(
        {
            file.uri.rpartition("/")[0]
            for file in list_files(run_dir)
            if file.path_below.endswith(f"/{FILE}")
        }
    )


def _verify(folder: str, recipe_key: str) -> State:
    try:
        with (
            local_copy(f"{folder}/{FILE}") as path,
            tempfile.TemporaryDirectory(prefix="kinograph-") as named,
        ):
            Path(named, FILE).symlink_to(path.resolve())  # a copy has a name of its own
            return load_state(Path(named), recipe_key, shown_as=folder)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}/{FILE}: no such file; delete the folder {folder}"
        ) from error


class _LocalTrainer(TorchTrainer):
    """Without the actor that clears up after a dead controller: it asks the dashboard every second,
    and a local Ray ends with us.
    """

    def _create_default_callbacks(self) -> list[Any]:
        # seen by the interpreter, not by the annotations
        usual = super()._create_default_callbacks()  # type: ignore[misc]
        return [
            callback
            for callback in usual
            if not isinstance(callback, PlacementGroupCleanerCallback)
        ]


# --------------------------------------------------------------------------------------------------
# worker


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """One worker: train, write the weights, and return what the record says of it."""
    try:
        return _train_and_publish(config["job"])
    except FINAL as error:
        return {"mistake" if isinstance(error, ValueError) else "error": str(error)}


def _train_and_publish(job: Job) -> dict[str, Any]:
    context = ray.train.get_context()
    rank, recipe = context.get_world_rank(), job.recipe
    if not recipe.scale.use_gpu:
        # fixed, as sums depend on it in their last bits
        torch.set_num_threads(max(1, int(recipe.scale.cpus_per_worker)))
    set_decode_threads(max(1, int(recipe.scale.cpus_per_worker)))
    task = build(recipe, job.layout, job.dataset)
    if task.data_version() != job.plan.data_version:
        raise TrainingError(
            f"dataset '{job.dataset.name}' changed while its training was starting; start it again"
        )
    start = _start_state(job)
    reporter = _Reporter(job, rank)
    logger = job.logger if rank == 0 else None
    with logger.system_metrics() if logger else nullcontext():
        state = fit(
            task,
            recipe.scale,
            rank=rank,
            world_size=context.get_world_size(),
            device=ray.train.torch.get_device(),
            start=start,
            run_id=job.logger.run_id if job.logger else None,
            on_epoch=reporter.epoch,
            on_step=reporter.step,
            on_checkpoint=reporter.checkpoint,
        )
    if rank == 0:
        weights = {
            name: tensor.detach().cpu().contiguous() for name, tensor in state.weights.items()
        }
        write_bytes(f"{job.plan.run_dir}/{WEIGHTS}", to_safetensors(weights))
    last = {
        name: value for name, value in state.history[-1].items() if name not in ("epoch", "seconds")
    }
    seconds = sum(row["seconds"] for row in state.history)
    resumed = start.epoch if start else None
    return {
        "metrics": last,
        "epochs": state.epoch,
        "seconds": seconds,
        "resumed_from": resumed,
        "history": state.history,
    }


def _start_state(job: Job) -> State | None:
    """Ray's newest checkpoint, or the one that the driver found, or None."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            return load_state(Path(folder), job.recipe.key(), shown_as=checkpoint.path)
    return _verify(job.start, job.recipe.key()) if job.start else None


class _Reporter:
    """Hands epochs to the run logger, the progress file and Ray, in this order.

    Whoever dies between two of these repeats the epoch with the same result, and the logger keeps
    one entry of it.
    """

    def __init__(self, job: Job, rank: int) -> None:
        self.job, self.rank = job, rank
        self.progress = ProgressFile(job.plan.run_dir)

    def step(self, report: StepReport) -> None:
        """Show a step now and then."""
        self.progress.step(report)

    def epoch(self, report: EpochReport, save: Save) -> None:
        """Log the epoch, and store a checkpoint when one is due. Called on every rank, as Ray
        wants.
        """
        if self.rank == 0:
            if self.job.logger is not None:
                self.job.logger.log_epoch(report.epoch, report.metrics)
            self.progress.epoch(report)
        if report.epoch % self.job.recipe.scale.checkpoint_every and not report.final:
            return
        self._store(
            f"checkpoint_{report.epoch:06d}", save, {"epoch": report.epoch, **report.metrics}
        )

    def checkpoint(self, report: StepReport, save: Save) -> None:
        """Store a checkpoint in the middle of an epoch. Called on every rank. Names sort by age: it
        stands after the epoch before.
        """
        metrics = {"epoch": report.epoch - 1, "step_in_epoch": report.step, "loss": report.loss}
        self._store(f"checkpoint_{report.epoch - 1:06d}_{report.step:09d}", save, metrics)

    def _store(self, name: str, save: Save, metrics: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="kinograph-") as folder:
            save(Path(folder))
            checkpoint = ray.train.Checkpoint.from_directory(folder) if self.rank == 0 else None
            ray.train.report(
                metrics,
                checkpoint=checkpoint,
                checkpoint_dir_name=name,
                delete_local_checkpoint_after_upload=False,
            )
