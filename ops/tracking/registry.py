"""The model registry: versions by alias, and the gate between challenger and champion.

Nothing here knows a task: the gate reads a dictionary of metrics and calls back to have the champion scored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from configs.schema import ConfigError, Gate, Recipe, content_hash
from configs.settings import Settings
from ops.tracking.artifacts import FILES, WEIGHTS_SHA256
from ops.tracking.connect import client, creation_lock, lock, reader
from ops.tracking.mlflow_run import RUN_KEY, RunLogger
from ops.tracking.model import LoggedModel

CHALLENGER = "challenger"
CHAMPION = "champion"
DECIDED_AT = "gate.decided_at"  # tag of a version: ms
RESET_AT = "kinograph.champion_reset_at"  # tag of a registered model: ms; what was decided before no longer counts


WAY_ON = "`kinograph run --reset-champion` decides without it, or give gate.registered_model another name"


class GateError(ValueError):
    """The gate cannot decide, and nothing was changed: the message says why."""


@dataclass(frozen=True)
class Scored:
    """Metrics of one model on one frozen evaluation set of `num_samples` clips (or videos, keyframes).

    `beside` is a champion's alone, where it can be compared on a part of the set only: the challenger's score on that part, which `note`
    describes.
    """

    metrics: Mapping[str, float]
    eval_set: str
    num_samples: int
    noun: str = "clips"
    beside: Scored | None = None
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
        """What `mlflow.pyfunc.load_model` and `ops.predict` take."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class Decision:
    """What the gate decided about a version, as it is kept in the version's tags."""

    promoted: bool
    reason: str
    metric: str
    challenger: float
    champion: float | None
    champion_version: int | None
    eval_set: str
    name: str
    version: int
    reused: bool = False  # decided by an earlier call
    compared: float | None = None  # the challenger's score beside the champion's, where both know a part of the labels only


def register(run: RunLogger, model: LoggedModel, recipe: Recipe, run_key: str, weights_uri: str, settings: Settings) -> Registered:
    """Make the run's model a version of `recipe.gate.registered_model`, with alias challenger. One version per run, ever."""
    store = client(settings.tracking_uri)
    name = recipe.gate.registered_model
    with lock(creation_lock(settings)):
        found = _version_of_run(store, name, run_key) or _without_tags(store, name, run, model, recipe, run_key, weights_uri)
        version = found or _create(store, name, run, model, recipe, run_key, weights_uri)
        held = _by_alias(store, name, CHALLENGER)
        # An earlier version that is registered again does not take the alias from a newer one.
        if held is None or int(held.version) < int(version.version):
            store.set_registered_model_alias(name, CHALLENGER, str(version.version))
    return _registered(version, created=found is None)


def _create(
    store: MlflowClient, name: str, run: RunLogger, model: LoggedModel, recipe: Recipe, run_key: str, weights_uri: str
) -> ModelVersion:
    try:
        store.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store.create_registered_model(name, description=f"{recipe.task} models trained on {recipe.dataset}")
    # Not 'models:/<id>': MLflow looks that up in the process's global tracking store, whichever client is asked.
    source, tags = store.get_logged_model(model.model_id).artifact_location, _version_tags(store, model, recipe, run_key, weights_uri)
    return store.create_model_version(name, source, run.run_id, tags=tags, description=recipe.about, model_id=model.model_id)


def _version_tags(store: MlflowClient, model: LoggedModel, recipe: Recipe, run_key: str, weights_uri: str) -> dict[str, str]:
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
    store: MlflowClient, name: str, run: RunLogger, model: LoggedModel, recipe: Recipe, run_key: str, weights_uri: str
) -> ModelVersion | None:
    """The run's version that has lost its tags, with those that say whose it is given back; None where there is none."""
    for version in store.search_model_versions(f"name = '{name}'"):
        if version.run_id == run.run_id and RUN_KEY not in version.tags:
            for key, value in _version_tags(store, model, recipe, run_key, weights_uri).items():
                store.set_model_version_tag(name, version.version, key, value)
            return store.get_model_version(name, version.version)
    return None


def find_version(name: str, alias: str, settings: Settings) -> Registered | None:
    """The version that holds the alias, or None. Raises GateError for one that another tool registered."""
    version = _by_alias(client(settings.tracking_uri), name, alias)
    return None if version is None else _registered(version)


def holder(name: str, alias: str, settings: Settings) -> int | None:
    """Number of the version that holds the alias, whoever registered it; None where none does. Writes nothing."""
    version = _by_alias(reader(settings.tracking_uri), name, alias)
    return None if version is None else int(version.version)


def registered_run(name: str, run_key: str, settings: Settings) -> Registered | None:
    """The version of a training, or None. Writes nothing."""
    version = _version_of_run(reader(settings.tracking_uri), name, run_key)
    return None if version is None else _registered(version)


def reset_champion(name: str, settings: Settings) -> None:
    """From now on no decision of before counts: the next challenger above the floor becomes champion, without facing the one there is.

    That one keeps the alias until then.
    """
    store = client(settings.tracking_uri)
    if store.search_registered_models(f"name = '{name}'"):
        store.set_registered_model_tag(name, RESET_AT, str(_now()))


