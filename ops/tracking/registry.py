"""The model registry: versions by alias, and the gate between challenger and champion.

Nothing here knows a task: the gate reads a dictionary of metrics and calls back to have the
champion scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from configs.errors import KinographError
from configs.schema import ConfigError, Gate, Recipe
from configs.settings import Settings
from ops.tracking.artifacts import FILES, WEIGHTS_SHA256
from ops.tracking.connect import client, creation_lock, lock, reader
from ops.tracking.decisions import (
    CHALLENGER,
    CHAMPION,
    DECIDED_AT,
    RESET_AT,
    Decision,
    as_it_stands,
    decided_at,
    from_tags,
    gate_key,
    kept,
    now,
    reset_at,
    restore,
)
from ops.tracking.mlflow_run import RUN_KEY, RunLogger
from ops.tracking.model import LoggedModel

WAY_ON = (
    "`kinograph run --reset-champion` decides without it, or give gate.registered_model another"
    " name"
)


class GateError(KinographError, ValueError):
    """The gate cannot decide, and nothing was changed: the message says why."""


@dataclass(frozen=True)
class ScoredModel:
    """Metrics of one model on one frozen evaluation set of `num_samples` clips (or videos,
    keyframes).

    `beside` is a champion's alone, where it can be compared on a part of the set only: the
    challenger's score on that part, which `note` describes.
    """

    metrics: Mapping[str, float]
    eval_set: str
    num_samples: int
    sample_unit: str = "clips"
    beside: ScoredModel | None = None
    note: str = ""


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    name: str
    version: int
    run_id: str
    run_key: str
    recipe: str
    weights: str = field(repr=False)  # URI of model.safetensors; recipe.json lies beside it
    created: bool = False  # by this call

    @property
    def uri(self) -> str:
        """What `mlflow.pyfunc.load_model` and `kinograph predict` take."""
        return f"models:/{self.name}/{self.version}"


def register(
    run: RunLogger,
    model: LoggedModel,
    recipe: Recipe,
    run_key: str,
    weights_uri: str,
    settings: Settings,
) -> Registered:
    """Make the run's model a version of `recipe.gate.registered_model`, with alias challenger. One
    version per run, ever.
    """
    store = client(settings.tracking_uri)
    name = recipe.gate.registered_model
    with lock(creation_lock(settings)):
        found = _version_of_run(store, name, run_key) or _without_tags(
            store, name, run, model, recipe, run_key, weights_uri
        )
        version = found or _create(store, name, run, model, recipe, run_key, weights_uri)
        held = _by_alias(store, name, CHALLENGER)
        # An earlier version that is registered again does not take the alias from a newer one.
        if held is None or int(held.version) < int(version.version):
            store.set_registered_model_alias(name, CHALLENGER, str(version.version))
    return _registered(version, created=found is None)


def _create(
    store: MlflowClient,
    name: str,
    run: RunLogger,
    model: LoggedModel,
    recipe: Recipe,
    run_key: str,
    weights_uri: str,
) -> ModelVersion:
    try:
        store.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store.create_registered_model(
            name, description=f"{recipe.task} models trained on {recipe.dataset}"
        )
    # Not 'models:/<id>': MLflow looks that up in the process's global tracking store, whichever
    # client is asked.
    source, tags = (
        store.get_logged_model(model.model_id).artifact_location,
        _version_tags(store, model, recipe, run_key, weights_uri),
    )
    return store.create_model_version(
        name, source, run.run_id, tags=tags, description=recipe.about, model_id=model.model_id
    )


def _version_tags(
    store: MlflowClient, model: LoggedModel, recipe: Recipe, run_key: str, weights_uri: str
) -> dict[str, str]:
    logged = store.get_logged_model(model.model_id).tags
    return {
        RUN_KEY: run_key,
        "kinograph.recipe": recipe.name,
        "kinograph.recipe_key": recipe.key(),
        "kinograph.dataset": recipe.dataset,
        "kinograph.weights": weights_uri,
        **{name: logged[name] for name in (FILES, WEIGHTS_SHA256) if name in logged},
    }


def _without_tags(
    store: MlflowClient,
    name: str,
    run: RunLogger,
    model: LoggedModel,
    recipe: Recipe,
    run_key: str,
    weights_uri: str,
) -> ModelVersion | None:
    """The run's version that has lost its tags, with those that say whose it is given back; None
    where there is none.
    """
    for version in store.search_model_versions(f"name = '{name}'"):
        if version.run_id == run.run_id and RUN_KEY not in version.tags:
            for key, value in _version_tags(store, model, recipe, run_key, weights_uri).items():
                store.set_model_version_tag(name, version.version, key, value)
            return store.get_model_version(name, version.version)
    return None


def holder(name: str, alias: str, settings: Settings) -> int | None:
    """Number of the version that holds the alias, whoever registered it; None where none does.
    Writes nothing.
    """
    version = _by_alias(reader(settings.tracking_uri), name, alias)
    return None if version is None else int(version.version)


def opponent(name: str, settings: Settings) -> Registered | None:
    """The champion that a challenger will face; None where there is none, where it was set aside,
    or where it only lost its tags.

    Raises GateError for one that another tool registered.
    """
    store = client(settings.tracking_uri)
    champion = _by_alias(store, name, CHAMPION)
    if champion is None or decided_at(champion) < reset_at(store, name):
        return None
    if (
        RUN_KEY not in champion.tags
        and champion.run_id
        and RUN_KEY in store.get_run(champion.run_id).data.tags
    ):
        # registered by this project: it gets them back when its training is registered again
        return None
    return _registered(champion)


def registered_run(name: str, run_key: str, settings: Settings) -> Registered | None:
    """The version of a training, or None. Writes nothing."""
    version = _version_of_run(reader(settings.tracking_uri), name, run_key)
    return None if version is None else _registered(version)


def reset_champion(name: str, settings: Settings) -> None:
    """From now on no decision of before counts: the next challenger above the floor becomes
    champion, without facing the one there is.

    That one keeps the alias until then.
    """
    store = client(settings.tracking_uri)
    if store.search_registered_models(f"name = '{name}'"):
        store.set_registered_model_tag(name, RESET_AT, str(now()))


def version_url(settings: Settings, version: Registered | Decision) -> str:
    """Link to the version in the MLflow UI."""
    return f"{settings.mlflow_url}/#/models/{version.name}/versions/{version.version}"


def promote(
    gate: Gate,
    challenger: Registered,
    scored: ScoredModel,
    evaluate: Callable[[Registered], ScoredModel],
    settings: Settings,
) -> Decision:
    """Decide whether the challenger becomes champion; move the alias and keep the decision on the
    version. The same version, gate and evaluation set give the same decision again, and change
    nothing.

    Args:
        gate: metric, floor and gain that are asked for.
        challenger: the version that faces it.
        scored: the challenger's score.
        evaluate: scores the champion on the same evaluation set; called only where the registry
            holds no score of it for that set.
        settings: name the tracking store.

    Raises:
        GateError: the two scores cannot be compared.
    """
    store = client(settings.tracking_uri)
    name, own = challenger.name, _value(gate, scored, challenger)
    with lock(creation_lock(settings)):
        version = store.get_model_version(name, str(challenger.version))
        champion, reset = _by_alias(store, name, CHAMPION), reset_at(store, name)
        if kept(gate, version, reset, scored.eval_set):
            champion = champion or restore(store, name, reset)
            if (stands := as_it_stands(version, champion)) is not None:
                return stands
        if champion is not None and int(champion.version) == challenger.version:
            decision = _already_champion(gate, version, scored, own)
        elif champion is None or decided_at(champion) < reset:
            aside = None if champion is None else int(champion.version)
            decision = _decide(gate, challenger, scored, own, aside, None)
        else:
            against = _champion_scored(gate, champion, scored, evaluate)
            decision = _decide(gate, challenger, scored, own, int(champion.version), against)
        _keep(store, gate, decision)
    return decision


def _value(gate: Gate, scored: ScoredModel, of: Registered) -> float:
    if gate.metric not in scored.metrics:
        raise ConfigError(
            f"gate of recipe {of.recipe}", "metric", gate.metric, ", ".join(sorted(scored.metrics))
        )
    return float(scored.metrics[gate.metric])


def _champion_scored(
    gate: Gate,
    champion: ModelVersion,
    scored: ScoredModel,
    evaluate: Callable[[Registered], ScoredModel],
) -> ScoredModel:
    tags = champion.tags
    asked = {
        "gate.eval_set": scored.eval_set,
        "gate.metric": gate.metric,
        "gate.precision": gate.precision,
    }
    if asked.items() <= tags.items():
        # its own score, from when it was the challenger
        return replace(scored, metrics={gate.metric: float(tags["gate.challenger"])})
    found = evaluate(_registered(champion))
    own = scored if found.beside is None else found.beside
    if found.eval_set != own.eval_set:
        raise GateError(
            f"{champion.name} version {champion.version} (champion) was scored on evaluation set"
            f" {found.eval_set}, the challenger on {own.eval_set}: they cannot be compared"
        )
    _value(gate, found, _registered(champion))
    return found


def _decide(
    gate: Gate,
    challenger: Registered,
    scored: ScoredModel,
    own: float,
    version: int | None,
    against: ScoredModel | None,
) -> Decision:
    """`against` is the champion's score; without it there is none, or `version` was set aside."""
    best = None if against is None else float(against.metrics[gate.metric])
    beside = None if against is None else against.beside
    compared = own if beside is None else _value(gate, beside, challenger)
    if not math.isfinite(own):
        promoted, reason = False, f"{gate.metric} is {own}, not a number that can be compared"
    elif own <= gate.floor:
        promoted, reason = False, f"{own:.4g} is not above the floor of {gate.floor:.4g}"
    elif against is None or best is None:
        before = (
            "there is no champion yet"
            if version is None
            else f"the champion before it (version {version}) was set aside on request"
        )
        promoted, reason = True, f"{own:.4g} is above the floor of {gate.floor:.4g}, and {before}"
    else:
        gain = round(compared - best, 9)
        promoted = gain > 0 and gain >= gate.min_gain
        by = f" by {gate.min_gain:.4g}" if gate.min_gain else ""
        verb = "is above" if promoted else "is not above"
        on = f"on the same {against.num_samples} {scored.sample_unit}" + (
            f", {against.note}" if against.note else ""
        )
        reason = f"{compared:.4g} {verb} the champion's {best:.4g} (version {version}){by} {on}"
    part = None if beside is None else compared
    facts = (gate.metric, own, best, version, scored.eval_set, challenger.name, challenger.version)
    return Decision(promoted, reason, *facts, compared=part)


