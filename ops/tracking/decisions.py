"""What the gate decided about a version, as the version's tags keep it, and how far that still
holds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from configs.schema import Gate, content_hash

CHALLENGER = "challenger"
CHAMPION = "champion"
DECIDED_AT = "gate.decided_at"  # tag of a version: ms
NEEDED = {
    f"gate.{name}"
    for name in (
        "decision",
        "reason",
        "metric",
        "challenger",
        "champion",
        "champion_version",
        "eval_set",
    )
}
# tag of a registered model: ms; what was decided before no longer counts
RESET_AT = "kinograph.champion_reset_at"


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
    # the challenger's score beside the champion's, where both know a part of the labels only
    compared: float | None = None


def gate_key(gate: Gate) -> str:
    """Hash of what a gate decides by."""
    # of before there was a choice, the usual precision goes without saying
    more = [] if gate.precision == "fp32" else [gate.precision]
    return content_hash([gate.metric, gate.floor, gate.min_gain, *more])


def kept(gate: Gate, version: ModelVersion, reset: int, eval_set: str | None = None) -> bool:
    """Whether the version holds a decision of this gate, and none that was set aside.

    Args:
        gate: its metric, floor and gain have to be those of the decision.
        version: as the registry has it, with its tags.
        reset: as `reset_at` gives it, in ms; decisions of before do not count.
        eval_set: the decision has to be of this one; None is any.
    """
    tags = version.tags
    own = (
        tags.get("gate.key") == gate_key(gate)
        and NEEDED <= tags.keys()
        and decided_at(version) >= reset
    )
    return own and eval_set in (None, tags.get("gate.eval_set"))


def as_it_stands(version: ModelVersion, champion: ModelVersion | None) -> Decision | None:
    """The kept decision as far as the alias says the same, None where it has to be made anew.

    An alias that the gate moved on since changes nothing. One that somebody moved by hand is
    theirs: it is told, and left alone.

    Args:
        version: holds a decision (`kept`).
        champion: the version with the alias; None where nobody has it.
    """
    held = from_tags(version, promoted=version.tags["gate.decision"] == "promoted", reused=True)
    if champion is None:  # nobody holds it: right only for a model that was refused without one
        return None if held.promoted or held.champion_version is not None else held
    number = int(champion.version)
    if number == held.version:
        return (
            held
            if held.promoted
            else replace(
                held, promoted=True, reason=f"made champion by hand; the gate said: {held.reason}"
            )
        )
    by_gate = champion.tags.get("gate.decision") == "promoted" and order(champion) > order(version)
    if not held.promoted or by_gate:
        return held
    return replace(
        held,
        promoted=False,
        reason=f"version {number} was made champion by hand; the gate said: {held.reason}",
    )


def restore(store: MlflowClient, name: str, reset: int) -> ModelVersion | None:
    """Give the alias back to the version that the gate promoted last, where it was removed; None
    where there is no such version.
    """
    promoted = [
        one for one in store.search_model_versions(f"name = '{name}'") if _was_promoted(one, reset)
    ]
    if not promoted:
        return None
    last = max(promoted, key=order)
    store.set_registered_model_alias(name, CHAMPION, str(last.version))
    return last


def _was_promoted(version: ModelVersion, reset: int) -> bool:
    return version.tags.get("gate.decision") == "promoted" and decided_at(version) >= reset


def order(version: ModelVersion) -> tuple[int, int]:
    """Versions in the order in which the gate decided; those of before, which did not note when, by
    number.
    """
    return decided_at(version), int(version.version)


def decided_at(version: ModelVersion) -> int:
    """When, in ms; 0 where it was not noted."""
    return int(version.tags.get(DECIDED_AT, 0))


def reset_at(store: MlflowClient, name: str) -> int:
    """Since when, in ms, the decisions about a registered model count."""
    found = store.search_registered_models(f"name = '{name}'")
    return int(found[0].tags.get(RESET_AT, 0)) if found else 0


def now() -> int:
    """Time in ms."""
    return time.time_ns() // 1_000_000


def from_tags(version: ModelVersion, promoted: bool, reused: bool) -> Decision:
    """The decision that the version's tags hold; all of NEEDED are there."""
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
        compared=(
            None if tags.get("gate.compared", "all") == "all" else float(tags["gate.compared"])
        ),
    )
