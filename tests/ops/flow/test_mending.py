"""What people do to a champion's files, aliases, runs and versions: it is told, and made again from
what is left, without training.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs import Settings
from configs.schema import RecognitionRecipe
from finished_training import have_trained
from ops.flow.mending import look
from ops.flow.recipe import (
    _recipe_pending,
    evaluate_recipe,
    promote_recipe,
    register_recipe,
    stands,
    train_recipe,
)
from ops.serving.predict import PredictionError, load
from ops.store.layout import Layout
from ops.tracking.connect import client
from ops.tracking.registry import CHALLENGER, CHAMPION, GateError, holder, opponent, reset_champion
from ops.training.run_folder import (
    PROVENANCE,
    RECORD,
    VOCABULARY,
    WEIGHTS,
    TrainResult,
    damage,
    finished,
    plan_run,
)


@pytest.fixture
def recipe(
    world, own: Layout, settings: Settings, plain: None, monkeypatch: pytest.MonkeyPatch
) -> RecognitionRecipe:
    """A recipe whose model is the champion, version 1; nothing may train from here on."""
    found = world.recipe(gate={"floor": -1.0})
    have_trained(found, own)
    line(found, own, settings)
    monkeypatch.setattr("configs.load", lambda name: found)
    monkeypatch.setattr("ops.flow.recipe._train", _never)
    return found


def _never(*_: Any) -> None:
    raise AssertionError("trained again")


def line(recipe: RecognitionRecipe, layout: Layout, settings: Settings) -> None:
    """All of a recipe's stages, one after another."""
    train_recipe(recipe, layout, settings)
    evaluate_recipe(recipe, layout, settings)
    register_recipe(recipe, layout, settings)
    promote_recipe(recipe, layout, settings)


def folder_of(recipe: RecognitionRecipe, layout: Layout) -> Path:
    return Path(plan_run(recipe, layout).run_dir)


def artifacts(settings: Settings) -> Path:
    return next(Path(settings.artifacts).rglob(WEIGHTS)).parent


def flip(path: Path) -> None:
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


DONE_TO_FILES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "weights gone": (
        lambda run, _: (run / WEIGHTS).unlink(),
        "model.safetensors is missing in its run folder",
    ),
    "weights cut": (
        lambda run, _: (run / WEIGHTS).write_bytes(b"x"),
        "model.safetensors has 1 bytes of",
    ),
    "weights damaged": (
        lambda run, _: flip(run / WEIGHTS),
        r"model.safetensors is not what was written \(sha256\)",
    ),
    "words gone": (
        lambda run, _: (run / VOCABULARY).unlink(),
        "vocabulary.json is missing in its run folder",
    ),
    "record damaged": (lambda run, _: (run / RECORD).write_bytes(b"{"), "complete.json is missing"),
    "run folder gone": (
        lambda run, _: shutil.rmtree(run),
        "complete.json is missing in its run folder",
    ),
    "version's weights gone": (
        lambda _, kept: (kept / WEIGHTS).unlink(),
        "model.safetensors is missing in version 1 of tiny",
    ),
    "version damaged": (
        lambda _, kept: flip(kept / VOCABULARY),
        r"vocabulary.json is not what was logged \(sha256\) in version 1",
    ),
    "artifacts gone": (
        lambda _, kept: shutil.rmtree(kept.parent),
        "model.safetensors is missing in version 1 of tiny",
    ),
}


@pytest.mark.parametrize("name", DONE_TO_FILES)
def test_files_that_are_gone_are_told_and_come_back(
    recipe, own: Layout, settings: Settings, name: str
) -> None:
    act, said = DONE_TO_FILES[name]
    run, kept = folder_of(recipe, own), artifacts(settings)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    act(run, kept)
    assert re.search(f"^mend tiny_tsm \\(.*{said}", _recipe_pending(recipe, own, settings) or "")
    line(recipe, own, settings)
    assert _recipe_pending(recipe, own, settings) is None and damage(str(run)) == []
    assert look(recipe, plan_run(recipe, own), settings).problems == []
    after = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert {WEIGHTS, VOCABULARY, PROVENANCE, RECORD} <= set(after) and after == before
    assert holder("tiny", CHAMPION, settings) == 1 and load("models:/tiny@champion", settings)


@pytest.mark.parametrize("damage", [None, b"", b'{"metrics"', b"[]"])
def test_an_evaluation_that_is_gone_is_made_again(
    recipe, own: Layout, settings: Settings, damage: bytes | None
) -> None:
    (kept,) = folder_of(recipe, own).glob("evaluation/*/evaluation.json")
    before = kept.read_bytes()
    kept.unlink() if damage is None else kept.write_bytes(damage)
    assert (
        _recipe_pending(recipe, own, settings)
        == "evaluate tiny_tsm again (its evaluation is gone or damaged)"
    )
    assert stands("tiny_tsm", own, settings).metrics.keys() == {"top1"}  # what the gate was told
    line(recipe, own, settings)
    assert _recipe_pending(recipe, own, settings) is None
    assert json.loads(kept.read_bytes())["metrics"] == json.loads(before)["metrics"]


def test_what_is_gone_from_both_is_trained_again_and_says_so(
    recipe, own: Layout, settings: Settings
) -> None:
    shutil.rmtree(folder_of(recipe, own))
    shutil.rmtree(artifacts(settings).parent)
    said = _recipe_pending(recipe, own, settings)
    assert said is not None and said.startswith(
        "train tiny_tsm (complete.json is missing in its run folder; model.safetensors is missing"
    )
    with pytest.raises(
        PredictionError, match="tiny@champion: not in the registry .* is gone from|cannot be read"
    ):
        load("models:/tiny@champion", settings)