def _already_champion(
    gate: Gate, version: ModelVersion, scored: ScoredModel, own: float
) -> Decision:
    """The alias is on this version already: an earlier call stopped half-way, or the evaluation set
    is a new one.
    """
    tags, number = version.tags, int(version.version)
    if tags.get("gate.eval_set") == scored.eval_set and "gate.decision" not in tags:
        return from_tags(version, promoted=True, reused=False)
    reason = (
        f"version {number} is the champion already; {own:.4g} on {scored.num_samples}"
        f" {scored.sample_unit}"
    )
    return Decision(
        True, reason, gate.metric, own, None, None, scored.eval_set, version.name, number
    )


def _keep(store: MlflowClient, gate: Gate, decision: Decision) -> None:
    """Numbers first, then the alias, the decision last: a call that stops between them is finished
    by the next one.
    """
    number = str(decision.version)
    numbers = {
        "gate.metric": decision.metric,
        "gate.reason": decision.reason,
        "gate.challenger": repr(decision.challenger),
        "gate.champion": "none" if decision.champion is None else repr(decision.champion),
        "gate.champion_version": (
            "none" if decision.champion_version is None else str(decision.champion_version)
        ),
        "gate.compared": "all" if decision.compared is None else repr(decision.compared),
        "gate.eval_set": decision.eval_set,
        "gate.precision": gate.precision,
        "gate.key": gate_key(gate),
        DECIDED_AT: str(now()),
    }
    version = store.get_model_version(decision.name, number)
    if "gate.decision" in version.tags:  # of another evaluation set or gate
        store.delete_model_version_tag(decision.name, number, "gate.decision")
    for key, value in numbers.items():
        if version.tags.get(key) != value:
            store.set_model_version_tag(decision.name, number, key, value)
    if decision.promoted:
        store.set_registered_model_alias(decision.name, CHAMPION, number)
    store.set_model_version_tag(
        decision.name, number, "gate.decision", "promoted" if decision.promoted else "refused"
    )


