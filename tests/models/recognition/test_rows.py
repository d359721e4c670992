"""Every row of the published tables is a recipe: with its figures, its parameters, its cost and the
original's key names.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import configs
import models
from configs.schema import RecognitionRecipe
from models.weights import export_published
from ops.data.test_views import FrozenViews
from ops.data.transforms import check
from ops.training.optim import parameter_groups

CLASSES = {
    "kinetics400": 400,
    "kinetics600": 600,
    "kinetics700": 700,
    "kinetics710": 710,
    "something_v1": 174,
    "something_v2": 174,
    "ucf101": 101,
    "moments_in_time": 339,
    "kinetics_tps": 24,
    "figures": 10,
}
CROPS = {"CenterCrop": 1, "ThreeCrop": 3, "TenCrop": 10}
# row -> that of the recipe
WITHOUT_CONFIGURATION = {27: "mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb"}
OTHER_CLASSES = {61: 400}  # row of Kinetics-400 that links a configuration of 174 classes
# One recipe of each family and size: parameters, GMACs of one view of the training frames at the
# training crop. Counts of shapes, on `meta` tensors: no kernel has a part in them, and the three
# digits of the second are those that are written here.
GOLDEN = {
    "c2d_r50_8x8_k400_100e": (24_327_632, 19.289),
    "c3d_16x1_ucf101_45e": (78_409_573, 38.547),
    "csn_ip_r152_32x2_k400_180e": (33_016_592, 83.294),
    "csn_ir_r50_32x2_k400_58e_ig65m_bnfrozen": (13_131_152, 42.308),
    "i3d_r50_32x2_k400_100e": (28_043_472, 33.127),
    "i3d_r50_heavy_32x2_k400_100e": (33_024_208, 126.781),
    "mvit_s_16x4_k400_200e": (34_537_744, 64.224),
    "omnisource_r50_8x8_k400_256e": (35_648_792, 41.740),
    "pan_lite_r50_sthv1": (23_875_542, 35.530),
    "pan_pa_r50_sthv2": (23_866_134, 34.588),
    "pan_rgb_r50_sthv2": (23_864_950, 32.697),
    "r2plus1d_r34_8x8_k400_180e": (63_759_281, 40.561),
    "slowfast_r101_r50_4x16_k400_256e": (62_384_312, 49.474),
    "slowonly_r50_4x16_k400_256e": (32_454_096, 20.870),
    "tanet_r50_8f_sthv1_50e": (25_127_246, 32.708),
    "timesformer_divided_8x32_k400_15e": (121_566_352, 195.830),
    "tin_r50_8f_sthv2_40e": (23_895_566, 32.697),
    "tpn_tsm_r50_8f_sthv1_150e": (82_445_724, 41.233),
    "trn_r50_8f_sthv1_50e": (26_641_154, 32.697),
    "tsm_mobilenetv2_8f_k400_100e": (2_736_272, 2.396),
    "tsm_r50_8f_k400_50e": (24_327_632, 32.697),
    "tsn_r101_8f_k400_100e": (43_319_760, 62.395),
    "tsn_r50_3f_k400_100e": (24_327_632, 12.261),
    "uniformer_s_16x4_k400_110e": (21_400_400, 41.662),
    "uniformerv2_b16_u8_k400_clip": (114_552_208, 148.104),
    "videomae_b_16x4_k400_75e": (86_534_800, 180.345),
    "videoswin_t_32x2_k400_30e": (28_158_070, 87.764),
    "x3d_m_16x5_k400_300e": (3_794_322, 4.732),
}
# PAN's published rows: top-1, top-5 and GFLOPs of one view, counted at the crop of the test.
PAN = {
    "pan_lite_r50_sthv1": (48.0, 76.1, 35.7),
    "pan_full_r50_sthv1": (50.5, 79.2, 67.7),
    "pan_en_r50_sthv1": (53.4, 81.1, 46.6 + 88.4),
    "pan_en_r101_sthv1": (55.3, 82.8, 85.6 + 166.1),
    "pan_lite_r50_sthv2": (60.8, 86.7, 35.7),
    "pan_full_r50_sthv2": (63.8, 88.6, 67.7),
    "pan_en_r50_sthv2": (66.2, 90.1, 46.6 + 88.4),
    "pan_en_r101_sthv2": (66.5, 90.6, 85.6 + 166.1),
}


@functools.cache
def recipes() -> dict[str, RecognitionRecipe]:
    loaded = {name: configs.load(name) for name in configs.names("recognition")}
    return {
        name: recipe for name, recipe in loaded.items() if isinstance(recipe, RecognitionRecipe)
    }


def published() -> list[str]:
    return [name for name, recipe in recipes().items() if recipe.published]


@functools.cache
def _built(family: str, num_classes: int, model: str) -> nn.Module:
    """On no memory at all; rows that differ in data alone share one."""
    with torch.device("meta"):
        module = models.family("recognition", family)
        built = module.build(module.Config(num_classes=num_classes, **json.loads(model)))
    return built.eval().requires_grad_(False).to("meta")


def built(recipe: RecognitionRecipe) -> nn.Module:
    return _built(recipe.family, recipe.num_classes, json.dumps(recipe.model, sort_keys=True))


def parameters(recipe: RecognitionRecipe) -> int:
    return sum(parameter.numel() for parameter in built(recipe).parameters())


@functools.cache
def _gmacs(family: str, model: str, frames: int, size: int) -> float:
    network: Any = _built(family, 400, model)
    clip = torch.empty(1, 3, frames, size, size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.features(clip)
    return counter.get_total_flops() / 2e9


def gmacs(recipe: RecognitionRecipe, frames: int, size: int) -> float:
    """Of the network before its classifier, on one view."""
    return _gmacs(recipe.family, json.dumps(recipe.model, sort_keys=True), frames, size)


# ------------------------------------------------------------------------------------------------
# the project by itself


@pytest.mark.parametrize("name", sorted(recipes()))
def test_recipe_holds_together(name: str) -> None:
    recipe = recipes()[name]
    assert recipe.num_classes == CLASSES[recipe.dataset]
    views = FrozenViews(recipe.sampling, recipe.transforms, recipe.views)
    assert len(views) >= 1
    check(recipe.transforms)
    parameter_groups(built(recipe), recipe.optimizer)  # every prefix names a parameter


def test_every_family_has_a_demo_size() -> None:
    for family in models.families("recognition"):
        recipe = recipes()[f"{family}_tiny_figures"]
        assert (recipe.family, recipe.dataset, recipe.published) == (family, "figures", None)
        assert parameters(recipe) < 2_000_000
        size = recipe.transforms.crop
        with torch.no_grad():
            clip = torch.empty(1, 3, recipe.sampling.num_frames, size, size, device="meta")
            assert built(recipe)(clip).shape == (1, recipe.num_classes)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_parameters(name: str) -> None:
    assert parameters(recipes()[name]) == GOLDEN[name][0]


@pytest.mark.slow  # a second or so for each: counted by operator
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cost(name: str) -> None:
    recipe = recipes()[name]
    assert gmacs(recipe, recipe.sampling.num_frames, recipe.transforms.crop) == pytest.approx(
        GOLDEN[name][1], rel=1e-3
    )


@pytest.mark.parametrize("name", published())
def test_published_parameters_to_rounding_or_named(name: str) -> None:
    facts = recipes()[name].published
    assert facts is not None
    if facts.params_m is not None and "parameters" not in (facts.note or ""):
        assert parameters(recipes()[name]) / 1e6 == pytest.approx(facts.params_m, rel=0.006)


@pytest.mark.parametrize("name", PAN)
def test_rows_of_pan(name: str) -> None:
    recipe = recipes()[name]
    facts = recipe.published
    assert facts is not None and (facts.top1, facts.top5) == PAN[name][:2]
    assert facts.gflops == pytest.approx(PAN[name][2])
    assert recipe.views.twice == ("_en_" in name) and (
        recipe.views.crop or recipe.transforms.crop
    ) == (256 if "_en_" in name else 224)
    branches = {"full": ("rgb", "pa"), "en": ("lite", "rgb", "pa")}.get(
        recipe.model["modality"], ()
    )
    for branch in branches:  # what is averaged is trained apart, on its own recipe
        own = recipes()[name.replace(f"pan_{recipe.model['modality']}", f"pan_{branch}")]
        assert {**recipe.model, "modality": branch} == own.model and own.dataset == recipe.dataset


@pytest.mark.slow  # three networks at 256 pixels
@pytest.mark.parametrize("name", [name for name in PAN if name.endswith("sthv1")])
def test_cost_of_pan(name: str) -> None:
    recipe = recipes()[name]
    size = recipe.views.crop or recipe.transforms.crop
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(recipe)(torch.empty(1, 3, recipe.sampling.num_frames, size, size, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(PAN[name][2], rel=0.01)


def test_families_have_golden_figures() -> None:
    assert {recipes()[name].family for name in GOLDEN} == set(models.families("recognition"))


# --------------------------------------------------------------------------------------------------
# the tables


def rows_of(shared: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        (shared / "references" / "recognition_rows.json").read_text()
    )
    without = {row["row"]: row for row in rows if not row["config"]}
    assert set(without) == set(WITHOUT_CONFIGURATION)
    for number, stem in WITHOUT_CONFIGURATION.items():
        like = next(row for row in rows if row["config"] and Path(row["config"]).stem == stem)
        without[number].update(
            {key: like[key] for key, value in without[number].items() if value in (None, "")}
        )
    return rows


def numbers(text: str | None) -> set[float | None]:
    """'46.98/49.71' is two figures, a dash none."""
    found = {float(part) for part in (text or "").split("/") if part.strip() not in ("", "-")}
    return set(found) or {None}


def amount(text: str | None) -> float | None:
    """'59.3G', '24.3M', '0.1T' (in G), '56.5'."""
    if text is None or text == "-":
        return None
    return float(text[:-1]) * 1000 if text.endswith("T") else float(text.rstrip("GM"))


def of_row(row: dict[str, Any]) -> list[str]:
    """Names of the recipes that are this row: its origin, its figures, its data and what it starts
    from.
    """
    found = []
    for name in published():
        recipe = recipes()[name]
        facts = recipe.published
        assert facts is not None
        data = "Kinetics-400" if row["dataset"].startswith("Using backbones") else row["dataset"]
        if (recipe.origin, facts.dataset, facts.pretraining) != (
            Path(row["config"]).stem,
            data,
            row["pretrain"],
        ):
            continue
        if facts.top1 in numbers(row["top1"]) and facts.top5 in numbers(row["top5"]):
            found.append(name)
    return found


def test_every_row_is_a_recipe(shared: Path) -> None:
    rows = rows_of(shared)
    names = {row["row"]: of_row(row) for row in rows}
    assert {number: found for number, found in names.items() if len(found) != 1} == {}
    assert len({found[0] for found in names.values()}) == len(rows) == 123
    families = {recipes()[name].family for name in published()}
    assert families == set(models.families("recognition"))


def test_figures_are_those_of_the_tables(shared: Path) -> None:
    for row in rows_of(shared):
        (name,) = of_row(row)
        facts = recipes()[name].published
        assert facts is not None
        assert facts.protocol == row["testing_protocol"], name
        assert (
            facts.gflops == pytest.approx(amount(row["flops_reported"]))
            if row["flops_reported"]
            else facts.gflops is None
        ), name
        assert facts.params_m == amount(row["params_reported"]), name


def test_what_the_model_sees_is_the_configurations(shared: Path) -> None:
    for row in rows_of(shared):
        (name,) = of_row(row)
        recipe = recipes()[name]
        shape = row["input_shape"]
        if row["row"] not in OTHER_CLASSES:
            assert recipe.num_classes == row["num_classes"], name
        assert recipe.sampling.num_frames == (shape[0] if len(shape) == 4 else shape[2]), name
        means = row["data_preprocessor"]
        assert recipe.transforms.mean == pytest.approx(
            means["mean"]
        ) and recipe.transforms.std == pytest.approx(means["std"]), name
        if row["test_crop"]:
            kind, size = row["test_crop"]
            assert recipe.views.num_crops == CROPS[kind], name
            assert (recipe.views.crop or recipe.transforms.crop) == size, name
        sample = row["test_sample"]
        if sample and sample["type"] != "DenseSampleFrames":
            views, frames = recipe.views, sample["clip_len"]
            clips = (
                (views.num_segments or recipe.sampling.num_segments)
                if frames == 1
                else views.num_clips
            )
            assert clips == sample.get("num_clips", 1) and views.twice == sample.get(
                "twice_sample", False
            ), name


def test_parameters_are_those_of_the_originals(shared: Path) -> None:
    for row in rows_of(shared):
        (name,) = of_row(row)
        recipe = recipes()[name]
        expected = row["params_computed"]
        if row["row"] in OTHER_CLASSES:
            expected += (OTHER_CLASSES[row["row"]] - row["num_classes"]) * 2049
        assert parameters(recipe) == expected, name


@pytest.mark.slow  # every trunk once, by operator
def test_cost_is_that_of_the_originals(shared: Path) -> None:
    for row in rows_of(shared):
        (name,) = of_row(row)
        recipe = recipes()[name]
        shape = row["input_shape"]
        counted = gmacs(recipe, shape[0] if len(shape) == 4 else shape[2], shape[-1])
        assert counted == pytest.approx(row["gmacs_computed_at_input_shape"], rel=0.01), name


def test_keys_are_those_of_the_fixtures(shared: Path) -> None:
    checked = 0
    for path in sorted((shared / "parity" / "recognition").glob("*.json")):
        origin = path.stem.partition("__")[0]
        for name in (name for name in published() if recipes()[name].origin == origin):
            facts = json.loads(path.read_text())
            recipe = recipes()[name]
            exported = {
                key: tuple(tensor.shape) for key, tensor in export_published(built(recipe)).items()
            }
            original = {key: tuple(shape) for key, shape, *_ in facts["state_dict"]}
            assert exported == original, name
            checked += 1
    assert checked


def test_keys_and_rates_of_pan(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "pan" / "pan_lite.json").read_text())["models"]["Lite"]
    recipe = recipes()["pan_lite_r50_sthv1"]
    exported = {key: tuple(tensor.shape) for key, tensor in export_published(built(recipe)).items()}
    assert exported == {key: tuple(shape) for key, shape, *_ in facts["state"]}

    with torch.device("meta"):
        model = models.build(recipe)
    groups: list[dict[str, Any]] = parameter_groups(model, recipe.optimizer)
    ours = {
        (group["multiplier"], float(group["weight_decay"] > 0)): sum(
            parameter.numel() for parameter in group["params"]
        )
        for group in groups
    }
    # count of tensors, of numbers, rate and decay of each group
    originals: dict[tuple[float, float], int] = {}
    for _, size, rate, decay in facts["optim_groups"].values():
        if size:
            originals[rate, decay] = originals.get((rate, decay), 0) + size
    assert ours == originals