def test_a_damaged_model_is_not_served(recipe, own: Layout, settings: Settings) -> None:
    for name in (WEIGHTS, VOCABULARY, PROVENANCE):
        before = (artifacts(settings) / name).read_bytes()
        flip(artifacts(settings) / name)
        with pytest.raises(
            PredictionError,
            match=f"{name} .* is not the one that was logged: its sha256 is another",
        ):
            load("models:/tiny@champion", settings)
        (artifacts(settings) / name).write_bytes(before)
    run = folder_of(recipe, own)
    assert load(str(run), settings)
    flip(run / WEIGHTS)
    with pytest.raises(PredictionError, match="model.safetensors: not what the training wrote"):
        load(str(run), settings)


DONE_TO_MLFLOW: dict[str, Callable[[Any], Any]] = {
    "alias removed": lambda c: c.delete_registered_model_alias("tiny", CHAMPION),
    "both aliases removed": lambda c: [
        c.delete_registered_model_alias("tiny", alias) for alias in (CHAMPION, CHALLENGER)
    ],
    "run deleted": lambda c: c.delete_run(c.get_model_version("tiny", "1").run_id),
    "tags removed": lambda c: [
        c.delete_model_version_tag("tiny", "1", tag)
        for tag in list(c.get_model_version("tiny", "1").tags)
    ],
    "version deleted": lambda c: c.delete_model_version("tiny", "1"),
    "model deleted": lambda c: c.delete_registered_model("tiny"),
}


@pytest.mark.parametrize("name", DONE_TO_MLFLOW)
def test_what_is_removed_in_mlflow_is_made_again(
    recipe, own: Layout, settings: Settings, name: str
) -> None:
    store = client(settings.tracking_uri)
    DONE_TO_MLFLOW[name](store)
    assert _recipe_pending(recipe, own, settings) is not None
    assert opponent("tiny", settings) is None or name == "run deleted"
    assert "@champion" not in stands("tiny_tsm", own, settings).where or name == "run deleted"
    line(recipe, own, settings)
    assert _recipe_pending(recipe, own, settings) is None
    found = stands("tiny_tsm", own, settings)
    champion = holder("tiny", CHAMPION, settings)
    assert found.where == f"tiny v{champion} @champion" and load("models:/tiny@champion", settings)
    assert len(store.search_model_versions("name = 'tiny'")) == 1
    runs = store.search_runs([store.get_experiment_by_name("recognition").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]


def test_an_alias_that_was_moved_by_hand_is_left_alone_and_told(
    world, recipe, own: Layout, settings: Settings
) -> None:
    better = world.recipe(gate={"floor": -1.0}, training={"seed": 9})
    have_trained(better, own)
    line(better, own, settings)
    store = client(settings.tracking_uri)
    gate = {"gate.challenger": "9.0", "gate.decision": "promoted", "gate.reason": "it is better"}
    for key, value in gate.items():
        store.set_model_version_tag("tiny", "2", key, value)
    store.set_registered_model_alias("tiny", CHAMPION, "2")
    assert promote_recipe(better, own, settings).promoted
    store.set_registered_model_alias("tiny", CHAMPION, "1")
    decision = promote_recipe(better, own, settings)
    assert not decision.promoted and decision.reason.startswith(
        "version 1 was made champion by hand; the gate said: "
    )
    assert (
        holder("tiny", CHAMPION, settings) == 1 and _recipe_pending(better, own, settings) is None
    )
    store.delete_registered_model_alias("tiny", CHAMPION)
    # its own decision stands; the alias goes to the last that was promoted
    assert promote_recipe(recipe, own, settings).promoted
    assert holder("tiny", CHAMPION, settings) == 2


def test_the_table_tells_of_a_champion_of_another_tool(
    recipe, own: Layout, settings: Settings
) -> None:
    store = client(settings.tracking_uri)
    other = store.create_model_version("tiny", f"{settings.storage}/other")
    store.set_registered_model_alias("tiny", CHAMPION, other.version)
    with pytest.raises(GateError, match="version 2 was not registered by this project"):
        opponent("tiny", settings)
    found = stands("tiny_tsm", own, settings)
    assert found.where == "tiny v1 @challenger" and found.reason.startswith(
        "version 2 was made champion by hand"
    )
    assert found.metrics["top1"] == promote_recipe(recipe, own, settings).challenger
    reset_champion("tiny", settings)
    assert opponent("tiny", settings) is None and promote_recipe(recipe, own, settings).promoted
    assert holder("tiny", CHAMPION, settings) == 1


def test_a_run_that_mlflow_lost_gets_its_epochs_back(
    world, own: Layout, settings: Settings, plain: None
) -> None:
    recipe = world.recipe(gate={"floor": -1.0})
    result = have_trained(
        recipe,
        own,
        history=[
            {"epoch": 1.0, "loss": 2.0, "seconds": 1.0},
            {"epoch": 2.0, "loss": 1.0, "seconds": 1.0},
        ],
    )
    run = train_recipe(recipe, own, settings).run
    assert isinstance(result, TrainResult) and finished(result.run_dir) == result
    assert run.history("loss") == [(1, 2.0), (2, 1.0)]
