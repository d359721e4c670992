"""The layers against torch's own forms on (B, C, T)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.blocks.conv1d import ChannelNorm, Depthwise, conv3


@pytest.mark.parametrize("outputs", [2, 128, 160])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 2), (1, 7), (3, 40)])
def test_three_taps_and_their_gradients(batch: int, length: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, length, 24, generator=generator, dtype=torch.float64)
    weight, bias = (
        torch.randn(outputs, 24, 3, generator=generator, dtype=torch.float64) / 9,
        torch.randn(outputs, generator=generator),
    )
    grad = torch.randn(batch, length, outputs, generator=generator, dtype=torch.float64)
    one = [given.float().requires_grad_() for given in (x, weight)]
    two = [given.clone().requires_grad_() for given in (x, weight)]
    ours = conv3(*one, bias)
    theirs = F.conv1d(two[0].transpose(1, 2), two[1], bias.double(), padding=1).transpose(1, 2)
    ours.backward(grad.float())
    theirs.backward(grad)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    for mine, other in zip(one, two, strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-5, atol=2e-5)


def test_half_precision_takes_the_direct_form() -> None:
    x, weight = torch.randn(1, 9, 16), torch.randn(128, 16, 3) / 7
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv3(x, weight)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), conv3(x, weight), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise(stride: int) -> None:
    layer, x = Depthwise(8, stride), torch.randn(2, 12, 8)
    want = F.conv1d(x.transpose(1, 2), layer.weight, stride=stride, padding=1, groups=8).transpose(
        1, 2
    )
    torch.testing.assert_close(layer(x), want)


def test_norm_is_over_channels() -> None:
    norm, x = ChannelNorm(6), 5 + 3 * torch.randn(2, 4, 6)
    out = norm(x)
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(-1, unbiased=False), torch.ones(2, 4), atol=1e-3, rtol=0)
    assert norm.weight.shape == norm.bias.shape == (1, 6, 1)
