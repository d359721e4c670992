"""The weight average against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ops.training.ema import WeightAverage


def test_the_average_follows_its_definition() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.zeros_(net[0].weight)
    average = WeightAverage(net, decay=0.25)
    nn.init.ones_(net[0].weight)
    net[1].num_batches_tracked += 7
    net[1].running_mean += 4.0
    average.update(net)  # (1 + 1) / (10 + 1) is below the full decay
    assert average.weights["0.weight"].item() == pytest.approx(1 - 2 / 11)
    assert average.weights["1.running_mean"].item() == pytest.approx(4 * (1 - 2 / 11))
    assert average.weights["1.num_batches_tracked"].item() == 7
    for _ in range(3):
        average.update(net)
    # what is left of the zero: decays are capped at 0.25 from 3/12 on
    expected = 2 / 11 * 3 / 12 * 0.25 * 0.25
    assert average.weights["0.weight"].item() == pytest.approx(1 - expected)


def test_it_is_apart_from_the_model_and_comes_back() -> None:
    net = nn.Linear(2, 2)
    average = WeightAverage(net, 0.5)
    before = average.weights["weight"].clone()
    nn.init.ones_(net.weight)
    assert torch.equal(average.weights["weight"], before)
    average.update(net)
    other = WeightAverage(nn.Linear(2, 2), 0.5)
    other.load_state_dict(average.state_dict())
    average.update(net)
    other.update(net)
    assert torch.equal(other.weights["weight"], average.weights["weight"])


def test_without_warm_up_the_decay_is_full_from_the_first_step() -> None:
    net = nn.Linear(1, 1)
    nn.init.zeros_(net.weight)
    average = WeightAverage(net, 0.999, warmup=False)
    nn.init.ones_(net.weight)
    average.update(net)
    assert average.weights["weight"].item() == pytest.approx(0.001)
