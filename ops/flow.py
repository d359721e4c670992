"""One recipe on its way from data to champion: train, evaluate, register, promote. Every step may be called again and does nothing twice.

Dagster's assets call these; so can a script or a notebook, without Dagster.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pyarrow.compute as pc

import configs
from configs import Settings, versions
from configs.schema import BUCKETS, PROBLEM_KINDS, ConfigError, Recipe, content_hash
from ops.annotations.read import AnnotationReport, annotate
from ops.checks import require_sound
from ops.evaluation.record import record
from ops.evaluation.scoring import Challenger, score_version, scored
from ops.figures.dataset import REPORT as FIGURES
from ops.figures.dataset import FiguresSize, parameters
from ops.mending import logged, look, mend_folder, relog
from ops.preflight.run import require
from ops.progress import progress_bar
from ops.store.files import StorageError, exists, list_files, read_bytes, read_json, remove, write_bytes
from ops.store.layout import Layout, array_below, arrays_of_ledger
from ops.store.manifest import read_manifest
from ops.store.tables import read_table
from ops.tasks.protocol import build
from ops.tracking.connect import check_reachable
from ops.tracking.mlflow_run import RunLogger, find_run, open_run
from ops.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    Decision,
    Registered,
    holder,
    promote,
    register,
    registered_run,
    reset_champion,
    standing,
)
from ops.training.runs import RECORD, TrainResult, finished, plan_run

LOOKED_AT = 16  # arrays of a dataset, before it is said that nothing is to do
NOUNS = {"recognition": "clips", "localization": "videos", "detection": "key frames", "parsing": "frames"}  # what is counted


@dataclass(frozen=True)
class Trained:
    """A finished training, and whether this call has done it."""

    result: TrainResult
    run: RunLogger
    trained_now: bool


@dataclass(frozen=True)
class Evaluated:
    """Metrics of the recipe's weights, PNG pictures by name, and the MLflow run that holds them."""

    metrics: dict[str, float]
    num_samples: int
    noun: str
    eval_set: str
    pictures: dict[str, bytes]
    run_url: str


def train_recipe(recipe: Recipe, layout: Layout, settings: Settings, dagster_run_id: str | None = None) -> Trained:
    """Train the recipe on the data as it is and log the model; a finished training is found, mended where files are gone, and left alone.

    Raises ValueError subclasses for what the user can mend, StorageError, TrainingError.
    """
    plan = plan_run(recipe, layout)
    mend_folder(recipe, plan, settings)
    done = finished(plan.run_dir)
    if done is None:
        require([recipe], layout, settings)
        require_sound(configs.dataset(recipe.dataset), layout)
    run = find_run(settings, plan.run_key) if done else None
    if run is None:
        run = open_run(
            recipe, plan.run_key, settings, data_version=plan.data_version, coverage=plan.coverage, dagster_run_id=dagster_run_id
        )
    result = done or _train(recipe, layout, settings, run)
    if done is not None:
        relog(done, run)
    # Also after a finished training: the process may have been killed between its record and the model, or files are gone.
    logged(recipe, build(recipe, layout), result, run, settings)
    if run.run().info.status == "RUNNING":
        run.finish()
    return Trained(result, run, trained_now=done is None)


def _train(recipe: Recipe, layout: Layout, settings: Settings, run: RunLogger) -> TrainResult:
    from ops.training.ray_train import train

    try:
        return train(recipe, layout, settings, run)
    except BaseException as error:  # also Ctrl-C and Dagster's "terminate": a run that nobody works on is not RUNNING
        with suppress(Exception):  # the tracking server may be what has gone away: the first error is the one to tell
            check_reachable(settings.tracking_uri)
            run.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise


