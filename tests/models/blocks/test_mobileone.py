"""MobileOne in training and in use: the same function in two forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.blocks.conv import fold_batchnorm
from models.blocks.mobileone import Branches, MobileOne, MobileOneBlock, Spot, identity

# one stage without and one with channel weights, strides of 1 and 2
STAGES = ((16, 1, 0), (32, 2, 1))


def settled(model: nn.Module) -> nn.Module:
    """The model in eval mode, with statistics and weights of every norm that matter."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def folded(weight: Tensor, norm: nn.BatchNorm2d, kernel: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution of this kernel size that does what a convolution and
    its norm do.
    """
    scale, shift = fold_batchnorm(norm)
    return F.pad(weight * scale[:, None, None, None], [(kernel - weight.shape[-1]) // 2] * 4), shift


@torch.no_grad()
def merge(branches: nn.Module, conv: nn.Module) -> None:
    """Writes into `conv` what does the same as all branches, in eval mode."""
    assert isinstance(branches, Branches) and isinstance(conv, nn.Conv2d)
    kernel, parts = (
        conv.kernel_size[0],
        [
            (part.conv.weight, part.norm)
            for part in (branches.main, branches.small)
            if part is not None
        ],
    )
    if branches.norm is not None:
        identity, channels = (
            torch.zeros_like(branches.main.conv.weight),
            torch.arange(len(conv.weight)),
        )
        identity[channels, channels % identity.shape[1], kernel // 2, kernel // 2] = 1
        parts.append((identity, branches.norm))
    weights, biases = zip(*(folded(weight, norm, kernel) for weight, norm in parts), strict=True)
    conv.load_state_dict({"weight": sum(weights), "bias": sum(biases)})


def merge_trunk(trained: nn.Module, used: nn.Module) -> None:
    """Gives a trunk in the form for use the weights of one in training form, each block's branches
    as one convolution.
    """
    for name, block in trained.named_modules():
        if isinstance(block, MobileOneBlock):
            mine = used.get_submodule(name)
            assert isinstance(mine, MobileOneBlock)
            merge(block.body, mine.body)
            mine.weigh.load_state_dict(block.weigh.state_dict())


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("grouped", [True, False])
def test_a_block_of_branches_is_one_convolution(kernel: int, stride: int, grouped: bool) -> None:
    torch.manual_seed(0)
    spot = Spot(16, 16, kernel, stride, 16 if grouped else 1, weighed=True)
    trained = settled(MobileOneBlock(spot, False, identity).double())
    used = MobileOneBlock(spot, True, identity).double().eval()
    assert isinstance(trained.body, Branches) and isinstance(used.body, nn.Conv2d)
    merge(trained.body, used.body)
    used.weigh.load_state_dict(trained.weigh.state_dict())
    frames = torch.randn(2, 16, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(used(frames), trained(frames), rtol=1e-12, atol=1e-12)


def test_a_trunk_is_merged_block_by_block() -> None:
    torch.manual_seed(1)
    trained, used = (
        settled(MobileOne(STAGES, stem=8).double()),
        MobileOne(STAGES, stem=8, merged=True).double().eval(),
    )
    frames = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = used(frames)
    merge_trunk(trained, used)
    torch.testing.assert_close(used(frames), trained(frames), rtol=1e-11, atol=1e-11)
    assert not torch.allclose(before, used(frames))
    assert sum(p.numel() for p in used.parameters()) < sum(p.numel() for p in trained.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("family", "sizes"), [("tsn", {}), ("tsm", {"num_segments": 8})])
def test_the_recipes_model_answers_the_same_when_merged(family: str, sizes: dict[str, int]) -> None:
    module = models.family("recognition", family)
    torch.manual_seed(2)
    trained = module.build(module.Config(num_classes=7, trunk="mobileone_s4", **sizes))
    used = module.build(module.Config(num_classes=7, trunk="mobileone_s4_merged", **sizes)).eval()
    for norm in trained.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # three branches add up: larger ones explode over 40 blocks
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            nn.init.normal_(norm.bias, std=0.1)
    trained.eval()
    merge_trunk(trained.trunk, used.trunk)
    used.fc.load_state_dict(trained.fc.state_dict())
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.inference_mode():
        expected, found = trained(clip), used(clip)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
