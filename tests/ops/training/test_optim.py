"""Learning rates and parameter groups against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

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


def test_linear_scaling_follows_the_batch_size(world) -> None:
    recipe = world.recipe(optimizer={"lr": 0.2, "base_batch_size": 64}, schedule={"kind": "constant", "warmup_epochs": 0})
    assert LearningRate(recipe, 10).at(0) == pytest.approx(0.2 * 8 / 64)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.trunk2 = nn.Linear(3, 3)
        self.fc = nn.Linear(3, 2)


def test_groups_by_prefix_and_kind() -> None:
    net = Net()
    config = Optimizer(name="adamw", lr=0.1, weight_decay=0.05, lr_multipliers={"trunk": 0.5, "trunk.1": 0.0, "fc": 5.0})
    groups = {(group["multiplier"], group["weight_decay"]): group["params"] for group in parameter_groups(net, config)}
    assert {key: len(value) for key, value in groups.items()} == {
        (0.5, 0.05): 1, (0.5, 0.0): 1, (0.0, 0.0): 2, (1.0, 0.05): 1, (1.0, 0.0): 1, (5.0, 0.05): 1, (5.0, 0.0): 1,
    }  # fmt: skip
    sgd = parameter_groups(net, Optimizer(name="sgd", lr=0.1, weight_decay=0.05))
    assert [(group["weight_decay"], len(group["params"])) for group in sgd] == [(0.05, 8)]


def test_every_group_gets_its_own_rate(world) -> None:
    net = Net()
    net.fc.bias.requires_grad_(False)
    recipe = world.recipe(optimizer={"lr": 0.2, "lr_multipliers": {"fc": 5.0}}, schedule={"kind": "constant", "warmup_epochs": 0})
    optimizer = build_optimizer(net, recipe.optimizer)
    assert LearningRate(recipe, 5).apply(optimizer, 3) == pytest.approx(0.2)
    assert {group["multiplier"]: group["lr"] for group in optimizer.param_groups} == pytest.approx({1.0: 0.2, 5.0: 1.0})
    assert isinstance(optimizer, torch.optim.SGD) and len(optimizer.param_groups[1]["params"]) == 1


def test_a_prefix_without_parameters_is_named() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr_multipliers.*found 'head'.*fc, trunk, trunk2"):
        parameter_groups(Net(), Optimizer(name="sgd", lr=0.1, lr_multipliers={"head": 2.0}))
