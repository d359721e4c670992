"""One MLflow run per training: found or made by its run key, continued when the training is
resumed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import yaml
from mlflow.entities import Metric, Param, Run, RunTag, ViewType

from configs.schema import Recipe
from configs.settings import Settings
from ops.tracking.connect import (
    absolute,
    client,
    creation_lock,
    dagster_url,
    experiment,
    lock,
    run_url,
)
from ops.tracking.revision import git_revision

RUN_KEY = "kinograph.run_key"
MAX_PARAM = 500  # characters; MLflow's own limit is 6000, and its tables show far fewer
PARAMS_PER_CALL = 100  # MLflow's limits
METRICS_PER_CALL = 1000
SYSTEM_INTERVAL_S = 5.0

Status = Literal["FINISHED", "FAILED", "KILLED"]

__all__ = ["RunLogger", "find_run", "flatten", "metric_name", "open_run", "run_url"]


def metric_name(text: str) -> str:
    """The text with every character that MLflow refuses in a metric's name replaced by '_'."""
    return re.sub(r"[^\w./ -]", "_", text)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as 'a.b.c' -> text of at most MAX_PARAM characters; lists stay whole, None
    and '' become 'none'.
    """
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            flat |= flatten(item, f"{name}.")
            continue
        text = "none" if item in (None, "", {}) else str(item)
        flat[metric_name(name)] = text if len(text) <= MAX_PARAM else text[: MAX_PARAM - 3] + "..."
    return flat


@dataclass(frozen=True)
class RunLogger:
    """Writes into one MLflow run from any process: picklable, small, without an open connection."""

    run_id: str
    tracking_uri: str = field(repr=False)  # it may hold a password
    experiment_id: str
    url: str = ""

    def run(self) -> Run:
        """The run as MLflow holds it now."""
        return client(self.tracking_uri).get_run(self.run_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Write the metrics of one step in one call (about 24 ms over HTTP, however many they
        are).
        """
        now = int(time.time() * 1000)
        rows = [Metric(metric_name(key), float(value), now, step) for key, value in metrics.items()]
        for start in range(0, len(rows), METRICS_PER_CALL):
            client(self.tracking_uri).log_batch(
                self.run_id, metrics=rows[start : start + METRICS_PER_CALL]
            )

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write an epoch's metrics, once: those that the run already holds for this or a later
        epoch stay as they are.

        A worker that dies after its report repeats the epoch on resuming; the seeds make it the
        same epoch.
        """
        held = {metric.key: metric.step for metric in self.run().data._metric_objs}
        fresh = {
            key: value for key, value in metrics.items() if held.get(metric_name(key), -1) < epoch
        }
        self.log_metrics(fresh, step=epoch)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Write parameters that the run does not hold yet; MLflow never changes one."""
        held = self.run().data.params
        rows = [Param(key, value) for key, value in flatten(params).items() if key not in held]
        for start in range(0, len(rows), PARAMS_PER_CALL):
            client(self.tracking_uri).log_batch(
                self.run_id, params=rows[start : start + PARAMS_PER_CALL]
            )

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Write or replace tags."""
        client(self.tracking_uri).log_batch(
            self.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()]
        )

    def log_text(self, text: str, path: str) -> None:
        """Write an artifact from text; `path` is below the run's artifact root."""
        self.log_bytes(text.encode(), path)

    def log_bytes(self, data: bytes, path: str) -> None:
        """Write an artifact from bytes."""
        folder, _, name = path.rpartition("/")
        with TemporaryDirectory() as scratch:
            local = Path(scratch, name)
            local.write_bytes(data)
            client(self.tracking_uri).log_artifact(self.run_id, str(local), folder or None)

    def history(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of one metric in the order of the steps; one value a step, the newest."""
        rows = sorted(
            client(self.tracking_uri).get_metric_history(self.run_id, metric_name(key)),
            key=lambda row: (row.step, row.timestamp),
        )
        return sorted({row.step: row.value for row in rows}.items())

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Histories of all metrics with more than one step, system metrics left out."""
        keys = [
            metric.key
            for metric in self.run().data._metric_objs
            if metric.step > 0 and not metric.key.startswith("system/")
        ]
        return {key: self.history(key) for key in sorted(keys)}

    @contextmanager
    def system_metrics(self, interval_s: float = SYSTEM_INTERVAL_S) -> Iterator[None]:
        """Sample processor, memory, disk, network (and GPU where NVML is installed) of this machine
        while the block runs.
        """
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            self.run_id,
            sampling_interval=interval_s,
            resume_logging=True,
            tracking_uri=self.tracking_uri,
        )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the run when the block ends: FINISHED, KILLED by an interrupt, FAILED by any other
        error.
        """
        try:
            yield
        except BaseException as error:
            self.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self.finish("FINISHED")

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run. A killed process closes nothing: its run stays RUNNING, and the resumed
        training continues it.
        """
        client(self.tracking_uri).set_terminated(self.run_id, status)


