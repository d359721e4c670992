"""One recipe on its way from data to champion: train, evaluate, register, promote. Every step may
be called again and does nothing twice.

Dagster's assets call these; so can a script or a notebook, without Dagster.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

import pyarrow.compute as pc

import configs
from configs import Settings
from configs.schema import BUCKETS, ConfigError, Recipe
from ops.annotations.sources import read_sources, sources
from ops.compute.progress import progress_bar
from ops.evaluation.cache import RECORD as EVALUATION
from ops.evaluation.cache import Evaluation
from ops.evaluation.gate import Challenger, gate_input, score_version
from ops.evaluation.log import log_evaluation
from ops.evaluation.run import evaluate
from ops.files.storage import StorageError, exists, read_bytes, read_json
from ops.flow.data_checks import annotation_tables, require_sound
from ops.flow.mending import logged, look, mend_folder, relog
from ops.preflight.facts import facts_of
from ops.preflight.run import PreflightError, preflight
from ops.store.layout import Layout, array_below, arrays_of_ledger
from ops.store.manifest import read_manifest
from ops.store.tables import read_table
from ops.synthetic.dataset import REPORT as FIGURES
from ops.synthetic.dataset import figures_size, parameters
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
from ops.training.run_folder import RECORD, Prepared, TrainResult, finished, plan_run, prepare
from ops.training.task import Task, info

LOOKED_AT = 16  # arrays of a dataset, before it is said that nothing is to do


@dataclass(frozen=True)
class Trained:
    """A finished training, whether this call has done it, and what was prepared for it: the next
    step may take that over.
    """

    result: TrainResult
    run: RunLogger
    trained_now: bool
    prepared: Prepared


@dataclass(frozen=True)
class Evaluated:
    """Metrics of the recipe's weights, PNG pictures by name, and the MLflow run that holds them."""

    metrics: dict[str, float]
    num_samples: int
    sample_unit: str
    eval_set: str
    pictures: dict[str, bytes]
    run_url: str


def train_recipe(
    recipe: Recipe,
    layout: Layout,
    settings: Settings,
    dagster_run_id: str | None = None,
    *,
    prepared: Prepared | None = None,
) -> Trained:
    """Train the recipe on the data as it is and log the model; a finished training is found, mended
    where files are gone, and left alone.

    Args:
        recipe: what is trained.
        layout: of the store that has the data and gets the run folder.
        settings: name MLflow and the Ray cluster.
        dagster_run_id: the MLflow run is linked to; None where Dagster does not run this.
        prepared: what was read of the data before, here as in every step; None reads it now.

    Raises:
        ValueError: a subclass of it, for what the user can mend.
        StorageError: a store does not answer.
        TrainingError: the training failed.
    """
    prepared = _of(recipe, layout, prepared)
    plan = prepared.plan
    mend_folder(recipe, plan, settings)
    done = finished(plan.run_dir)
    if done is None:
        _require_ready(prepared, settings)
    run = find_run(settings, plan.run_key) if done else None
    if run is None:
        run = open_run(
            recipe,
            plan.run_key,
            settings,
            data_version=plan.data_version,
            coverage=plan.coverage,
            dagster_run_id=dagster_run_id,
        )
    result = done or _train(prepared, settings, run)
    if done is not None:
        relog(done, run)
    # Also after a finished training: the process may have been killed between its record and the
    # model, or files are gone.
    logged(recipe, prepared.task, result, run, settings)
    if run.run().info.status == "RUNNING":
        run.finish()
    return Trained(result, run, trained_now=done is None, prepared=prepared)


def _of(recipe: Recipe, layout: Layout, prepared: Prepared | None) -> Prepared:
    """What was prepared for this very recipe, its gate included, or is now. Raises ConfigError."""
    if prepared is None:
        return prepare(recipe, layout)
    if (prepared.task.recipe, prepared.layout) != (recipe, layout):
        found = f"recipe '{prepared.task.recipe.name}' in {prepared.layout.root}"
        allowed = f"None, or this very recipe, unchanged, in {layout.root}"
        raise ConfigError(f"recipe '{recipe.name}'", "prepared", found, allowed)
    return prepared


def _require_ready(prepared: Prepared, settings: Settings) -> None:
    """Raise PreflightError, CheckError for what would end this training, or spoil its end."""
    task, _, layout, dataset = prepared
    tables = annotation_tables(dataset, layout)
    if found := preflight(
        task.recipe, layout, settings, facts=facts_of(dataset, layout, tables=tables), task=task
    ):
        raise PreflightError(found)
    require_sound(dataset, layout, tables)


