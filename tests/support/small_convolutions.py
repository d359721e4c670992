"""Convolutions that some processors' kernels get wrong, as the networks make them, beside float64:
python small_convolutions.py [NAME ...]

Prints the furthest gradient of each, and leaves with 1 where one is wrong. Run as a process of its
own: a kernel that writes past its memory ends it, or hangs.
"""

from __future__ import annotations

import copy
import os
import sys

import torch
from torch import Tensor, nn

from float64 import WRONG, furthest
from models.blocks.conv import Conv3d, ConvNorm, ConvNorm3d
from models.blocks.frozen_norm import FrozenConvNorm

ROUNDED = 3e-2
"""Of bfloat16, which has 8 bits."""
SIZES = ((16, 16, 12), (2, 56, 56), (2, 112, 112))
"""Maps, height, width: the upstream report's, and two that need more than one step of AVX-512's
kernels.
"""


def layers() -> dict[str, tuple[nn.Module, Tensor, torch.dtype]]:
    """By name: layer, input, and type to compute in."""
    made: dict[str, tuple[nn.Module, Tensor, torch.dtype]] = {}
    for maps, height, width in SIZES:
        for channels in (3, 4, 7, 15):
            x = torch.randn(maps, channels, height, width).contiguous(
                memory_format=torch.channels_last
            )
            at = f"{maps}x{channels}x{height}x{width}"
            made[f"{at} batch norm"] = ConvNorm(channels, 8, 1, 2, relu=False), x, torch.float32
            made[f"{at} settled norm"] = (
                ConvNorm(channels, 8, 1, 2, relu=False).eval(),
                x,
                torch.float32,
            )
            made[f"{at} frozen norm"] = (
                FrozenConvNorm(channels, 8, 1, 2, relu=False),
                x,
                torch.float32,
            )
            made[f"{at} bfloat16"] = (
                ConvNorm(channels, 8, 1, 2, relu=False).eval(),
                x,
                torch.bfloat16,
            )
            clip = x.unflatten(0, (2, -1)).transpose(1, 2)
            made[f"{at} clips"] = (
                ConvNorm3d(channels, 8, (1, 1, 1), (1, 2, 2), relu=False).eval(),
                clip,
                torch.float32,
            )
    images = torch.randn(2, 24, 56, 56).contiguous(memory_format=torch.channels_last)
    made["24 channels, dilated, bfloat16"] = (
        FrozenConvNorm(24, 8, 3, dilation=2, relu=False),
        images,
        torch.bfloat16,
    )
    for frames, kernel in ((2, 3), (4, 5)):
        clip = torch.randn(2, 8, frames, 8, 12).contiguous(memory_format=torch.channels_last_3d)
        alone = Conv3d(8, 8, kernel, padding=kernel // 2, groups=8)
        made[f"{frames} frames, kernel {kernel}, bfloat16"] = alone, clip, torch.bfloat16
        whole = ConvNorm3d(8, 8, (kernel, 3, 3), relu=False)
        made[f"{frames} frames, kernel {kernel}x3x3, bfloat16"] = whole, clip, torch.bfloat16
    return made


def gradients(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Output, and gradients of input and weights, of a sum with fixed factors."""
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = layer(x)
    torch.manual_seed(1)
    (out * torch.randn(out.shape).to(out)).sum().backward()
    weight = next(layer.parameters()).grad
    assert x.grad is not None and weight is not None
    return [out.detach(), x.grad, weight]


def main() -> int:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    worst, chosen = 0, sys.argv[1:]
    for name, (layer, x, dtype) in layers().items():
        if chosen and not any(one in name for one in chosen):
            continue
        true = gradients(copy.deepcopy(layer).double(), x.double(), torch.float64)
        far = max(furthest(gradients(layer, x, dtype), true))
        wrong = not far <= (ROUNDED if dtype == torch.bfloat16 else WRONG)
        print(f"{name:32} {far:.1e}{' WRONG' if wrong else ''}", flush=True)
        worst |= wrong
    return worst


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the answer counts, not what is left of the memory
