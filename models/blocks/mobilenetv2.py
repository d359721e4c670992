"""MobileNetV2 (Sandler et al., CVPR 2018): narrow at both ends of a block, wide and channel-wise
between.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import conv_norm

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Per stage: expansion, channels, blocks, stride of the first."""


class ConvNormReLU6(nn.Module):
    """Conv2d without bias, BatchNorm2d, and ReLU6 unless `relu` is false."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = conv_norm(self.conv, self.bn, x)
        return F.relu6(x, inplace=True) if self.relu else x


class InvertedResidual(nn.Module):
    """Widening 1x1 (not in the first stage), channel-wise 3x3, narrowing 1x1; added to the input
    where the shape stays.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        expansion: int,
        stride: int,
        temporal: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.adds = stride == 1 and in_channels == channels
        self.temporal = temporal() if self.adds and expansion > 1 else nn.Identity()
        widen = [ConvNormReLU6(in_channels, wide, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *widen,
            ConvNormReLU6(wide, wide, 3, stride, groups=wide),
            ConvNormReLU6(wide, channels, 1, relu=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.temporal(x))
        return y.add_(x) if self.adds else y


class MobileNetV2(nn.Module):
    """(N, 3, H, W) -> (N, 1280, H / 32, W / 32). `temporal` makes the operation on the input of the
    blocks that add to it.
    """

    out_channels = 1280

    def __init__(self, temporal: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU6(3, 32, 3, 2)
        channels = 32
        for number, (expansion, width, count, stride) in enumerate(STAGES, start=1):
            blocks = []
            for index in range(count):
                blocks.append(
                    InvertedResidual(
                        channels, width, expansion, stride if index == 0 else 1, temporal
                    )
                )
                channels = width
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.conv2 = ConvNormReLU6(channels, self.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.conv2(x)
