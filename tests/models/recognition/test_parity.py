"""The original implementation's numbers, from checkpoints in its own key names; published sizes, on no memory at all."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import configs
import models
from configs.schema import RecognitionRecipe
from models.weights import export_published, load_published

TSM_R50 = "tsm_imagenet-pretrained-r50_8xb16-1x1x8-100e_kinetics400-rgb"
TSN_R50 = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb"


def fill(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_fill", shared / "parity" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def original(shared: Path, stem: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], torch.Tensor, dict[str, np.ndarray]]:
    """Facts of a fixture, its checkpoint, its input as (1, 3, T, H, W), and its outputs."""
    rules = fill(shared)
    folder = shared / "parity" / "recognition"
    facts = json.loads((folder / f"{stem}.json").read_text())
    state = {
        key: torch.zeros(shape, dtype=torch.int64) if dtype == "int64" else torch.from_numpy(rules.weight(key, shape))
        for key, shape, dtype in facts["state_dict"]
    }
    clip = torch.from_numpy(rules.clip(facts["input_shape"])).transpose(0, 1)[None]
    with np.load(folder / f"{stem}.npz") as outputs:
        return facts, state, clip, dict(outputs)


@pytest.mark.parametrize(("recipe", "stem"), [("tsm_r50_8f_k400_100e", TSM_R50), ("tsn_r50_3f_k400_100e", TSN_R50)])
def test_logits_of_the_original(shared: Path, recipe: str, stem: str) -> None:
    facts, state, clip, outputs = original(shared, stem)
    loaded = configs.load(recipe)
    assert loaded.origin == stem
    model = models.build(loaded).eval()
    report = load_published(model, state)
    assert report.loaded == len(state) and not report.ignored and not report.defaulted

    with torch.no_grad():
        logits = model(clip).numpy()
    std = facts["logits_stat"]["std"]
    tolerance = max(2e-5, 10 * facts["fp32_vs_fp64_rel_std"]) * std
    assert np.abs(logits - outputs["logits"]).max() <= tolerance
    assert np.abs(logits - outputs["logits_f64"]).max() <= tolerance

    exported = export_published(model)
    assert list(exported) == list(state)
    assert all(torch.equal(exported[key], state[key]) for key in state)


@pytest.mark.slow  # double precision costs several times the float32 pass that the quick suite checks
@pytest.mark.parametrize(("recipe", "stem"), [("tsm_r50_8f_k400_100e", TSM_R50), ("tsn_r50_3f_k400_100e", TSN_R50)])
def test_exact_in_double_precision(shared: Path, recipe: str, stem: str) -> None:
    facts, state, clip, outputs = original(shared, stem)
    model = models.build(configs.load(recipe)).eval()
    load_published(model, state)
    with torch.no_grad():
        logits = model.double()(clip.double()).numpy()
    assert np.abs(logits - outputs["logits_f64"]).max() <= 1e-9 * facts["logits_stat"]["std"]


def published() -> list[str]:
    return [name for name in configs.names("recognition") if configs.load(name).family in ("tsn", "tsm") and configs.load(name).published]


@functools.cache
def sizes(name: str) -> tuple[int, float]:
    """(parameters, GMACs of the trunk on one view of a recipe's training frames at 224 x 224)."""
    recipe = configs.load(name)
    assert isinstance(recipe, RecognitionRecipe)
    with torch.device("meta"):
        model = models.build(recipe)
        frames = torch.empty(recipe.sampling.num_frames, 3, recipe.transforms.crop, recipe.transforms.crop)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.trunk(frames)
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() / 2e9


EXACT = {
    "tsm_r50_8f_k400_50e": (24_327_632, 32.697),
    "tsm_r50_16f_k400_50e": (24_327_632, 65.394),
    "tsn_r50_3f_k400_100e": (24_327_632, 12.261),
    "tsn_r50_5f_k400_100e": (24_327_632, 20.436),
    "tsn_r101_8f_k400_100e": (43_319_760, 62.395),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_sizes(name: str) -> None:
    parameters, gmacs = sizes(name)
    assert parameters == EXACT[name][0]
    assert gmacs == pytest.approx(EXACT[name][1], abs=5e-4)


@pytest.mark.parametrize("name", published())
def test_published_sizes(name: str) -> None:
    recipe = configs.load(name)
    assert isinstance(recipe, RecognitionRecipe) and recipe.published is not None
    parameters, gmacs = sizes(name)
    # Some rows print the parameters of another class count: 174 and 400 classes are 0.46 M apart on 2048 features.
    assert parameters / 1e6 == pytest.approx(recipe.published.params_m, abs=0.47)
    test_frames = 25 if recipe.family == "tsn" else recipe.sampling.num_frames
    assert gmacs * test_frames / recipe.sampling.num_frames == pytest.approx(recipe.published.gflops, rel=0.01)


def test_rows_are_the_tables(shared: Path) -> None:
    rows = json.loads((shared / "references" / "recognition_rows.json").read_text())
    by_origin = {Path(row["config"]).stem: row for row in rows if row["config"]}
    for name in published():
        recipe = configs.load(name)
        assert recipe.origin is not None and recipe.published is not None
        row = by_origin[recipe.origin]
        assert recipe.num_classes == row["num_classes"], name
        assert (recipe.published.top1, recipe.published.top5) == (float(row["top1"]), float(row["top5"])), name
        assert recipe.published.gflops == float(row["flops_reported"].removesuffix("G")), name
        assert recipe.published.params_m == float(row["params_reported"].removesuffix("M")), name
        assert recipe.published.pretraining == row["pretrain"] and recipe.published.protocol == row["testing_protocol"], name
        assert recipe.model.get("num_segments", row["input_shape"][0]) == row["input_shape"][0], name
    ours = {configs.load(name).origin for name in published()}
    wanted = {
        Path(row["config"]).stem
        for row in rows
        if row["family"] in ("TSN", "TSM") and row["backbone"] in ("ResNet50", "ResNet101") and row["num_classes"] == 400
    }
    assert wanted
    assert ours >= wanted