def _train(prepared: Prepared, settings: Settings, run: RunLogger) -> TrainResult:
    from ops.training.ray_train import train

    try:
        return train(prepared.task.recipe, prepared.layout, settings, run, prepared=prepared)
    # also Ctrl-C and Dagster's "terminate": a run that nobody works on is not RUNNING
    except BaseException as error:
        # the tracking server may be what has gone away: the first error is the one to tell
        with suppress(Exception):
            check_reachable(settings.tracking_uri)
            run.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise


def evaluate_recipe(
    recipe: Recipe, layout: Layout, settings: Settings, *, prepared: Prepared | None = None
) -> Evaluated:
    """Score the recipe's trained weights on the frozen validation set and keep the result in its
    MLflow run.
    """
    prepared = _of(recipe, layout, prepared)
    result, run = _finished_run(prepared, settings)
    found = _evaluate(prepared.task, result.weights_uri)
    log_evaluation(run, found, recipe.name)
    pictures = {name.removesuffix(".png"): read_bytes(uri) for name, uri in found.pictures.items()}
    return Evaluated(
        found.metrics, found.num_samples, found.sample_unit, found.eval_set, pictures, run.url
    )


def register_recipe(
    recipe: Recipe, layout: Layout, settings: Settings, *, prepared: Prepared | None = None
) -> Registered:
    """Make the recipe's trained model a version of its registered model, with alias challenger."""
    prepared = _of(recipe, layout, prepared)
    result, run = _finished_run(prepared, settings)
    model = logged(recipe, prepared.task, result, run, settings)
    return register(run, model, recipe, result.run_key, result.weights_uri, settings)


def promote_recipe(
    recipe: Recipe, layout: Layout, settings: Settings, *, prepared: Prepared | None = None
) -> Decision:
    """Let the recipe's version face the champion on the same frozen set, and keep the decision on
    the version.
    """
    prepared = _of(recipe, layout, prepared)
    version = register_recipe(recipe, layout, settings, prepared=prepared)
    own = gate_input(_evaluate(prepared.task, version.weights))
    challenger = Challenger(prepared.task, version.weights, prepared.dataset)
    return promote(
        recipe.gate,
        version,
        own,
        lambda champion: score_version(champion, challenger, layout, settings),
        settings,
    )


def _evaluate(task: Task, weights_uri: str) -> Evaluation:
    unit = info(task.recipe.task).sample_unit
    with progress_bar("evaluate", unit) as progress:

        def told(done: int, total: int) -> None:
            progress(done, total)
            if done >= total:
                print(
                    f"evaluate: all {total} {unit} seen; scores and pictures are made of them",
                    flush=True,
                )

        return evaluate(task, weights_uri, progress=told)


def _finished_run(prepared: Prepared, settings: Settings) -> tuple[TrainResult, RunLogger]:
    plan = prepared.plan
    result, run = finished(plan.run_dir), find_run(settings, plan.run_key)
    if result is None or run is None:
        missing = "no finished training" if result is None else "no MLflow run"
        where = f"recipe {prepared.task.recipe.name}"
        raise ConfigError(
            where,
            "trained_model",
            f"{missing} for the data as it is ({plan.run_dir})",
            "train it first",
        )
    return result, run


# -------------------------------------------------------------------------------------------------
# where it stands


@dataclass(frozen=True)
class Stands:
    """Where a recipe's model stands now: its headline metrics on the held-out set, its version with
    its alias, and what the gate said.
    """

    metrics: dict[str, float]
    where: str
    reason: str


def stands(name: str, layout: Layout, settings: Settings) -> Stands:
    """By what store and registry hold now. Never raises for what a store, a registry or a person's
    hand may have done to them.
    """
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
        return Stands(
            {},
            "-",
            "not registered yet"
            + ("" if champion is None else f"; version {champion} of {model} is the champion"),
        )
    decision = standing(recipe.gate, plan.run_key, settings)
    if decision is None:
        return Stands(
            {},
            f"{model} v{version.version}",
            "not decided yet, or the alias does not say what was decided",
        )
    aliases = [
        f"@{alias}"
        for alias in (CHAMPION, CHALLENGER)
        if holder(model, alias, settings) == version.version
    ]
    where = aliases[0] if aliases else "(champion before)" if decision.promoted else "(refused)"
    metrics = _metrics_of(plan.run_dir, decision.eval_set) or {decision.metric: decision.challenger}
    metrics = {name: metrics[name] for name in info(recipe.task).headlines if name in metrics}
    return Stands(metrics, f"{model} v{version.version} {where}", decision.reason)


