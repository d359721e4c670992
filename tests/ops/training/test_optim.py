"""Learning rates and parameter groups against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import configs
import models
from configs.schema import ConfigError, Optimizer
from ops.training.optim import LearningRate, build_optimizer, parameter_groups


def rates(world, steps: int = 10, **schedule) -> list[float]:
    recipe = world.recipe(optimizer={"lr": 0.2}, schedule=schedule, training={"epochs": 3})
    rate = LearningRate(recipe, steps)
    return [rate.at(step) for step in range(3 * steps)]


def test_warm_up_starts_at_its_share_and_ends_at_the_peak(world) -> None:
    found = rates(world, kind="constant", warmup_epochs=0.5, warmup_start=0.1)
    assert found[:6] == pytest.approx([0.02, 0.056, 0.092, 0.128, 0.164, 0.2])
    assert found[6:] == [0.2] * 24


def test_cosine_falls_to_the_floor(world) -> None:
    found = rates(world, kind="cosine", warmup_epochs=0, min_lr=0.05)
    assert found[0] == pytest.approx(0.2) and found[15] == pytest.approx(0.125)
    assert found[29] == pytest.approx(0.05 + 0.15 * 0.5 * (1 + math.cos(math.pi * 29 / 30)))
    assert found == sorted(found, reverse=True)


def test_steps_fall_at_the_milestones(world) -> None:
    found = rates(world, kind="multistep", warmup_epochs=0, milestones=[1, 2.5], gamma=0.1)
    assert found == pytest.approx([0.2] * 10 + [0.02] * 15 + [0.002] * 5)


def mmengine(
    steps: int, warmup: int, start: float, cosine: tuple[int, int, int, float], peak: float
) -> list[float]:
    """The rates of a linear and a cosine scheduler that each multiply what they find, step by step,
    as mmengine chains them.
    """
    begin, end, half, floor = cosine
    rate, found = peak * (start if warmup else 1.0), []
    for step in range(steps):
        if 0 < step < warmup:
            rate *= (start + (1 - start) * step / (warmup - 1)) / (
                start + (1 - start) * (step - 1) / (warmup - 1)
            )
        if begin < step < end:
            ratio = (1 + math.cos(math.pi * (step - begin) / half)) / (
                1 + math.cos(math.pi * (step - begin - 1) / half)
            )
            rate = floor + (rate - floor) * ratio
        found.append(rate)
    return found


def test_a_cosine_beneath_the_warm_up_is_multiplied_by_it(world) -> None:
    found = rates(
        world, kind="cosine", warmup_epochs=1.5, warmup_peak="last", during_warmup="multiplied"
    )
    assert found == pytest.approx(mmengine(30, 15, 0.1, (0, 30, 30, 0.0), 0.2))


def test_a_warm_up_by_the_step_over_a_cosine_by_the_epoch(world) -> None:
    found = rates(
        world,
        kind="cosine",
        warmup_epochs=1.5,
        warmup_per="step",
        warmup_peak="last",
        during_warmup="multiplied",
        per="epoch",
    )
    shares = [0.1 + 0.9 * min(step, 14) / 14 for step in range(30)]
    cosines = [0.5 * (1 + math.cos(math.pi * epoch / 3)) for epoch in range(3)]
    assert found == pytest.approx(
        [0.2 * share * cosines[step // 10] for step, share in enumerate(shares)]
    )


def test_a_warm_up_leads_to_where_the_cosine_is(world) -> None:
    found = rates(world, kind="cosine", warmup_epochs=1, during_warmup="met")
    cosines = [0.2 * 0.5 * (1 + math.cos(math.pi * step / 30)) for step in range(30)]
    assert found == pytest.approx(
        [0.02 + (cosines[10] - 0.02) * step / 10 for step in range(10)] + cosines[10:]
    )


def test_a_cosine_longer_than_what_is_left_is_cut_off(world) -> None:
    found = rates(
        world,
        kind="cosine",
        warmup_epochs=1,
        warmup_start=0.01,
        warmup_peak="last",
        cosine_epochs=3,
        min_lr=0.002,
    )
    assert found == pytest.approx(mmengine(30, 10, 0.01, (10, 30, 30, 0.002), 0.2))
    assert found[-1] > 0.05


def test_a_cosine_shorter_than_what_is_left_stays_at_its_floor(world) -> None:
    found = rates(world, kind="cosine", warmup_epochs=0, cosine_epochs=2, min_lr=0.002)
    assert found[20:] == pytest.approx([0.002] * 10) and found[19] > 0.002


def test_a_warm_up_by_the_epoch_has_the_full_rate_in_its_last_or_behind_it(world) -> None:
    after = rates(world, steps=4, kind="constant", warmup_epochs=2, per="epoch")
    last = rates(world, steps=4, kind="constant", warmup_epochs=2, per="epoch", warmup_peak="last")
    assert after == pytest.approx([0.02] * 4 + [0.11] * 4 + [0.2] * 4)
    assert last == pytest.approx([0.02] * 4 + [0.2] * 8)


@pytest.mark.parametrize(
    ("key", "schedule", "epochs", "steps", "peak"),
    [
        ("lr/thumos", {"kind": "cosine", "warmup_epochs": 5, "min_lr": 1e-8}, 35, 100, 1e-4),
        ("lr/anet", {"kind": "cosine", "warmup_epochs": 5, "min_lr": 1e-8}, 15, 37, 1e-3),
        (
            "lr/multistep",
            {"kind": "multistep", "warmup_epochs": 2, "milestones": [6, 9]},
            12,
            5,
            1e-3,
        ),
    ],
)
def test_the_curves_of_actionformer(
    world, shared: Path, key: str, schedule: dict, epochs: int, steps: int, peak: float
) -> None:
    expected = np.load(shared / "parity" / "localization" / "actionformer_extras.npz")[key]
    schedule |= {"warmup_start": 0.0, "warmup_peak": "last"}
    rate = LearningRate(
        world.recipe(optimizer={"lr": peak}, schedule=schedule, training={"epochs": epochs}), steps
    )
    np.testing.assert_allclose(
        [rate.at(step) for step in range(epochs * steps)], expected, rtol=1e-12, atol=1e-18
    )


@pytest.mark.parametrize(
    # the cosine: first epoch, last, half a period, lowest rate
    ("name", "warmup", "start", "cosine"),
    [
        ("slowfast_r50_4x16_k400_256e", 34, 0.1, (0, 256, 256, 0.0)),
        ("videoswin_t_32x2_k400_30e", 2.5, 0.1, (0, 30, 30, 0.0)),
        ("mvit_s_16x4_k400_200e", 30, 0.01, (30, 200, 200, 1.6e-5)),
        ("mvit_s_u16_sthv2_100e", 30, 0.1, (30, 100, 100, 1.6e-5)),
        ("mvit_b_u32_sthv2_100e", 30, 0.1, (30, 100, 70, 1.6e-5)),
        ("tin_r50_8f_sthv1_40e", 1, 0.1, (1, 40, 39, 0.0)),
    ],
)
def test_the_curves_of_published_recipes(
    name: str, warmup: float, start: float, cosine: tuple
) -> None:
    """Against mmengine's own recursion. SlowFast's and Swin's cosine moves by the epoch, their
    warm-up by the step.
    """
    steps, recipe = 4, configs.load(name)
    rate = LearningRate(recipe, steps)
    begin, end, half, floor = cosine
    total = end * steps
    if recipe.schedule.per == "step":
        expected = mmengine(
            total,
            round(warmup * steps),
            start,
            (begin * steps, total, half * steps, floor),
            rate.peak,
        )
    else:
        shares = mmengine(total, round(warmup * steps), start, (total, total, 1, 0.0), 1.0)
        by_epoch = mmengine(end, 0, 1.0, (0, end, half, floor), rate.peak)
        expected = [share * by_epoch[step // steps] for step, share in enumerate(shares)]
    assert [rate.at(step) for step in range(total)] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_x3d_warms_up_to_where_its_cosine_is() -> None:
    recipe = configs.load("x3d_s_13x6_k400_300e")
    rate = LearningRate(recipe, 10)
    at_end = 0.05 * (1 + math.cos(math.pi * 35 / 300))
    assert rate.at(0) == pytest.approx(0.01) and rate.at(175) == pytest.approx((0.01 + at_end) / 2)
    assert rate.at(350) == pytest.approx(at_end) and rate.at(351) < rate.at(350)


@pytest.mark.parametrize(
    ("name", "spared"),
    [("x3d_s_13x6_k400_300e", nn.BatchNorm3d), ("videoswin_t_32x2_k400_30e", nn.LayerNorm)],
)
def test_published_recipes_spare_what_the_originals_spare(
    name: str, spared: type[nn.Module]
) -> None:
    recipe = configs.load(name)
    with torch.device("meta"):
        model = models.build(recipe)
    norms = {
        f"{place}.{leaf}"
        for place, module in model.named_modules()
        if isinstance(module, spared)
        for leaf in ("weight", "bias")
    }
    tables = {
        key for key, _ in model.named_parameters() if key.endswith("relative_position_bias_table")
    }
    assert {
        key for key, (_, decay) in names_of(model, recipe.optimizer).items() if not decay
    } == norms | tables
    assert all(key.split(".")[-1] in ("weight", "bias") or key in tables for key in norms | tables)


def test_a_half_period_belongs_to_a_cosine(world) -> None:
    with pytest.raises(ValueError, match="cosine_epochs 3.0 is for kind cosine, not multistep"):
        world.recipe(schedule={"kind": "multistep", "cosine_epochs": 3})


def test_linear_scaling_follows_the_batch_size(world) -> None:
    recipe = world.recipe(
        optimizer={"lr": 0.2, "base_batch_size": 64},
        schedule={"kind": "constant", "warmup_epochs": 0},
    )
    assert LearningRate(recipe, 10).at(0) == pytest.approx(0.2 * 8 / 64)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.trunk2 = nn.Linear(3, 3)
        self.fc = nn.Linear(3, 2)


def test_groups_by_prefix_and_kind() -> None:
    net = Net()
    config = Optimizer(
        name="adamw",
        lr=0.1,
        weight_decay=0.05,
        lr_multipliers={"trunk": 0.5, "trunk.1": 0.0, "fc": 5.0},
    )
    groups = {
        (group["multiplier"], group["weight_decay"]): group["params"]
        for group in parameter_groups(net, config)
    }
    assert {key: len(value) for key, value in groups.items()} == {
        (0.5, 0.05): 1,
        (0.5, 0.0): 1,
        (0.0, 0.0): 2,
        (1.0, 0.05): 1,
        (1.0, 0.0): 1,
        (5.0, 0.05): 1,
        (5.0, 0.0): 1,
    }
    sgd = parameter_groups(net, Optimizer(name="sgd", lr=0.1, weight_decay=0.05))
    assert [(group["weight_decay"], len(group["params"])) for group in sgd] == [(0.05, 8)]


def test_every_group_gets_its_own_rate(world) -> None:
    net = Net()
    net.fc.bias.requires_grad_(False)
    recipe = world.recipe(
        optimizer={"lr": 0.2, "lr_multipliers": {"fc": 5.0}},
        schedule={"kind": "constant", "warmup_epochs": 0},
    )
    optimizer = build_optimizer(net, recipe.optimizer)
    assert LearningRate(recipe, 5).apply(optimizer, 3) == pytest.approx(0.2)
    assert {group["multiplier"]: group["lr"] for group in optimizer.param_groups} == pytest.approx(
        {1.0: 0.2, 5.0: 1.0}
    )
    assert isinstance(optimizer, torch.optim.SGD) and len(optimizer.param_groups[1]["params"]) == 1


def test_a_prefix_without_parameters_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"optimizer\.lr_multipliers.*found 'head'.*fc, trunk, trunk2"
    ):
        parameter_groups(Net(), Optimizer(name="sgd", lr=0.1, lr_multipliers={"head": 2.0}))


def names_of(model: nn.Module, config: Optimizer) -> dict[str, tuple[float, float]]:
    """Parameter name -> (multiplier, weight decay)."""
    of = {id(tensor): name for name, tensor in model.named_parameters()}
    groups = parameter_groups(model, config)
    return {
        of[id(tensor)]: (group["multiplier"], group["weight_decay"])
        for group in groups
        for tensor in group["params"]
    }  # type: ignore[attr-defined, misc, index]


def test_patterns_stand_for_whole_names_and_the_longest_counts() -> None:
    config = Optimizer(
        name="sgd",
        lr=0.1,
        weight_decay=0.05,
        lr_multipliers={"*.bias": 2.0, "trunk.1.bias": 3.0},
        no_decay=("*.bias",),
    )
    found = names_of(Net(), config)
    assert (
        found["fc.bias"] == (2.0, 0.0)
        and found["trunk.1.bias"] == (3.0, 0.0)
        and found["trunk.0.weight"] == (1.0, 0.05)
    )
    with pytest.raises(ConfigError, match=r"optimizer\.no_decay.*found '\*\.scale'"):
        parameter_groups(Net(), Optimizer(name="sgd", lr=0.1, no_decay=("*.scale",)))


class Waves(nn.Module):
    """One parameter of every kind that a localization network has, all of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3)
        self.fc = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.scale = nn.Parameter(torch.ones(1, 3, 1))


def test_only_weights_of_the_named_kinds_decay() -> None:
    config = Optimizer(name="adamw", lr=0.1, weight_decay=0.05, decay_only=("conv",))
    assert {name for name, (_, decay) in names_of(Waves(), config).items() if decay} == {
        "conv.weight"
    }
    both = config.model_copy(update={"decay_only": ("conv", "linear"), "no_decay": ("fc",)})
    assert {name for name, (_, decay) in names_of(Waves(), both).items() if decay} == {
        "conv.weight"
    }
    with pytest.raises(ConfigError, match=r"optimizer\.decay_only.*found 'embedding'"):
        parameter_groups(Waves(), config.model_copy(update={"decay_only": ("embedding",)}))
    with pytest.raises(ConfigError, match=r"optimizer\.decay_all.*null with optimizer\.decay_only"):
        parameter_groups(Waves(), config.model_copy(update={"decay_all": True}))
