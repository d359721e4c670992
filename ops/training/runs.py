"""The folder of a training: what names it, and the record that says it is finished."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from configs import versions
from configs.schema import Dataset, Recipe, content_hash
from ops.store.files import exists, read_bytes, write_bytes
from ops.store.layout import Layout
from ops.tasks.protocol import Task, Vocabulary, build

WEIGHTS, RECIPE, VOCABULARY, RECORD = "model.safetensors", "recipe.json", "vocabulary.json", "complete.json"


@dataclass(frozen=True)
class RunPlan:
    """A training before it starts. `run_key` hashes the recipe, the frozen sample list and the code version."""

    run_key: str
    run_dir: str
    data_version: str
    coverage: dict[str, float]


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    `metrics` are those of the last epoch, `history` those of every epoch, `seconds` the time of all epochs together, also of
    those before a resume. `resumed_from` is the number of epochs that the last start found done, None when it found none.
    """

    run_dir: str
    run_key: str
    weights_uri: str
    run_id: str | None
    data_version: str
    metrics: dict[str, float]
    epochs: int
    seconds: float
    resumed_from: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)


def plan_run(recipe: Recipe, layout: Layout, dataset: Dataset | None = None) -> RunPlan:
    """Name the training of this recipe on the data as it is. Raises ConfigError, DataError for what cannot be trained."""
    task = build(recipe, layout, dataset)
    task.check()
    return plan_of(task, layout)


def plan_of(task: Task, layout: Layout) -> RunPlan:
    """The plan of a task that was checked."""
    recipe, data_version = task.recipe, task.data_version()
    run_key = content_hash([recipe.key(), data_version, versions.TRAINING])
    return RunPlan(run_key, layout.run(recipe.name, run_key), data_version, task.coverage())


def finished(run_dir: str) -> TrainResult | None:
    """The record of a finished training, None when there is none or its weights are gone."""
    try:
        record = json.loads(read_bytes(f"{run_dir}/{RECORD}"))
    except FileNotFoundError:
        return None
    # The folder may have been moved since: places are told anew.
    return TrainResult(**{**record, "run_dir": run_dir, "weights_uri": f"{run_dir}/{WEIGHTS}"}) if exists(f"{run_dir}/{WEIGHTS}") else None


def finish(result: TrainResult, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Write recipe and vocabulary and then the record; the weights are there already."""
    write_bytes(f"{result.run_dir}/{VOCABULARY}", json.dumps(vocabulary, ensure_ascii=False, indent=1).encode())
    write_bytes(f"{result.run_dir}/{RECIPE}", recipe.model_dump_json(indent=1).encode())
    write_bytes(f"{result.run_dir}/{RECORD}", json.dumps(asdict(result), indent=1).encode())
