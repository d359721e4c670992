"""The model registry: versions by alias, and the gate between challenger and champion.

Nothing here knows a task: the gate reads a dictionary of metrics and calls back to have the champion scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from configs.schema import ConfigError, Gate, Recipe, content_hash
from configs.settings import Settings
from ops.tracking.connect import client, creation_lock, lock
from ops.tracking.mlflow_run import RUN_KEY, RunLogger
from ops.tracking.model import LoggedModel

CHALLENGER = "challenger"
CHAMPION = "champion"


class GateError(ValueError):
    """The gate cannot decide, and nothing was changed: the message says why."""


@dataclass(frozen=True)
class Scored:
    """Metrics of one model on one frozen evaluation set of `num_samples` clips (or videos, keyframes)."""

    metrics: Mapping[str, float]
    eval_set: str
    num_samples: int
    noun: str = "clips"


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


def register(run: RunLogger, model: LoggedModel, recipe: Recipe, run_key: str, weights_uri: str, settings: Settings) -> Registered:
    """Make the run's model a version of `recipe.gate.registered_model`, with alias challenger. One version per run, ever."""
    store = client(settings.tracking_uri)
    name = recipe.gate.registered_model
    with lock(creation_lock(settings)):
        found = _version_of_run(store, name, run_key)
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
    tags = {
        RUN_KEY: run_key,
        "kinograph.recipe": recipe.name,
        "kinograph.recipe_key": recipe.key(),
        "kinograph.dataset": recipe.dataset,
        "kinograph.weights": weights_uri,
    }
    # Not 'models:/<id>': MLflow looks that up in the process's global tracking store, whichever client is asked.
    source = store.get_logged_model(model.model_id).artifact_location
    return store.create_model_version(name, source, run.run_id, tags=tags, description=recipe.about, model_id=model.model_id)


def find_version(name: str, alias: str, settings: Settings) -> Registered | None:
    """The version that holds the alias, or None."""
    version = _by_alias(client(settings.tracking_uri), name, alias)
    return None if version is None else _registered(version)


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
        if (kept := _kept_decision(gate, version, scored.eval_set)) is not None:
            return kept
        champion = _by_alias(store, name, CHAMPION)
        if champion is not None and int(champion.version) == challenger.version:
            decision = _already_champion(gate, version, scored, own)
        else:
            best = None if champion is None else _champion_value(gate, champion, scored, evaluate)
            decision = _decide(gate, challenger, scored, own, None if champion is None else int(champion.version), best)
        _keep(store, gate, decision)
    return decision


def _value(gate: Gate, scored: Scored, of: Registered) -> float:
    if gate.metric not in scored.metrics:
        raise ConfigError(f"gate of recipe {of.recipe}", "metric", gate.metric, ", ".join(sorted(scored.metrics)))
    return float(scored.metrics[gate.metric])


def _champion_value(gate: Gate, champion: ModelVersion, scored: Scored, evaluate: Callable[[Registered], Scored]) -> float:
    tags = champion.tags
    if tags.get("gate.eval_set") == scored.eval_set and tags.get("gate.metric") == gate.metric:
        return float(tags["gate.challenger"])  # its own score, from when it was the challenger
    found = evaluate(_registered(champion))
    if found.eval_set != scored.eval_set:
        raise GateError(
            f"{champion.name} version {champion.version} (champion) was scored on evaluation set {found.eval_set}, the challenger on "
            f"{scored.eval_set}: they cannot be compared"
        )
    return _value(gate, found, _registered(champion))


def _decide(gate: Gate, challenger: Registered, scored: Scored, own: float, version: int | None, best: float | None) -> Decision:
    on = f"on the same {scored.num_samples} {scored.noun}"
    if not math.isfinite(own):
        promoted, reason = False, f"{gate.metric} is {own}, not a number that can be compared"
    elif own <= gate.floor:
        promoted, reason = False, f"{own:.4g} is not above the floor of {gate.floor:.4g}"
    elif best is None:
        promoted, reason = True, f"{own:.4g} is above the floor of {gate.floor:.4g}, and there is no champion yet"
    else:
        gain = round(own - best, 9)
        promoted = gain > 0 and gain >= gate.min_gain
        by = f" by {gate.min_gain:.4g}" if gate.min_gain else ""
        verb = "is above" if promoted else "is not above"
        reason = f"{own:.4g} {verb} the champion's {best:.4g} (version {version}){by} {on}"
    return Decision(promoted, reason, gate.metric, own, best, version, scored.eval_set, challenger.name, challenger.version)


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
        "gate.eval_set": decision.eval_set,
        "gate.key": _gate_key(gate),
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


def _kept_decision(gate: Gate, version: ModelVersion, eval_set: str) -> Decision | None:
    tags = version.tags
    if tags.get("gate.eval_set") != eval_set or tags.get("gate.key") != _gate_key(gate) or "gate.decision" not in tags:
        return None
    return _from_tags(version, promoted=tags["gate.decision"] == "promoted", reused=True)


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
    )


def _by_alias(store: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return store.get_model_version_by_alias(name, alias)
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
        raise GateError(f"{version.name} version {version.version} was not registered by this project: it has no tag {', '.join(missing)}")
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
    """Whether the version of this training has faced the gate as it is now."""
    version = _version_of_run(client(settings.tracking_uri), gate.registered_model, run_key)
    return version is not None and version.tags.get("gate.key") == _gate_key(gate) and "gate.decision" in version.tags