def evaluate_recipe(recipe: Recipe, layout: Layout, settings: Settings) -> Evaluated:
    """Score the recipe's trained weights on the frozen validation set and keep the result in its MLflow run."""
    plan, run = _finished_run(recipe, layout, settings)
    evaluation = _evaluate(recipe, plan.weights_uri, layout)
    record(run, evaluation, recipe.name)
    pictures = {name.removesuffix(".png"): read_bytes(uri) for name, uri in evaluation.pictures.items()}
    return Evaluated(evaluation.metrics, evaluation.num_samples, evaluation.noun, evaluation.eval_set, pictures, run.url)


def register_recipe(recipe: Recipe, layout: Layout, settings: Settings) -> Registered:
    """Make the recipe's trained model a version of its registered model, with alias challenger."""
    plan, run = _finished_run(recipe, layout, settings)
    model = logged(recipe, build(recipe, layout), plan, run, settings)
    return register(run, model, recipe, plan.run_key, plan.weights_uri, settings)


def promote_recipe(recipe: Recipe, layout: Layout, settings: Settings) -> Decision:
    """Let the recipe's version face the champion on the same frozen set, and keep the decision on the version."""
    plan, _ = _finished_run(recipe, layout, settings)
    challenger = register_recipe(recipe, layout, settings)

    own, dataset = _evaluate(recipe, plan.weights_uri, layout), configs.dataset(recipe.dataset)
    beside = Challenger(recipe, plan.weights_uri)
    return promote(
        recipe.gate, challenger, scored(own), lambda version: score_version(version, layout, settings, dataset, beside), settings
    )


def _evaluate(recipe: Recipe, weights_uri: str, layout: Layout) -> Any:
    evaluate: Callable[..., Any] = import_module(f"ops.evaluation.{recipe.task}").evaluate
    with progress_bar("evaluate", NOUNS[recipe.task]) as progress:

        def told(done: int, total: int) -> None:
            progress(done, total)
            if done >= total:
                print(f"evaluate: all {total} {NOUNS[recipe.task]} seen; scores and pictures are made of them", flush=True)

        return evaluate(recipe, weights_uri, layout, progress=told)


def _finished_run(recipe: Recipe, layout: Layout, settings: Settings) -> tuple[TrainResult, RunLogger]:
    plan = plan_run(recipe, layout)
    result, run = finished(plan.run_dir), find_run(settings, plan.run_key)
    if result is None or run is None:
        missing = "no finished training" if result is None else "no MLflow run"
        raise ConfigError(f"recipe {recipe.name}", "trained_model", f"{missing} for the data as it is ({plan.run_dir})", "train it first")
    return result, run


# ------------------------------------------------------------------------------------------------- where it stands


@dataclass(frozen=True)
class Stands:
    """Where a recipe's model stands now: its metrics on the held-out set, its version with the alias it holds, and what the gate said."""

    metrics: dict[str, float]
    where: str
    reason: str


def stands(name: str, layout: Layout, settings: Settings) -> Stands:
    """By what store and registry hold now. Never raises for what a store, a registry or a person's hand may have done to them."""
    from mlflow.exceptions import MlflowException

    try:
        return _stands(configs.load(name), layout, settings)
    except (ValueError, OSError, LookupError, MlflowException) as error:
        return Stands({}, "-", f"cannot be told: {error}")


def _stands(recipe: Recipe, layout: Layout, settings: Settings) -> Stands:
    plan, model = plan_run(recipe, layout), recipe.gate.registered_model
    version = registered_run(model, plan.run_key, settings)
    if version is None:
        champion = holder(model, CHAMPION, settings)
        return Stands({}, "-", "not registered yet" + ("" if champion is None else f"; version {champion} of {model} is the champion"))
    decision = standing(recipe.gate, plan.run_key, settings)
    if decision is None:
        return Stands({}, f"{model} v{version.version}", "not decided yet, or the alias does not say what was decided")
    aliases = [f"@{alias}" for alias in (CHAMPION, CHALLENGER) if holder(model, alias, settings) == version.version]
    where = aliases[0] if aliases else "(champion before)" if decision.promoted else "(refused)"
    metrics = _kept_metrics(plan.run_dir, decision.eval_set) or {decision.metric: decision.challenger}
    return Stands(metrics, f"{model} v{version.version} {where}", decision.reason)


