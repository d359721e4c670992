"""Every family computes the original implementation's numbers, from checkpoints in its own key
names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models
from models.weights import export_published, load_published
from reference import load_module

# Fixture, family, classes, arguments of its Config. The quick suite takes the light ones, the slow
# one all, also in double precision.
LIGHT: list[tuple[str, str, int, dict[str, Any]]] = [
    ("c2d_r50-in1k-pre_8xb32-8x8x1-100e_kinetics400-rgb", "c2d", 400, {}),
    ("r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb", "r2plus1d", 400, {}),
    (
        "slowonly_imagenet-pretrained-r50_16xb16-4x16x1-steplr-150e_kinetics700-rgb",
        "slowonly",
        700,
        {},
    ),
    ("tanet_imagenet-pretrained-r50_8xb8-1x1x8-50e_sthv1-rgb", "tanet", 174, {}),
    ("tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1-rgb", "tin", 174, {}),
    ("trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv1-rgb", "trn", 174, {}),
    (
        "tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb",
        "tsm",
        400,
        {"trunk": "mobilenetv2"},
    ),
    ("tsm_imagenet-pretrained-r50_8xb16-1x1x8-100e_kinetics400-rgb", "tsm", 400, {}),
    (
        "tsn_imagenet-pretrained-dense161_8xb32-1x1x3-100e_kinetics400-rgb",
        "tsn",
        400,
        {"trunk": "densenet161"},
    ),
    (
        "tsn_imagenet-pretrained-mobileone-s4_8xb32-1x1x8-100e_kinetics400-rgb",
        "tsn",
        400,
        {"trunk": "mobileone_s4"},
    ),
    ("tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb", "tsn", 400, {}),
    ("uniformer-small_imagenet1k-pre_16x4x1_kinetics400-rgb", "uniformer", 400, {}),
    (
        "vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400",
        "videomae",
        400,
        {"width": 384, "heads": 6},
    ),
    ("x3d_s_13x6x1_facebook-kinetics400-rgb", "x3d", 400, {}),
]
HEAVY: list[tuple[str, str, int, dict[str, Any]]] = [
    (
        "c2d_r50-in1k-pre-nopool_8xb32-8x8x1-100e_kinetics400-rgb",
        "c2d",
        400,
        {"temporal_pool": False},
    ),
    ("c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb", "c3d", 101, {}),
    (
        "i3d_imagenet-pretrained-r50-nl-dot-product_8xb8-32x2x1-100e_kinetics400-rgb",
        "i3d",
        400,
        {"nonlocal_kind": "dot_product"},
    ),
    ("i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb", "i3d", 400, {}),
    ("ipcsn_ig65m-pretrained-r152-bnfrozen_32x2x1-58e_kinetics400-rgb", "csn", 400, {"kind": "ip"}),
    (
        "ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb",
        "csn",
        400,
        {"depth": 50},
    ),
    ("mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb", "mvit", 400, {}),
    ("slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb", "slowfast", 400, {}),
    (
        "slowonly_r50-in1k-pre-nl-embedded-gaussian_8xb16-4x16x1-steplr-150e_kinetics400-rgb",
        "slowonly",
        400,
        {"nonlocal_kind": "embedded_gaussian"},
    ),
    ("slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb", "omnisource", 400, {}),
    ("swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb", "videoswin", 400, {}),
    ("timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb", "timesformer", 400, {}),
    ("timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb__posgain", "timesformer", 400, {}),
    (
        "timesformer_spaceOnly_8xb8-8x32x1-15e_kinetics400-rgb",
        "timesformer",
        400,
        {"attention": "space_only"},
    ),
    ("tpn-slowonly_imagenet-pretrained-r50_8xb8-8x8x1-150e_kinetics400-rgb", "tpn", 400, {}),
    (
        "tsm_imagenet-pretrained-mobileone-s4_deploy_8xb16-1x1x16-50e_kinetics400-rgb",
        "tsm",
        400,
        {"trunk": "mobileone_s4_merged", "num_segments": 16, "shift_segments": 8},
    ),
    (
        "tsm_imagenet-pretrained-r50-nl-gaussian_8xb16-1x1x8-50e_kinetics400-rgb",
        "tsm",
        400,
        {"nonlocal_kind": "gaussian"},
    ),
    (
        "uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400-rgb",
        "uniformerv2",
        400,
        {},
    ),
    ("uniformerv2-base-p16-res224_clip_8xb32-u8_kinetics400-rgb__posgain", "uniformerv2", 400, {}),
    ("vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400", "videomae", 400, {}),
    ("vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400__native_posembed", "videomae", 400, {}),
]
OWN_VALUE = ("relative_position_index",)  # integers that the fixture leaves to the model


def check(
    shared: Path, stem: str, family: str, classes: int, arguments: dict[str, Any], exact: bool
) -> None:
    """The logits, the round trip of the weights, and, where `exact`, the logits in double
    precision.
    """
    rules, folder = (
        load_module(shared / "parity" / "fill.py", "parity_fill"),
        shared / "parity" / "recognition",
    )
    facts = json.loads((folder / f"{stem}.json").read_text())
    module = models.family("recognition", family)
    model = module.build(module.Config(num_classes=classes, **arguments)).eval()
    own = export_published(model)
    state = {
        key: (
            torch.zeros(shape, dtype=torch.int64)
            if dtype == "int64"
            else torch.from_numpy(rules.weight(key, shape, None, facts["gain"]))
        )
        for key, shape, dtype in facts["state_dict"]
    }
    kept = [
        key
        for key in state
        if key.endswith(OWN_VALUE) or ("native_posembed" in stem and key.endswith("pos_embed"))
    ]
    state |= {key: own[key] for key in kept}
    report = load_published(model, state)
    assert report.loaded == len(state) and not report.unused and not report.defaulted
    exported = export_published(model)
    assert list(exported) == list(state)
    assert all(torch.equal(exported[key], state[key]) for key in state)

    clip = torch.from_numpy(rules.clip(facts["input_shape"]))
    clip = clip if clip.ndim == 5 else clip.transpose(0, 1)[None]
    with np.load(folder / f"{stem}.npz") as stored:
        outputs = dict(stored)
    std = facts["logits_stat"]["std"]
    with torch.no_grad():
        logits = model(clip).numpy()
        assert (
            np.abs(logits - outputs["logits"]).max()
            <= max(2e-5, 10 * facts.get("fp32_vs_fp64_rel_std", 0)) * std
        )
        if exact and "logits_f64" in outputs:
            assert (
                np.abs(model.double()(clip.double()).numpy() - outputs["logits_f64"]).max()
                <= 1e-9 * std
            )


@pytest.mark.parametrize(
    ("stem", "family", "classes", "arguments"), LIGHT, ids=[case[0] for case in LIGHT]
)
def test_logits_of_the_original(
    shared: Path, stem: str, family: str, classes: int, arguments: dict[str, Any]
) -> None:
    check(shared, stem, family, classes, arguments, exact=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "family", "classes", "arguments"),
    LIGHT + HEAVY,
    ids=[case[0] for case in LIGHT + HEAVY],
)
def test_exact_logits(
    shared: Path, stem: str, family: str, classes: int, arguments: dict[str, Any]
) -> None:
    check(shared, stem, family, classes, arguments, exact=True)


def test_every_fixture_is_checked(shared: Path) -> None:
    found = {path.stem for path in (shared / "parity" / "recognition").glob("*.json")}
    assert found == {case[0] for case in LIGHT + HEAVY}
