"""A single clip goes through all convolutions in channels-last memory, and computes what torch's
own convolutions do.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.blocks.conv import Conv3d, ConvNorm, ConvNorm3d, as_maps, conv_norm, norm_conv
from models.recognition.r2plus1d import SeparateConv

KERNELS = [(1, 1, 1), (1, 3, 3), (3, 1, 1), (5, 1, 1), (3, 3, 3), (1, 2, 2)]
STRIDES = [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 2, 2)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("clips", [1, 2])
def test_flat_convolutions_are_the_general_one(kernel, stride, groups: int, clips: int) -> None:
    torch.manual_seed(0)
    conv = Conv3d(4, 8, kernel, stride, tuple(length // 2 for length in kernel), groups=groups)
    x = (
        torch.randn(clips, 4, 5, 6, 7)
        .contiguous(memory_format=torch.channels_last_3d)
        .requires_grad_()
    )
    expected = F.conv3d(x, conv.weight, conv.bias, stride, conv.padding, 1, groups)
    found = conv(x)
    assert torch.allclose(found, expected, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(y.square().sum(), (x, conv.weight, conv.bias))
        for y in (found, expected)
    )
    assert all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-4)
        for one, other in zip(ours, theirs, strict=True)
    )
    assert torch.allclose(conv(x.detach().contiguous()), expected, atol=1e-5)


def test_settled_norms_are_part_of_the_convolution() -> None:
    torch.manual_seed(0)
    conv, before, behind = Conv3d(4, 6, 1), nn.BatchNorm3d(4), nn.BatchNorm3d(6)
    plain = nn.Conv3d(4, 6, 1, bias=False)
    x = torch.randn(2, 4, 3, 5, 5)
    for norm in (before, behind):
        nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias)
        norm(torch.randn(2, norm.num_features, 3, 5, 5) + 0.3)  # statistics of its own
        norm.eval()
    assert torch.allclose(norm_conv(before, conv, x), conv(before(x)), atol=1e-5)
    assert torch.allclose(conv_norm(plain, behind, x), behind(plain(x)), atol=1e-5)
    before.train(), behind.train()
    assert torch.allclose(norm_conv(before, conv, x), conv(before(x)), atol=1e-5)
    assert torch.allclose(conv_norm(plain, behind, x), behind(plain(x)), atol=1e-5)


def test_tokens_of_one_clip_are_maps_in_channels_last() -> None:
    tokens = torch.randn(1, 4 * 3 * 2, 8)
    maps = as_maps(tokens, (4, 3, 2))
    assert torch.equal(maps, tokens.transpose(1, 2).reshape(1, 8, 4, 3, 2))
    assert (
        maps.is_contiguous(memory_format=torch.channels_last_3d)
        and maps.data_ptr() == tokens.data_ptr()
    )


def config(family: str) -> object:
    """TINY, with bottlenecks where the published rows have them: 3x3x3 kernels of a single clip
    torch may run in its own layout.
    """
    tiny = models.family("recognition", family).TINY
    deep = {
        "slowfast": {"depth": 50, "fast_depth": 50},
        "i3d": {"depth": 50},
        "slowonly": {"depth": 50},
        "omnisource": {"depth": 50},
    }
    return dataclasses.replace(tiny, **deep.get(family, {}))


# all of 3x3x3
@pytest.mark.parametrize("family", sorted(set(models.families("recognition")) - {"c3d"}))
def test_one_clip_stays_channels_last(family: str) -> None:
    module, wrong, seen = models.family("recognition", family), [], []

    def look(part: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if out.ndim not in (4, 5):
            return
        seen.append(part)
        layout = torch.channels_last if out.ndim == 4 else torch.channels_last_3d
        if min(out.shape[2:]) > 1 and not out.is_contiguous(memory_format=layout):
            wrong.append((type(part).__name__, tuple(out.shape), out.stride()))

    own = config(family)
    model = module.build(own).eval()
    for part in model.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d, ConvNorm, ConvNorm3d, SeparateConv)):
            part.register_forward_hook(look)
    frames = getattr(module, "TINY_INPUT", (3, getattr(own, "num_segments", 8), 64, 64))
    with torch.inference_mode():
        model(torch.randn(1, *frames))
    assert seen and not wrong
