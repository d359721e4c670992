"""Batch norms that stay and activations that are computed twice: what they change, and that nothing
else changes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import models
from configs.schema import ConfigError, RecognitionRecipe
from ops.training.model_setup import freeze_batch_norms, recomputing, synchronised


@pytest.fixture
def changed(world) -> Callable[..., RecognitionRecipe]:
    """A miniature recipe whose training has these values."""
    return lambda **training: world.recipe(training=training)


def norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@pytest.mark.parametrize("mode, moving", [("train", None), ("partial", 1), ("frozen", 0)])
def test_norms_stay(changed, mode: str, moving: int | None) -> None:
    own = changed(batch_norm=mode)
    model = models.build(own).train()
    freeze_batch_norms(model, own)
    found = norms(model)
    moving = len(found) if moving is None else moving
    before = [norm.running_mean.clone() for norm in found]
    model(torch.randn(2, 3, own.sampling.num_frames, 32, 32)).sum().backward()
    moved = [
        not torch.equal(norm.running_mean, mean) for norm, mean in zip(found, before, strict=True)
    ]
    assert moved == [index < moving for index in range(len(found))]
    assert [norm.weight.grad is not None for norm in found] == moved
    assert all(
        parameter.grad is not None
        for name, parameter in model.named_parameters()
        if "conv.weight" in name
    )


def test_recomputing_changes_no_number_and_no_name(changed) -> None:
    own = changed(recompute=True)
    torch.manual_seed(0)
    plain = models.build(own).train()
    torch.manual_seed(0)
    thrifty = models.build(own).train()
    recomputing(thrifty, own)
    assert list(thrifty.state_dict()) == list(plain.state_dict())
    clip = torch.randn(2, 3, own.sampling.num_frames, 32, 32)
    for model in (plain, thrifty):
        torch.manual_seed(1)
        model(clip).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    # The statistics of a batch norm move twice: once more for the backward pass.
    thrifty.load_state_dict(plain.state_dict())
    assert torch.equal(thrifty.eval()(clip), plain.eval()(clip))


def test_a_network_without_blocks_cannot_recompute(changed) -> None:
    with pytest.raises(ConfigError, match="recompute.*no blocks"):
        recomputing(nn.Linear(2, 2), changed(recompute=True))


def test_statistics_over_workers_need_gpus(changed) -> None:
    own = changed(sync_batch_norm=True)
    model = models.build(own)
    assert synchronised(model, own, 1, torch.device("cpu")) is model
    with pytest.raises(ConfigError, match="sync_batch_norm.*GPUs"):
        synchronised(model, own, 2, torch.device("cpu"))
    found = norms(synchronised(model, own, 2, torch.device("cuda")))
    assert found and all(isinstance(norm, nn.SyncBatchNorm) for norm in found)