def set_aside(recipes: list[str], settings: Settings) -> None:
    """The champions of these recipes' registered models are not faced any more: the next model above its floor takes over."""
    for model in dict.fromkeys(configs.load(name).gate.registered_model for name in recipes):
        reset_champion(model, settings)


# ------------------------------------------------------------------------------------------------- what is left to do


def annotate_dataset(dataset: configs.Dataset, layout: Layout) -> AnnotationReport:
    """Read the dataset's annotation files into tables, and note as which files they were read."""
    sources = _sources(dataset, layout)
    remove(_sources_uri(dataset, layout))
    report = annotate(dataset, layout)
    write_bytes(_sources_uri(dataset, layout), sources.encode())
    return report


def _sources(dataset: configs.Dataset, layout: Layout) -> str:
    """Hash of the dataset's annotation files and of how they are read; of a folder the listing counts, of a file its content."""
    root = layout.dataset_root(dataset)
    paths = sorted({path for file in dataset.annotations for path in (file.path, file.labels, file.exclusions) if path})
    found = {path: _stamp(f"{root}/{path}") for path in paths}
    allow = [kind for kind in dataset.allow if kind in PROBLEM_KINDS]  # names of checks change nothing of what is read
    how = [[file.model_dump() for file in dataset.annotations], allow, dataset.expected]
    return content_hash([how, found, versions.ANNOTATIONS])


def _stamp(uri: str) -> str | None:
    if listed := list_files(uri):
        return content_hash([(info.path_below, info.bytes, info.modified) for info in listed])
    try:
        return hashlib.sha256(read_bytes(uri)).hexdigest()
    except FileNotFoundError:
        return None  # the reader will say so


def _sources_uri(dataset: configs.Dataset, layout: Layout) -> str:
    return layout.problem_table(dataset.name).removesuffix("problems.parquet") + "annotations.read"


def _read_sources(dataset: configs.Dataset, layout: Layout) -> str | None:
    try:
        return read_bytes(_sources_uri(dataset, layout)).decode()
    except FileNotFoundError:
        return None


def pending(dataset_name: str, recipes: list[str], settings: Settings, figures: dict[str, int] | None = None) -> list[str]:
    """What the line still has to do, in words; empty when every stage is up to date. Decodes, trains and writes nothing."""
    dataset, layout = configs.dataset(dataset_name), Layout(settings.storage)
    if dataset_name == "figures" and (why := figures_pending(layout, figures or {})):
        return [why]
    data = _data_pending(dataset, layout)
    if data:
        return data
    work: list[str] = []
    for name in recipes:
        recipe = configs.load(name)
        uses: str | None = getattr(recipe, "features", None)
        if uses and (work or (videos := _features_pending(configs.features(uses), layout, settings))):
            work += [f"make features {uses}" + ("" if work else f" of {videos} videos"), f"train {name}"]
        elif why := _recipe_pending(recipe, layout, settings):
            work.append(why)
    return work


LEAST = {"train": 1, "val": 1, "untrimmed": 3, "scenes": 3, "parts": 1}


def figures_size(**given: int | None) -> FiguresSize:
    """Size of the sample world by `train`, `val`, `untrimmed`, `scenes`, `parts`; None is the demo's, parts are cut to the number of clips.

    Raises ConfigError where a split would stay empty, and for another name.
    """
    usual = FiguresSize()
    for name in set(given) - set(LEAST):
        raise ConfigError("sample world", name, given[name], "one of " + ", ".join(LEAST))
    sizes = {name: getattr(usual, f"num_{name}") if given.get(name) is None else int(given[name] or 0) for name in LEAST}
    for name, least in LEAST.items():
        if sizes[name] < least:
            raise ConfigError("sample world", name, sizes[name], f"{least} or more, so that train and val both have some")
    sizes["parts"] = min(sizes["parts"], sizes["train"] + sizes["val"])
    return FiguresSize(**{f"num_{name}": value for name, value in sizes.items()})


