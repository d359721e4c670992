"""The original implementation's numbers, from checkpoints in its own key names, by the recipes of
the same origin.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import configs
import models
from models.weights import export_published, load_published
from reference import load_module

TSM_R50 = "tsm_imagenet-pretrained-r50_8xb16-1x1x8-100e_kinetics400-rgb"
TSN_R50 = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb"


def original(
    shared: Path, stem: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor], torch.Tensor, dict[str, np.ndarray]]:
    """Facts of a fixture, its checkpoint, its input as (1, 3, T, H, W), and its outputs."""
    rules = load_module(shared / "parity" / "fill.py", "parity_fill")
    folder = shared / "parity" / "recognition"
    facts = json.loads((folder / f"{stem}.json").read_text())
    state = {
        key: (
            torch.zeros(shape, dtype=torch.int64)
            if dtype == "int64"
            else torch.from_numpy(rules.weight(key, shape))
        )
        for key, shape, dtype in facts["state_dict"]
    }
    clip = torch.from_numpy(rules.clip(facts["input_shape"])).transpose(0, 1)[None]
    with np.load(folder / f"{stem}.npz") as outputs:
        return facts, state, clip, dict(outputs)


@pytest.mark.parametrize(
    ("recipe", "stem"), [("tsm_r50_8f_k400_100e", TSM_R50), ("tsn_r50_3f_k400_100e", TSN_R50)]
)
def test_logits_of_the_original(shared: Path, recipe: str, stem: str) -> None:
    facts, state, clip, outputs = original(shared, stem)
    loaded = configs.load(recipe)
    assert loaded.origin == stem
    model = models.build(loaded).eval()
    report = load_published(model, state)
    assert report.loaded == len(state) and not report.unused and not report.defaulted

    with torch.no_grad():
        logits = model(clip).numpy()
    std = facts["logits_stat"]["std"]
    tolerance = max(2e-5, 10 * facts["fp32_vs_fp64_rel_std"]) * std
    assert np.abs(logits - outputs["logits"]).max() <= tolerance
    assert np.abs(logits - outputs["logits_f64"]).max() <= tolerance

    exported = export_published(model)
    assert list(exported) == list(state)
    assert all(torch.equal(exported[key], state[key]) for key in state)


# double precision costs several times the float32 pass that the quick suite checks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "stem"), [("tsm_r50_8f_k400_100e", TSM_R50), ("tsn_r50_3f_k400_100e", TSN_R50)]
)
def test_exact_in_double_precision(shared: Path, recipe: str, stem: str) -> None:
    facts, state, clip, outputs = original(shared, stem)
    model = models.build(configs.load(recipe)).eval()
    load_published(model, state)
    with torch.no_grad():
        logits = model.double()(clip.double()).numpy()
    assert np.abs(logits - outputs["logits_f64"]).max() <= 1e-9 * facts["logits_stat"]["std"]
