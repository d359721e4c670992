"""The folder of a training: what names it, and the record that says it is finished."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, TypeVar

import configs
from configs import versions
from configs.loading import validated
from configs.schema import RECIPES, ConfigError, Dataset, Provenance, Recipe, Strict, content_hash
from ops.files.download import check_address
from ops.files.storage import (
    filesystem,
    is_local,
    local_copy,
    read_bytes,
    read_json,
    retry,
    sha256_of,
    write_bytes,
)
from ops.store.layout import Layout
from ops.training.task import Task, Vocabulary, build

WEIGHTS, RECIPE, VOCABULARY, PROVENANCE, RECORD = (
    "model.safetensors", "recipe.json", "vocabulary.json", "provenance.json", "complete.json",
)  # fmt: skip
FILES = (WEIGHTS, RECIPE, VOCABULARY)  # what the record vouches for
K = TypeVar("K", bound=Strict)


@dataclass(frozen=True)
class RunPlan:
    """A training before it starts. `run_key` hashes the recipe, the frozen sample list and the code
    version.
    """

    run_key: str
    run_dir: str
    data_version: str
    coverage: dict[str, float]


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    `metrics` are those of the last epoch, `history` those of every epoch, `seconds` the time of all
    epochs together, also of those before a resume. `resumed_from` is the number of epochs that the
    last start found done, None when it found none.
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


class Prepared(NamedTuple):
    """A recipe's task with its tables read and checked, and the training that they make: what is
    handed from step to step.
    """

    task: Task
    plan: RunPlan
    layout: Layout
    dataset: Dataset


def prepare(recipe: Recipe, layout: Layout, dataset: Dataset | None = None) -> Prepared:
    """Read and check the recipe's data as it is, and name its training.

    Args:
        recipe: its content is part of the training's name.
        layout: of the store that has the data, and the run folders.
        dataset: defaults to the one that the recipe names.

    Raises:
        ConfigError: the recipe does not fit the data.
        DataError: the data cannot be trained on.
    """
    check_address(recipe)
    dataset = dataset or configs.dataset(recipe.dataset)
    task = build(recipe, layout, dataset)
    task.check()
    data_version = task.data_version()
    run_key = content_hash([recipe.key(), data_version, versions.TRAINING])
    return Prepared(
        task,
        RunPlan(run_key, layout.run(recipe.name, run_key), data_version, task.coverage()),
        layout,
        dataset,
    )


def plan_run(recipe: Recipe, layout: Layout, dataset: Dataset | None = None) -> RunPlan:
    """The training of this recipe on the data as it is, where nothing else is wanted of the data.
    Takes and raises what `prepare` does.
    """
    return prepare(recipe, layout, dataset).plan


def finished(run_dir: str) -> TrainResult | None:
    """The record of a finished training, None when there is none or its weights are gone or cut
    short.
    """
    record = _record(run_dir)
    if record is None:
        return None
    found, wanted = size_of(f"{run_dir}/{WEIGHTS}"), record.pop("files", {}).get(WEIGHTS)
    if found is None or (wanted is not None and found != wanted["bytes"]):
        return None
    # The folder may have been moved since: places are told anew.
    return TrainResult(**{**record, "run_dir": run_dir, "weights_uri": f"{run_dir}/{WEIGHTS}"})


def finish(
    result: TrainResult,
    recipe: Recipe,
    vocabulary: Vocabulary,
    provenance: Provenance | None = None,
) -> None:
    """Write recipe, vocabulary and provenance and then the record, which knows size and sha256 of
    each.

    Args:
        result: becomes the record; the weights are in its `run_dir` already.
        recipe: that was trained.
        vocabulary: the names that the model's classes stand for, as its task gives them.
        provenance: None writes none.
    """
    write_bytes(
        f"{result.run_dir}/{VOCABULARY}",
        json.dumps(vocabulary, ensure_ascii=False, indent=1).encode(),
    )
    write_bytes(f"{result.run_dir}/{RECIPE}", recipe.model_dump_json(indent=1).encode())
    if provenance is not None:
        write_bytes(f"{result.run_dir}/{PROVENANCE}", provenance.model_dump_json(indent=1).encode())
    files = {
        name: stamp for name in FILES if (stamp := _stamp(f"{result.run_dir}/{name}")) is not None
    }
    write_bytes(
        f"{result.run_dir}/{RECORD}",
        json.dumps({**asdict(result), "files": files}, indent=1).encode(),
    )


def read_as(kind: type[K], uri: str) -> K:
    """A recipe.json or provenance.json. Raises ConfigError for one of another form, StorageError
    for one that is cut short too, FileNotFoundError.
    """
    return validated(kind, _mapping(uri), uri)


def read_recipe(uri: str) -> Recipe:
    """The recipe of a recipe.json. Raises ConfigError for a task that is not known here and for
    fields that it does not have, StorageError for a file that is cut short too, FileNotFoundError.
    """
    value = read_json(uri)
    task = value.get("task") if isinstance(value, dict) else None
    kind = RECIPES.get(task) if isinstance(task, str) else None
    if kind is None:
        raise ConfigError(uri, "task", task, ", ".join(RECIPES))
    return validated(kind, value, uri)


def read_words(uri: str) -> Vocabulary:
    """A vocabulary.json. Raises ConfigError for one of another form, StorageError for one that is
    cut short too, FileNotFoundError.
    """
    words = _mapping(uri)
    if not isinstance(words.get("labels"), list):
        raise ConfigError(uri, "labels", type(words.get("labels")).__name__, "a list of labels")
    return words


def _mapping(uri: str) -> dict[str, Any]:
    value = read_json(uri)
    if not isinstance(value, dict):
        raise ConfigError(uri, "(whole file)", type(value).__name__, "a mapping")
    return value


def checksums(run_dir: str) -> dict[str, str]:
    """sha256 by name of the files that the record vouches for; empty for records of before."""
    return {
        name: stamp["sha256"] for name, stamp in (_record(run_dir) or {}).get("files", {}).items()
    }


def damage(run_dir: str) -> list[str]:
    """What of a finished training's folder is not as it was written, in words; empty when all is
    there.

    Sizes are compared everywhere, contents where the folder is on this machine, and those of the
    small files anywhere.
    """
    record = _record(run_dir)
    if record is None:
        return [f"{RECORD} is missing"]
    problems = []
    for name in FILES:
        uri, wanted = f"{run_dir}/{name}", record.get("files", {}).get(name)
        found = size_of(uri)
        if found is None:
            problems.append(f"{name} is missing")
        elif wanted is not None and found != wanted["bytes"]:
            problems.append(f"{name} has {found} bytes of {wanted['bytes']}")
        elif (
            wanted is not None
            and (name != WEIGHTS or is_local(uri))
            and _sha256(uri) != wanted["sha256"]
        ):
            problems.append(f"{name} is not what was written (sha256)")
    return problems


def size_of(uri: str) -> int | None:
    """Bytes of a file, None where there is none. Raises StorageError."""
    system, path = filesystem(uri)
    try:
        return int(retry(uri, lambda: system.info(path))["size"])
    except FileNotFoundError:
        return None


def _record(run_dir: str) -> dict[str, Any] | None:
    try:
        record = json.loads(read_bytes(f"{run_dir}/{RECORD}"))
    except (FileNotFoundError, ValueError):  # none, or a damaged one
        return None
    return record if isinstance(record, dict) else None


def _stamp(uri: str) -> dict[str, Any] | None:
    size = size_of(uri)
    return None if size is None else {"bytes": size, "sha256": _sha256(uri)}


def _sha256(uri: str) -> str:
    if not is_local(uri) and not uri.endswith(WEIGHTS):
        return hashlib.sha256(read_bytes(uri)).hexdigest()
    with local_copy(uri) as path:
        return sha256_of(path)