def figures_pending(layout: Layout, size: dict[str, int]) -> str | None:
    """Why the sample world has to be made, in words; None where it is there in this size."""
    try:
        made = read_json(f"{layout.dataset_root(configs.dataset('figures'))}/{FIGURES}")
    except FileNotFoundError:
        return "make the sample world"
    wanted = json.loads(json.dumps(parameters(figures_size(**size), seed=0)))
    return None if wanted.items() <= made.items() else "make the sample world in another size"


def _data_pending(dataset: configs.Dataset, layout: Layout) -> list[str]:
    from ops.media.changes import changed_buckets, unstored_videos

    if not exists(layout.problem_table(dataset.name)):
        return ["bring in videos, frames and annotations"]
    work = []
    if _read_sources(dataset, layout) != _sources(dataset, layout):
        work.append("read changed annotations")
    elif lost := _lost_tables(dataset, layout):
        work.append(f"read annotations anew ({', '.join(lost)}: gone or damaged)")
    if dataset.videos is None:
        return work
    if changed := changed_buckets(dataset, layout):
        work.append(f"ingest {sum(change.num_files for change in changed.values())} new, changed or removed files")
    if unstored := unstored_videos(dataset, layout, range(BUCKETS)):
        work.append(f"decode {unstored} videos")
    elif not work:
        _require_arrays(dataset, layout)
    return work


def _lost_tables(dataset: configs.Dataset, layout: Layout) -> list[str]:
    """File names of the annotation tables that cannot be read any more, though they were written."""
    uris = [layout.annotation_table(dataset.name, table) for table in sorted({file.table for file in dataset.annotations})]
    lost = []
    for uri in (*uris, layout.entries_table(dataset.name), layout.excluded_table(dataset.name)):
        try:
            read_table(uri)
        except (FileNotFoundError, StorageError):
            lost.append(uri.rpartition("/")[2])
    return lost


def _require_arrays(dataset: configs.Dataset, layout: Layout) -> None:
    """Raises StorageError where arrays that the ledger names are gone: of a look at some, spread over all."""
    rows = read_manifest(layout, dataset, columns=["video_id", "uri", "status"])
    stored = rows.filter(pc.equal(rows["status"], "ok"))["uri"]
    arrays = arrays_of_ledger(layout.manifest(dataset.name, dataset.frames.key(), 0)) or ""
    for place in range(0, len(stored), max(1, len(stored) // LOOKED_AT)):
        uri = str(stored[place].as_py())
        if not exists(f"{array_below(arrays, uri) or uri}/zarr.json"):
            way = f"kinograph store verify {dataset.name} --repair"
            raise StorageError(uri, f"its ledger names it, but it is gone: `{way}`, then this again")


def _features_pending(features: configs.Features, layout: Layout, settings: Settings) -> int:
    from ops.features.materialize import unmade

    return unmade(features, layout, settings)


def _recipe_pending(recipe: Recipe, layout: Layout, settings: Settings) -> str | None:
    plan = plan_run(recipe, layout)
    found, done = look(recipe, plan, settings), finished(plan.run_dir)
    why = f" ({'; '.join(found.problems)})" if found.problems else ""
    if done is None and found.copy is None:
        return f"train {recipe.name}" + (why if exists(f"{plan.run_dir}/{RECORD}") or found.registered else "")
    if found.problems:
        return f"mend {recipe.name}{why}"
    decision = standing(recipe.gate, plan.run_key, settings)
    if decision is None:
        return f"evaluate and promote {recipe.name}"
    return None if _kept_metrics(plan.run_dir, decision.eval_set) else f"evaluate {recipe.name} again (its evaluation is gone or damaged)"


def _kept_metrics(run_dir: str, eval_set: str) -> dict[str, float] | None:
    """Metrics of the evaluation as it lies in the run folder; None where it is not whole."""
    try:
        return json.loads(read_bytes(f"{run_dir}/evaluation/{eval_set}/evaluation.json"))["metrics"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