def version_url(settings: Settings, version: Registered | Decision) -> str:
    """Link to the version in the MLflow UI."""
    return f"{settings.mlflow_url}/#/models/{version.name}/versions/{version.version}"


def promote(gate: Gate, challenger: Registered, scored: Scored, evaluate: Callable[[Registered], Scored], settings: Settings) -> Decision:
    """Decide whether the challenger becomes champion; move the alias and keep the decision on the version.

    `scored` is the challenger's score; `evaluate` scores the champion on the same evaluation set and is called only where
    the registry holds no score of it for that set. The same version, gate and evaluation set give the same decision again,
    and change nothing. Raises GateError when the two scores cannot be compared.
    """
    store = client(settings.tracking_uri)
    name, own = challenger.name, _value(gate, scored, challenger)
    with lock(creation_lock(settings)):
        version = store.get_model_version(name, str(challenger.version))
        champion, reset = _by_alias(store, name, CHAMPION), _reset_at(store, name)
        if _kept(gate, version, reset, scored.eval_set):
            champion = champion or _restore(store, name, reset)
            if (stands := _as_it_stands(version, champion)) is not None:
                return stands
        if champion is not None and int(champion.version) == challenger.version:
            decision = _already_champion(gate, version, scored, own)
        elif champion is None or _decided_at(champion) < reset:
            aside = None if champion is None else int(champion.version)
            decision = _decide(gate, challenger, scored, own, aside, None)
        else:
            against = _champion_scored(gate, champion, scored, evaluate)
            decision = _decide(gate, challenger, scored, own, int(champion.version), against)
        _keep(store, gate, decision)
    return decision


def _value(gate: Gate, scored: Scored, of: Registered) -> float:
    if gate.metric not in scored.metrics:
        raise ConfigError(f"gate of recipe {of.recipe}", "metric", gate.metric, ", ".join(sorted(scored.metrics)))
    return float(scored.metrics[gate.metric])


def _champion_scored(gate: Gate, champion: ModelVersion, scored: Scored, evaluate: Callable[[Registered], Scored]) -> Scored:
    tags = champion.tags
    if tags.get("gate.eval_set") == scored.eval_set and tags.get("gate.metric") == gate.metric:
        return replace(scored, metrics={gate.metric: float(tags["gate.challenger"])})  # its own score, from when it was the challenger
    found = evaluate(_registered(champion))
    own = scored if found.beside is None else found.beside
    if found.eval_set != own.eval_set:
        raise GateError(
            f"{champion.name} version {champion.version} (champion) was scored on evaluation set {found.eval_set}, the challenger on "
            f"{own.eval_set}: they cannot be compared"
        )
    _value(gate, found, _registered(champion))
    return found


def _decide(gate: Gate, challenger: Registered, scored: Scored, own: float, version: int | None, against: Scored | None) -> Decision:
    """`against` is the champion's score; without it there is none, or `version` was set aside."""
    best = None if against is None else float(against.metrics[gate.metric])
    beside = None if against is None else against.beside
    compared = own if beside is None else _value(gate, beside, challenger)
    if not math.isfinite(own):
        promoted, reason = False, f"{gate.metric} is {own}, not a number that can be compared"
    elif own <= gate.floor:
        promoted, reason = False, f"{own:.4g} is not above the floor of {gate.floor:.4g}"
    elif against is None or best is None:
        before = "there is no champion yet" if version is None else f"the champion before it (version {version}) was set aside on request"
        promoted, reason = True, f"{own:.4g} is above the floor of {gate.floor:.4g}, and {before}"
    else:
        gain = round(compared - best, 9)
        promoted = gain > 0 and gain >= gate.min_gain
        by = f" by {gate.min_gain:.4g}" if gate.min_gain else ""
        verb = "is above" if promoted else "is not above"
        on = f"on the same {against.num_samples} {scored.noun}" + (f", {against.note}" if against.note else "")
        reason = f"{compared:.4g} {verb} the champion's {best:.4g} (version {version}){by} {on}"
    part = None if beside is None else compared
    return Decision(
        promoted, reason, gate.metric, own, best, version, scored.eval_set, challenger.name, challenger.version, compared=part
    )


def _already_champion(gate: Gate, version: ModelVersion, scored: Scored, own: float) -> Decision:
    """The alias is on this version already: an earlier call stopped half-way, or the evaluation set is a new one."""
    tags, number = version.tags, int(version.version)
    if tags.get("gate.eval_set") == scored.eval_set and "gate.decision" not in tags:
        return _from_tags(version, promoted=True, reused=False)
    reason = f"version {number} is the champion already; {own:.4g} on {scored.num_samples} {scored.noun}"
    return Decision(True, reason, gate.metric, own, None, None, scored.eval_set, version.name, number)


