"""MobileOne (Vasu et al., CVPR 2023): branches of convolutions in training that are one convolution
in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import conv_norm

S4 = ((192, 2, 0), (448, 8, 0), (896, 10, 5), (2048, 1, 1))
"""Stages of MobileOne-S4: channels, pairs of blocks, how many of the last pairs weigh their
channels.
"""


@dataclass(frozen=True)
class Spot:
    """One block: channels in and out, kernel (3 works on single channels, but in the stem), stride,
    whether it weighs its channels.
    """

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    weighed: bool


def identity(spot: Spot) -> nn.Module:
    """The empty temporal slot."""
    return nn.Identity()


class ConvThenNorm(nn.Module):
    """Conv2d without bias and BatchNorm2d."""

    def __init__(self, spot: Spot, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            spot.in_channels,
            spot.out_channels,
            kernel,
            spot.stride,
            kernel // 2,
            groups=spot.groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(spot.out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(self.conv, self.norm, x)


class ChannelWeights(nn.Module):
    """Squeeze and excitation. (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(channels, channels // 16, 1),
            nn.Conv2d(channels // 16, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv2(F.relu_(self.conv1(x.mean((2, 3), keepdim=True)))).sigmoid_()


class Branches(nn.Module):
    """The sum of a normalisation (where the shape stays), a 1x1 convolution (beside a 3x3 one) and
    the convolution itself.
    """

    def __init__(self, spot: Spot) -> None:
        super().__init__()
        same = spot.in_channels == spot.out_channels and spot.stride == 1
        self.norm = nn.BatchNorm2d(spot.in_channels) if same else None
        self.small = ConvThenNorm(spot, 1) if spot.kernel > 1 else None
        self.main = ConvThenNorm(spot, spot.kernel)

    def forward(self, x: Tensor) -> Tensor:
        out = self.main(x)
        if self.small is not None:
            out = out.add_(self.small(x))
        return out if self.norm is None else out.add_(self.norm(x))


class MobileOneBlock(nn.Module):
    """Branches (or the one convolution that they were merged into), channel weights, ReLU."""

    def __init__(self, spot: Spot, merged: bool, temporal: Callable[[Spot], nn.Module]) -> None:
        super().__init__()
        self.temporal = temporal(spot)
        self.weigh = ChannelWeights(spot.out_channels) if spot.weighed else nn.Identity()
        self.body: nn.Module
        if merged:
            self.body = nn.Conv2d(
                spot.in_channels,
                spot.out_channels,
                spot.kernel,
                spot.stride,
                spot.kernel // 2,
                groups=spot.groups,
            )
        else:
            self.body = Branches(spot)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.weigh(self.body(self.temporal(x))))


class MobileOne(nn.Module):
    """(N, 3, H, W) -> (N, C, H / 32, W / 32).

    Args:
        stages: of each (channels, pairs of blocks, how many of the last pairs weigh their
            channels).
        stem: channels of the first block.
        merged: the form for use: one convolution a block, not its branches.
        temporal: makes, for a block, the operation on its input.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, int, int], ...] = S4,
        stem: int = 64,
        merged: bool = False,
        temporal: Callable[[Spot], nn.Module] = identity,
    ) -> None:
        super().__init__()
        self.merged = merged
        self.stage0 = MobileOneBlock(Spot(3, stem, 3, 2, 1, False), merged, temporal)
        channels = stem
        for number, (width, pairs, weighed) in enumerate(stages, start=1):
            blocks = []
            for index in range(pairs):
                weigh, stride = index >= pairs - weighed, 2 if index == 0 else 1
                blocks.append(
                    MobileOneBlock(
                        Spot(channels, channels, 3, stride, channels, weigh), merged, temporal
                    )
                )
                blocks.append(
                    MobileOneBlock(Spot(channels, width, 1, 1, 1, weigh), merged, temporal)
                )
                channels = width
            self.add_module(f"stage{number}", nn.Sequential(*blocks))
        self.num_stages = len(stages)
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage0(x)
        for number in range(1, self.num_stages + 1):
            x = self.get_submodule(f"stage{number}")(x)
        return x
