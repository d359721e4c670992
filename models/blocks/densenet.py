"""DenseNet (Huang et al., CVPR 2017): every layer sees the maps of all layers before it in its
block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import conv_norm
from models.blocks.pooling import StemPool

D161 = (6, 12, 36, 24)


class DenseLayer(nn.Module):
    """(N, C, H, W) -> `growth` new maps, (N, growth, H, W)."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = (
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, 4 * growth, 1, bias=False),
        )
        self.norm2, self.conv2 = (
            nn.BatchNorm2d(4 * growth),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu_(conv_norm(self.conv1, self.norm2, F.relu_(self.norm1(x)))))


class DenseBlock(nn.Module):
    """(N, C, H, W) -> (N, C + count * growth, H, W)."""

    def __init__(self, count: int, in_channels: int, growth: int) -> None:
        super().__init__()
        for index in range(count):
            self.add_module(
                f"denselayer{index + 1}", DenseLayer(in_channels + index * growth, growth)
            )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Module):
    """Half the channels, half the size."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm, self.conv = (
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, in_channels // 2, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu_(self.norm(x))), 2)


class DenseNet(nn.Module):
    """(N, 3, H, W) -> (N, C, H / 32, W / 32), as the last normalisation leaves them: without a
    ReLU.

    Args:
        blocks: layers of each dense block.
        growth: maps that a layer adds.
        stem: channels of the first convolution.
    """

    def __init__(self, blocks: tuple[int, ...] = D161, growth: int = 48, stem: int = 96) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem)
        self.pool0 = StemPool()
        channels = stem
        self.count = len(blocks)
        for number, count in enumerate(blocks, start=1):
            self.add_module(f"denseblock{number}", DenseBlock(count, channels, growth))
            channels += count * growth
            if number < self.count:
                self.add_module(f"transition{number}", Transition(channels))
                channels //= 2
        self.norm5 = nn.BatchNorm2d(channels)
        self.out_channels = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.pool0(conv_norm(self.conv0, self.norm0, x)))
        for number in range(1, self.count + 1):
            x = self.get_submodule(f"denseblock{number}")(x)
            if number < self.count:
                x = self.get_submodule(f"transition{number}")(x)
        return self.norm5(x)