def _keep(store: MlflowClient, gate: Gate, decision: Decision) -> None:
    """Numbers first, then the alias, the decision last: a call that stops between them is finished by the next one."""
    number = str(decision.version)
    numbers = {
        "gate.metric": decision.metric,
        "gate.reason": decision.reason,
        "gate.challenger": repr(decision.challenger),
        "gate.champion": "none" if decision.champion is None else repr(decision.champion),
        "gate.champion_version": "none" if decision.champion_version is None else str(decision.champion_version),
        "gate.compared": "all" if decision.compared is None else repr(decision.compared),
        "gate.eval_set": decision.eval_set,
        "gate.key": _gate_key(gate),
        DECIDED_AT: str(_now()),
    }
    version = store.get_model_version(decision.name, number)
    if "gate.decision" in version.tags:  # of another evaluation set or gate
        store.delete_model_version_tag(decision.name, number, "gate.decision")
    for key, value in numbers.items():
        if version.tags.get(key) != value:
            store.set_model_version_tag(decision.name, number, key, value)
    if decision.promoted:
        store.set_registered_model_alias(decision.name, CHAMPION, number)
    store.set_model_version_tag(decision.name, number, "gate.decision", "promoted" if decision.promoted else "refused")


def _gate_key(gate: Gate) -> str:
    return content_hash([gate.metric, gate.floor, gate.min_gain])


def _kept(gate: Gate, version: ModelVersion, reset: int, eval_set: str | None = None) -> bool:
    """Whether the version holds a decision of this gate (on this set), and none that was set aside."""
    tags = version.tags
    own = tags.get("gate.key") == _gate_key(gate) and "gate.decision" in tags and _decided_at(version) >= reset
    return own and eval_set in (None, tags.get("gate.eval_set"))


def _as_it_stands(version: ModelVersion, champion: ModelVersion | None) -> Decision | None:
    """The kept decision as far as the alias says the same, None where it has to be made anew.

    An alias that the gate moved on since changes nothing. One that somebody moved by hand is theirs: it is told, and left alone.
    """
    kept = _from_tags(version, promoted=version.tags["gate.decision"] == "promoted", reused=True)
    if champion is None:  # nobody holds it: right only for a model that was refused without one
        return None if kept.promoted or kept.champion_version is not None else kept
    number = int(champion.version)
    if number == kept.version:
        return kept if kept.promoted else replace(kept, promoted=True, reason=f"made champion by hand; the gate said: {kept.reason}")
    by_gate = champion.tags.get("gate.decision") == "promoted" and _order(champion) > _order(version)
    if not kept.promoted or by_gate:
        return kept
    return replace(kept, promoted=False, reason=f"version {number} was made champion by hand; the gate said: {kept.reason}")


def _restore(store: MlflowClient, name: str, reset: int) -> ModelVersion | None:
    """Give the alias back to the version that the gate promoted last, where it was removed; None where there is no such version."""
    promoted = [one for one in store.search_model_versions(f"name = '{name}'") if _was_promoted(one, reset)]
    if not promoted:
        return None
    last = max(promoted, key=_order)
    store.set_registered_model_alias(name, CHAMPION, str(last.version))
    return last


def _was_promoted(version: ModelVersion, reset: int) -> bool:
    return version.tags.get("gate.decision") == "promoted" and _decided_at(version) >= reset


def _order(version: ModelVersion) -> tuple[int, int]:
    """Versions in the order in which the gate decided; those of before, which did not note when, by number."""
    return _decided_at(version), int(version.version)


def _decided_at(version: ModelVersion) -> int:
    return int(version.tags.get(DECIDED_AT, 0))


def _reset_at(store: MlflowClient, name: str) -> int:
    found = store.search_registered_models(f"name = '{name}'")
    return int(found[0].tags.get(RESET_AT, 0)) if found else 0


def _now() -> int:
    return time.time_ns() // 1_000_000


def _from_tags(version: ModelVersion, promoted: bool, reused: bool) -> Decision:
    tags = version.tags
    champion, number = tags["gate.champion"], tags["gate.champion_version"]
    return Decision(
        promoted=promoted,
        reason=tags["gate.reason"],
        metric=tags["gate.metric"],
        challenger=float(tags["gate.challenger"]),
        champion=None if champion == "none" else float(champion),
        champion_version=None if number == "none" else int(number),
        eval_set=tags["gate.eval_set"],
        name=version.name,
        version=int(version.version),
        reused=reused,
        compared=None if tags.get("gate.compared", "all") == "all" else float(tags["gate.compared"]),
    )


def _by_alias(store: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        found = store.get_model_version_by_alias(name, alias)
        return found if found.source else None  # a deleted version may leave its alias behind
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no such alias
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
        raise GateError(f"{where} was not registered by this project: it has no tag {', '.join(missing)}; {WAY_ON}")
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
    """Whether the version of this training has faced the gate as it is now, and the alias still says so. Writes nothing."""
    return standing(gate, run_key, settings) is not None


def standing(gate: Gate, run_key: str, settings: Settings) -> Decision | None:
    """What the gate said of this training's version, as far as it still holds; None where it has to be asked (again). Writes nothing."""
    store, name = reader(settings.tracking_uri), gate.registered_model
    version = _version_of_run(store, name, run_key)
    if version is None or not _kept(gate, version, _reset_at(store, name)):
        return None
    return _as_it_stands(version, _by_alias(store, name, CHAMPION))
