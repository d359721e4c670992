"""Versions by alias, and the gate between challenger and champion."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from configs import Settings
from configs.schema import ConfigError, Gate, RecognitionRecipe
from ops.tracking import registry
from ops.tracking.connect import client
from ops.tracking.mlflow_run import open_run
from ops.tracking.model import LoggedModel
from ops.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    GateError,
    Registered,
    ScoredModel,
    decided,
    promote,
    register,
    version_url,
)
from registered import find_version

GATE = Gate(metric="top1", floor=0.5, registered_model="figures-recognition")


def score(value: float, eval_set: str = "set1", metric: str = "top1") -> ScoredModel:
    return ScoredModel({metric: value}, eval_set, 160)


def never(version: Registered) -> ScoredModel:
    raise AssertionError(f"version {version.version} was scored again")


def candidate(settings: Settings, recipe: RecognitionRecipe, key: str) -> Registered:
    """A registered version with an empty model behind it."""
    run = open_run(recipe, key, settings)
    made = client(settings.tracking_uri).create_logged_model(
        run.experiment_id, name="m", source_run_id=run.run_id
    )
    return register(
        run,
        LoggedModel(made.model_id, created=True),
        recipe,
        key,
        f"/weights/{key}/model.safetensors",
        settings,
    )


def tags(settings: Settings, version: Registered) -> Mapping[str, str]:
    return client(settings.tracking_uri).get_model_version(version.name, str(version.version)).tags


def holder(settings: Settings, alias: str) -> int | None:
    found = find_version(GATE.registered_model, alias, settings)
    return None if found is None else found.version


def test_a_run_registers_once_and_the_newest_version_is_challenger(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    assert find_version(GATE.registered_model, CHALLENGER, settings) is None
    first, second = candidate(settings, recipe, "k1"), candidate(settings, recipe, "k2")
    assert (
        (first.version, second.version) == (1, 2)
        and first.created
        and first.uri == "models:/figures-recognition/1"
    )
    again = candidate(settings, recipe, "k1")
    assert again.version == 1 and not again.created
    assert holder(settings, CHALLENGER) == 2 and version_url(settings, second).endswith(
        "/#/models/figures-recognition/versions/2"
    )
    assert not decided(GATE, "k1", settings)
    promote(GATE, first, score(0.1), never, settings)
    assert decided(GATE, "k1", settings) and not decided(
        GATE.model_copy(update={"floor": 0.0}), "k1", settings
    )
    assert tags(settings, first)["kinograph.weights"] == "/weights/k1/model.safetensors"


def test_the_first_model_above_the_floor_is_promoted_and_a_worse_one_refused(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    low, good, worse = (candidate(settings, recipe, key) for key in ("k1", "k2", "k3"))
    refused = promote(GATE, low, score(0.5), never, settings)
    assert (
        not refused.promoted
        and refused.reason == "0.5 is not above the floor of 0.5"
        and holder(settings, CHAMPION) is None
    )
    first = promote(GATE, good, score(0.93), never, settings)
    assert first.promoted and "no champion yet" in first.reason and holder(settings, CHAMPION) == 2
    decision = promote(GATE, worse, score(0.61), never, settings)
    assert not decision.promoted and holder(settings, CHAMPION) == 2
    assert (
        decision.reason == "0.61 is not above the champion's 0.93 (version 2) on the same 160 clips"
    )
    kept = tags(settings, worse)
    assert kept["gate.decision"] == "refused" and kept["gate.reason"] == decision.reason
    assert (kept["gate.challenger"], kept["gate.champion"], kept["gate.champion_version"]) == (
        "0.61",
        "0.93",
        "2",
    )


def test_a_better_model_takes_over_and_an_equal_one_does_not(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    one, equal, better = (candidate(settings, recipe, key) for key in ("k1", "k2", "k3"))
    promote(GATE, one, score(0.6), never, settings)
    assert not promote(GATE, equal, score(0.6), never, settings).promoted
    assert (
        promote(GATE, better, score(0.7), never, settings).reason
        == "0.7 is above the champion's 0.6 (version 1) on the same 160 clips"
    )
    assert holder(settings, CHAMPION) == 3


def test_the_gain_that_the_gate_asks_for(settings: Settings, recipe: RecognitionRecipe) -> None:
    one, little, enough = (candidate(settings, recipe, key) for key in ("k1", "k2", "k3"))
    gate = GATE.model_copy(update={"min_gain": 0.02})
    promote(gate, one, score(0.91), never, settings)
    refused = promote(gate, little, score(0.929), never, settings)
    assert (
        not refused.promoted
        and "is not above the champion's 0.91 (version 1) by 0.02" in refused.reason
    )
    assert promote(gate, enough, score(0.93), never, settings).promoted


def test_the_same_question_gets_the_same_answer_and_changes_nothing(
    settings: Settings, recipe: RecognitionRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = candidate(settings, recipe, "k1"), candidate(settings, recipe, "k2")
    first, second = (
        promote(GATE, one, score(0.6), never, settings),
        promote(GATE, two, score(0.9), never, settings),
    )
    monkeypatch.setattr(registry, "_keep", never)
    again = promote(GATE, one, score(0.6), never, settings)
    assert again.reused and again == registry.Decision(**{**vars(first), "reused": True})
    assert promote(GATE, two, score(0.9), never, settings).reason == second.reason
    assert holder(settings, CHAMPION) == 2


def test_a_decision_in_another_precision_does_not_stand(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    promote(GATE, candidate(settings, recipe, "k1"), score(0.6), never, settings)
    assert decided(GATE, "k1", settings)
    assert not decided(GATE.model_copy(update={"precision": "bf16"}), "k1", settings)


def test_the_champion_is_scored_again_on_another_set(
    settings: Settings, recipe: RecognitionRecipe
) -> None:
    one, two = candidate(settings, recipe, "k1"), candidate(settings, recipe, "k2")
    promote(GATE, one, score(0.9), never, settings)
    asked: list[Registered] = []

    def evaluate(version: Registered) -> ScoredModel:
        asked.append(version)
        return score(0.4, "set2")

    assert promote(GATE, two, score(0.7, "set2"), evaluate, settings).champion == 0.4
    assert [version.weights for version in asked] == ["/weights/k1/model.safetensors"]
    assert holder(settings, CHAMPION) == 2
    with pytest.raises(GateError, match="cannot be compared"):
        promote(GATE, one, score(0.8, "set3"), lambda version: score(0.1, "set2"), settings)
    assert holder(settings, CHAMPION) == 2 and tags(settings, one)["gate.eval_set"] == "set1"


def test_a_promotion_that_was_cut_short_is_finished(
    settings: Settings, recipe: RecognitionRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = candidate(settings, recipe, "k1"), candidate(settings, recipe, "k2")
    promote(GATE, one, score(0.6), never, settings)
    store = client(settings.tracking_uri)
    real = store.set_model_version_tag

    def dies(name: str, version: str, key: str, value: str) -> None:
        if key == "gate.decision":
            raise ConnectionError("gone")
        real(name, version, key, value)

    monkeypatch.setattr(store, "set_model_version_tag", dies)
    with pytest.raises(ConnectionError):
        promote(GATE, two, score(0.7), never, settings)
    monkeypatch.undo()
    assert "gate.decision" not in tags(settings, two)
    decision = promote(GATE, two, score(0.7), never, settings)
    assert decision.promoted and decision.champion == 0.6 and decision.champion_version == 1
    assert tags(settings, two)["gate.decision"] == "promoted" and holder(settings, CHAMPION) == 2


def test_what_cannot_be_compared_is_refused(settings: Settings, recipe: RecognitionRecipe) -> None:
    one = candidate(settings, recipe, "k1")
    with pytest.raises(ConfigError, match="found 'top1'; allowed: loss, top5"):
        promote(GATE, one, ScoredModel({"top5": 0.9, "loss": 1.0}, "set1", 160), never, settings)
    assert not promote(GATE, one, score(math.nan), never, settings).promoted
    client(settings.tracking_uri).create_model_version(
        GATE.registered_model, f"{settings.storage}/other"
    )
    client(settings.tracking_uri).set_registered_model_alias(GATE.registered_model, CHAMPION, "2")
    with pytest.raises(GateError, match="not registered by this project"):
        find_version(GATE.registered_model, CHAMPION, settings)