def _by_alias(store: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        found = store.get_model_version_by_alias(name, alias)
        return found if found.source else None  # a deleted version may leave its alias behind
    except MlflowException as error:
        # no such model; no such alias
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _version_of_run(store: MlflowClient, name: str, run_key: str) -> ModelVersion | None:
    found = store.search_model_versions(f"name = '{name}' and tags.`{RUN_KEY}` = '{run_key}'")
    return min(found, key=lambda version: int(version.version)) if found else None


def _registered(version: ModelVersion, created: bool = False) -> Registered:
    tags = version.tags
    missing = [key for key in (RUN_KEY, "kinograph.recipe", "kinograph.weights") if key not in tags]
    if missing:
        where = f"{version.name} version {version.version}"
        raise GateError(
            f"{where} was not registered by this project: it has no tag {', '.join(missing)};"
            f" {WAY_ON}"
        )
    return Registered(
        name=version.name,
        version=int(version.version),
        run_id=version.run_id or "",
        run_key=tags[RUN_KEY],
        recipe=tags["kinograph.recipe"],
        weights=tags["kinograph.weights"],
        created=created,
    )


def decided(gate: Gate, run_key: str, settings: Settings) -> bool:
    """Whether the version of this training has faced the gate as it is now, and the alias still
    says so. Writes nothing.
    """
    return standing(gate, run_key, settings) is not None


def standing(gate: Gate, run_key: str, settings: Settings) -> Decision | None:
    """What the gate said of this training's version, as far as it still holds; None where it has to
    be asked (again). Writes nothing.
    """
    store, name = reader(settings.tracking_uri), gate.registered_model
    version = _version_of_run(store, name, run_key)
    if version is None or not kept(gate, version, reset_at(store, name)):
        return None
    return as_it_stands(version, _by_alias(store, name, CHAMPION))