def find_run(settings: Settings, run_key: str) -> RunLogger | None:
    """The run of this training, or None. Changes nothing."""
    store = client(settings.tracking_uri)
    experiments = [found.experiment_id for found in store.search_experiments()]
    runs = store.search_runs(
        experiments,
        f"tags.`{RUN_KEY}` = '{run_key}'",
        order_by=["attributes.start_time ASC"],
        max_results=1,
    )
    return _logger(settings, runs[0]) if runs else None


def _undeleted(settings: Settings, run_key: str) -> RunLogger | None:
    """The training's run that somebody deleted, restored: versions of models point at it."""
    store = client(settings.tracking_uri)
    experiments = [found.experiment_id for found in store.search_experiments()]
    runs = store.search_runs(
        experiments,
        f"tags.`{RUN_KEY}` = '{run_key}'",
        run_view_type=ViewType.DELETED_ONLY,
        max_results=1,
    )
    if not runs:
        return None
    store.restore_run(runs[0].info.run_id)
    return _logger(settings, store.get_run(runs[0].info.run_id))


def open_run(
    recipe: Recipe,
    run_key: str,
    settings: Settings,
    tags: Mapping[str, object] | None = None,
    *,
    data_version: str | None = None,
    coverage: Mapping[str, float] | None = None,
    dagster_run_id: str | None = None,
) -> RunLogger:
    """The MLflow run of this training, RUNNING: made if there is none, continued if there is one,
    taken out of the bin where it lies there. Never called for a finished training, which writes
    nothing.

    Args:
        recipe: becomes the run's parameters, its note and recipe.yaml.
        run_key: names the training (recipe, data, code).
        settings: name the tracking store, and the UIs for the links.
        tags: set beside our own, in place of one of the same name.
        data_version: kept as a tag; None leaves it out.
        coverage: shares or counts that say how much of the dataset was usable, logged as
            `coverage/...`.
        dagster_run_id: the run is linked to; None where Dagster does not run this.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    store = client(settings.tracking_uri)
    links = _links(settings, dagster_run_id)
    own = {**_tags(recipe, run_key, data_version), **links, **(tags or {})}
    with lock(creation_lock(settings)):
        logger = find_run(settings, run_key) or _undeleted(settings, run_key)
        if logger is None:
            home = experiment(settings, recipe.task)
            made = store.create_run(
                home.experiment_id,
                tags={key: str(value) for key, value in own.items()},
                run_name=recipe.name,
            )
            logger = _logger(settings, made)
    run = logger.run()
    if run.info.status != "RUNNING":
        store.update_run(logger.run_id, status="RUNNING")
    logger.set_tags({**own, "mlflow.note.content": _note(recipe, links)})
    logger.log_params(recipe.model_dump(mode="json", exclude={"about", "published"}))
    if coverage:
        logger.log_metrics({f"coverage/{key}": value for key, value in coverage.items()})
    logger.log_text(
        yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "recipe.yaml",
    )
    return logger


def _logger(settings: Settings, run: Run) -> RunLogger:
    url = run_url(settings, run.info.run_id, run.info.experiment_id)
    return RunLogger(run.info.run_id, absolute(settings.tracking_uri), run.info.experiment_id, url)


def _tags(recipe: Recipe, run_key: str, data_version: str | None) -> dict[str, str]:
    revision = git_revision()
    return {
        RUN_KEY: run_key,
        "kinograph.recipe": recipe.name,
        "kinograph.recipe_key": recipe.key(),
        "kinograph.dataset": recipe.dataset,
        "kinograph.git_revision": revision,
        "mlflow.source.git.commit": revision.removesuffix("-dirty"),
        "mlflow.source.name": "kinograph",
        **({"kinograph.data_version": data_version} if data_version else {}),
    }


def _links(settings: Settings, dagster_run_id: str | None) -> dict[str, str]:
    if not dagster_run_id:
        return {}
    return {
        "kinograph.dagster_run_id": dagster_run_id,
        "kinograph.dagster_run": dagster_url(settings, dagster_run_id),
    }


def _note(recipe: Recipe, links: Mapping[str, str]) -> str:
    """Markdown that the MLflow UI shows on top of the run."""
    link = f"\n\n[Dagster run]({links['kinograph.dagster_run']})" if links else ""
    return f"{recipe.about}{link}"
