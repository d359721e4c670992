"""Localization recipes: the published ones against their sources, and what the schema refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import configs
from configs.schema import ConfigError
from configs.schema.localization import LocalizationRecipe

PUBLISHED = [
    name for name in configs.names("localization") if configs.load(name).published is not None
]
PARAMS = {
    "actionformer_thumos_i3d": 29_251_612,
    "actionformer_anet_tsp": 6_943_497,
    "actionformer_epic_verb": 29_763_177,
    "actionformer_ego4d_omnivore_egovlp": 77_164_152,
}


def recipe(name: str) -> LocalizationRecipe:
    found = configs.load(name)
    assert isinstance(found, LocalizationRecipe)
    return found


def test_all_eleven_are_there() -> None:
    assert len(PUBLISHED) == 11
    assert len({recipe(name).origin for name in PUBLISHED}) == 11


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_whole(name: str) -> None:
    found = recipe(name)
    published, features = found.published, configs.features(found.features)
    assert published is not None and published.dataset == found.dataset == features.dataset
    width = found.model["input_dims"]
    assert sum(stream.channels for stream in features.files) == (
        sum(width) if isinstance(width, list | tuple) else width
    )
    assert published.map_at is not None and published.mean_ap is not None
    values = list(published.map_at.values())
    assert values == sorted(values, reverse=True) and min(values) < published.mean_ap < max(values)
    if len(values) == len(found.tiou):
        assert np.mean(values) == pytest.approx(published.mean_ap, abs=0.01)
    assert {float(key) for key in published.map_at} <= set(found.tiou)
    assert not found.training.ema_warmup and found.training.ema_decay == 0.999


@pytest.mark.parametrize("name", sorted(PARAMS))
def test_parameters_are_the_originals(name: str) -> None:
    import torch

    import models

    with torch.device("meta"):
        model = models.build(recipe(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMS[name]


def test_only_convolutions_decay() -> None:
    import torch

    import models
    from ops.training.optim import parameter_groups

    found = recipe("actionformer_thumos_i3d")
    with torch.device("meta"):
        model = models.build(found)
    decayed = {
        id(one)
        for group in parameter_groups(model, found.optimizer)
        if group["weight_decay"]
        for one in group["params"]
    }  # type: ignore[attr-defined]
    for name, parameter in model.named_parameters():
        is_kernel = parameter.ndim == 3 and parameter.shape[0] > 1 or parameter.ndim == 2
        assert (id(parameter) in decayed) == is_kernel, name


def curve(name: str, steps_per_epoch: int) -> list[float]:
    from ops.training.optim import LearningRate

    rate = LearningRate(recipe(name), steps_per_epoch)
    return [rate.at(step) for step in range(rate.total)]


@pytest.mark.parametrize(
    ("name", "key"), [("actionformer_thumos_i3d", "thumos"), ("actionformer_anet_tsp", "anet")]
)
def test_the_learning_rate_is_the_originals_step_by_step(shared: Path, name: str, key: str) -> None:
    expected = np.load(shared / "parity" / "localization" / "actionformer_extras.npz")[f"lr/{key}"]
    epochs = recipe(name).training.epochs
    found = curve(name, len(expected) // epochs)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_thumos_is_the_original_configuration(shared: Path) -> None:
    """Every number of the original file, by the name that it has here."""
    original = json.loads(
        (shared / "parity" / "localization" / "actionformer_thumos_i3d.json").read_text()
    )["config"]
    found = recipe("actionformer_thumos_i3d")
    data, model, test = (
        original["dataset"],
        original["model"],
        original["test_cfg"] if "test_cfg" in original else original["model"]["test_cfg"],
    )
    assert (found.num_classes, found.model["input_dims"]) == (
        data["num_classes"],
        data["input_dim"],
    )
    assert (found.model["max_length"], found.steps.keep_share) == (
        data["max_seq_len"],
        data["trunc_thresh"],
    )
    assert list(found.steps.crop_ratio or ()) == data["crop_ratio"]
    features = configs.features(found.features)
    assert (features.stride, features.num_frames, features.fps) == (
        data["feat_stride"],
        data["num_frames"],
        data["default_fps"],
    )
    assert found.model["windows"] == model["n_mha_win_size"]
    decoding = found.decoding
    assert (decoding.max_candidates, decoding.max_segments, decoding.sigma) == (
        test["pre_nms_topk"],
        test["max_seg_num"],
        test["nms_sigma"],
    )
    assert (decoding.min_score, decoding.min_length) == (test["min_score"], test["duration_thresh"])
    assert (decoding.min_probability, decoding.iou_threshold) == (
        test["pre_nms_thresh"],
        test["iou_threshold"],
    )
    assert (
        found.optimizer.lr == original["opt"]["learning_rate"]
        and found.optimizer.weight_decay == original["opt"]["weight_decay"]
    )
    assert found.training.epochs == original["opt"]["epochs"] + original["opt"]["warmup_epochs"]
    assert (
        found.training.batch_size == original["loader"]["batch_size"]
        and found.loss.normaliser == original["train_cfg"]["init_loss_norm"]
    )


MISTAKES = {
    "tiou": ({"tiou": [0.5, 0.3]}, "ascending order"),
    "recall": ({"recall": [0]}, "whole numbers from 1"),
    "crop": ({"steps": {"crop_ratio": [0.9, 0.5]}}, "two shares in ascending order"),
    "voting": ({"decoding": {"voting_threshold": 0.9}}, "moves nothing while multiclass is on"),
    "fusion": ({"fusion": {"scores": "a.json"}}, "needs class_agnostic"),
    "video": (
        {"fusion": {"scores": "a.json", "video": "v_"}, "class_agnostic": True, "num_classes": 1},
        "does not hold '{video}' once",
    ),
    "one class": ({"class_agnostic": True}, "num_classes 10 with class_agnostic"),
    "accumulate": ({"training": {"accumulate": 2}}, "share a count of the whole batch"),
    "model": ({"model": {"num_classes": 3}}, "belongs to the recipe itself"),
}


@pytest.mark.parametrize("case", sorted(MISTAKES))
def test_mistakes_are_named(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, message = MISTAKES[case]
    values = json.loads(
        recipe("actionformer_tiny_figures").model_dump_json(exclude={"name", "task", "family"})
    )
    for name, value in changes.items():
        values[name] = (
            {**values[name], **value}
            if isinstance(value, dict) and isinstance(values.get(name), dict)
            else value
        )
    (tmp_path / "localization").mkdir()
    (tmp_path / "localization" / "actionformer.yaml").write_text(json.dumps({"mine": values}))
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        configs.load("mine")