def set_aside(recipes: list[str], settings: Settings) -> None:
    """The champions of these recipes' registered models are not faced any more: the next model
    above its floor takes over.
    """
    for model in dict.fromkeys(configs.load(name).gate.registered_model for name in recipes):
        reset_champion(model, settings)


# -------------------------------------------------------------------------------------------------
# what is left to do


def pending(
    dataset_name: str, recipes: list[str], settings: Settings, figures: dict[str, int] | None = None
) -> list[str]:
    """What the line still has to do, in words; empty when every stage is up to date. Decodes,
    trains and writes nothing.

    Args:
        dataset_name: of the line.
        recipes: names, in the order in which they are trained.
        settings: name store and registry.
        figures: size of the sample world, field by field, as the user asked for it; None is the
            usual one.
    """
    from ops.features.materialize import unmade

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
        if uses and (work or (videos := unmade(configs.features(uses), layout, settings))):
            work += [
                f"make features {uses}" + ("" if work else f" of {videos} videos"),
                f"train {name}",
            ]
        elif why := _recipe_pending(recipe, layout, settings):
            work.append(why)
    return work


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
    if read_sources(dataset, layout) != sources(dataset, layout):
        work.append("read changed annotations")
    elif lost := _lost_tables(dataset, layout):
        work.append(f"read annotations anew ({', '.join(lost)}: gone or damaged)")
    if dataset.videos is None:
        return work
    if changed := changed_buckets(dataset, layout):
        work.append(
            f"ingest {sum(change.num_files for change in changed.values())} new, changed or removed"
            " files"
        )
    if unstored := unstored_videos(dataset, layout, range(BUCKETS)):
        work.append(f"decode {unstored} videos")
    elif not work:
        _require_arrays(dataset, layout)
    return work


def _lost_tables(dataset: configs.Dataset, layout: Layout) -> list[str]:
    """File names of the annotation tables that cannot be read any more, though they were
    written.
    """
    uris = [
        layout.annotation_table(dataset.name, table)
        for table in sorted({file.table for file in dataset.annotations})
    ]
    lost = []
    for uri in (*uris, layout.entries_table(dataset.name), layout.excluded_table(dataset.name)):
        try:
            read_table(uri)
        except (FileNotFoundError, StorageError):
            lost.append(uri.rpartition("/")[2])
    return lost


def _require_arrays(dataset: configs.Dataset, layout: Layout) -> None:
    """Raises StorageError where arrays that the ledger names are gone: of a look at some, spread
    over all.
    """
    rows = read_manifest(layout, dataset, columns=["video_id", "array_uri", "status"])
    stored = rows.filter(pc.equal(rows["status"], "ok"))["array_uri"]
    arrays = arrays_of_ledger(layout.manifest(dataset.name, dataset.frames.key(), 0)) or ""
    for place in range(0, len(stored), max(1, len(stored) // LOOKED_AT)):
        uri = str(stored[place].as_py())
        if not exists(f"{array_below(arrays, uri) or uri}/zarr.json"):
            way = f"kinograph store verify {dataset.name} --repair"
            raise StorageError(
                uri, f"its ledger names it, but it is gone: `{way}`, then this again"
            )


def _recipe_pending(recipe: Recipe, layout: Layout, settings: Settings) -> str | None:
    plan = plan_run(recipe, layout)
    found, done = look(recipe, plan, settings), finished(plan.run_dir)
    why = f" ({'; '.join(found.problems)})" if found.problems else ""
    if done is None and found.copy is None:
        return f"train {recipe.name}" + (
            why if exists(f"{plan.run_dir}/{RECORD}") or found.registered else ""
        )
    if found.problems:
        return f"mend {recipe.name}{why}"
    decision = standing(recipe.gate, plan.run_key, settings)
    if decision is None:
        return f"evaluate and promote {recipe.name}"
    return (
        None
        if _metrics_of(plan.run_dir, decision.eval_set)
        else f"evaluate {recipe.name} again (its evaluation is gone or damaged)"
    )


def _metrics_of(run_dir: str, eval_set: str) -> dict[str, float] | None:
    """Metrics of the evaluation as it lies in the run folder; None where it is not whole."""
    try:
        return json.loads(read_bytes(f"{run_dir}/evaluation/{eval_set}/{EVALUATION}"))["metrics"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
