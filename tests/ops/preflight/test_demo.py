"""Every field of every recipe of the demo, changed to something wrong, is refused before anything
is made or decoded.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import configs
from configs.loading import _folders, _recipe_sources
from ops.preflight.facts import Facts, facts_of
from ops.preflight.run import mistakes
from ops.store.layout import Layout
from pipelines.jobs import DEMO_RECIPES

NAME = "changed"
# What is wrong with a field where -1, or a word that nothing has, would be right, or would be
# refused without thinking. More than one: each is refused.
WRONG: dict[str, list[Any]] = {
    "about": [5],
    "dataset": ["no_such", "thumos14"],
    "num_classes": [0, 1, 9, 11, 18, 400],
    "features": ["no_such", "thumos14_i3d"],
    "model.input_dims": [64, 256],
    "gate.metric": ["no_such", "loss", "chance", "val_top1"],
    "gate.floor": [1.0, 30, math.inf, math.nan],
    "gate.registered_model": ["", " ", "a/b", "a:b", "it's", " blanks ", "..", "x" * 300],
    "training.evaluate_every": [0],
    "training.label_smoothing": [1.0, -0.1],
    "schedule.warmup_epochs": [-1, 1000],
    "schedule.min_lr": [-1, 1.0],
    "optimizer.lr": [0, math.inf],
    "optimizer.nesterov": ["perhaps"],
    "transforms.crop": [4, 100],
    "transforms.short_side": [4, 60],
    "views.average": ["median"],
    "sampling.num_segments": [0],
    "model.num_segments": [0, 4],
    "sampling.clip_len": [0, 8],
    "sampling.kind": ["no_such", "sliding"],
    "pictures.short_side": [-1],
    "images.long_side": [15, 90],
    "images.short_sides": [[], [8], [900]],
    "images.test_short_side": [8, 900],
    "groups.movement": [["fly"]],
    "groups.object": [["hold", "throw"]],
    "action_model": [
        "models:/no-such@champion",
        "/no/such/folder",
        "models:/figures-recognition/7",
    ],
    "tiou": [[], [0.5, 0.3], [0]],
    "recall": [[0], [1, 1]],
    "steps.crop_ratio": [[1.0, 0.9], [0, 2]],
    "model.windows": [0, -2, 1.5],
    "model.drop_path": [-1, 1],
    "model.decoder_drop_path": [-1, 1],
}
# Fields that the recipes leave at their defaults: all that can be wrong with them in any recipe.
ADDED: list[tuple[str, Any]] = [
    ("target", "verb"),
    ("training.seed", -1),
    ("training.amp", "fp16"),
    ("training.accumulate", 5),
    ("training.repeated_augmentation", 7),
    ("training.init_from", "/no/such/file.safetensors"),
    ("training.init_head", {"dataset": "figures"}),
    ("optimizer.momentum", 1.5),
    ("optimizer.betas", [0.9, 1.5]),
    ("optimizer.lr_multipliers", {"no_such_layer": 2}),
    ("optimizer.no_decay", ["no_such_layer"]),
    ("optimizer.layer_decay", 1.5),
    ("schedule.milestones", [3, 1000]),
    ("schedule.kind", "multistep"),
    ("scale.num_workers", 7),
    ("scale.num_workers", 0),
    ("scale.use_gpu", True),
    ("gate.min_gain", math.nan),
    ("gate.min_gain", 5),
    ("model.no_such", 1),
    ("no_such", 1),
]
OF_ADAMW_ALONE = {"optimizer.betas"}  # read by no other


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> Facts:
    return facts_of(configs.dataset("figures"), Layout(str(tmp_path_factory.mktemp("none"))), {})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> configs.Settings:
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    (tmp_path / "configs").mkdir()
    return configs.Settings(
        storage=str(tmp_path / "store"),
        tracking_uri=f"sqlite:///{tmp_path}/m.db",
        home=tmp_path / "home",
    )


def leaves(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        return [
            leaf
            for key, inner in value.items()
            for leaf in leaves(inner, f"{path}.{key}" if path else key)
        ]
    return [path]


def at(value: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        value = value[key]
    return value


def with_value(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    value = copy.deepcopy(value)
    *folders, last = path.split(".")
    inner = value
    for key in folders:
        inner = inner.setdefault(key, {})
    inner[last] = new
    return value


def refusal(value: dict[str, Any], task: str, family: str, settings, facts: Facts, before) -> str:
    """The first mistake that is found in a recipe of this text; "" where there is none."""
    path = Path(settings.storage).parent / "configs" / task / f"{family}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({NAME: value}))
    sources = dict(_recipe_sources((_folders()[0],)))  # the project's own, read once
    sources[NAME] = (task, path, yaml.safe_load(path.read_text())[NAME])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs.loading, "_recipe_sources", lambda folders: sources)
        try:
            recipe = configs.load(NAME)
        except configs.ConfigError as error:
            return str(error)
        found = mistakes(
            recipe, Layout(settings.storage), settings, before=before, world={}, facts=facts
        )
        return str(next(found, ""))


@pytest.mark.parametrize("name", DEMO_RECIPES)
def test_every_field_changed_to_something_wrong_is_refused(name: str, settings, facts) -> None:
    task, path, raw = _recipe_sources((_folders()[0],))[name]
    before = [configs.load(other) for other in DEMO_RECIPES[: DEMO_RECIPES.index(name)]]
    assert refusal(raw, task, path.stem, settings, facts, before) == ""
    cases = [
        (leaf, wrong)
        for leaf in leaves(raw)
        for wrong in WRONG.get(leaf, [-1 if _is_number(at(raw, leaf)) else "no such"])
    ]
    cases += [
        case
        for case in ADDED
        if not (raw["optimizer"]["name"] != "adamw" and case[0] in OF_ADAMW_ALONE)
    ]
    passed = []
    for leaf, wrong in cases:
        if wrong == at_or_none(raw, leaf):
            continue
        said = refusal(with_value(raw, leaf, wrong), task, path.stem, settings, facts, before)
        if not said:
            passed.append((leaf, wrong))
        else:
            assert NAME in said or "environment" in said, said  # names the recipe
    assert not passed
    assert not Path(settings.storage).exists()  # nothing was made


def at_or_none(raw: dict[str, Any], leaf: str) -> Any:
    try:
        return at(raw, leaf)
    except (KeyError, TypeError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
