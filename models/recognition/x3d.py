"""X3D (Feichtenhofer, CVPR 2020): a small image network grown along time, depth and width, with
channel-wise 3D convolutions.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Conv3d, ConvNorm3d, channels_last
from models.config import AtLeast, Checked, Count, Rate, Within
from models.errors import require_clip, require_features

BASE_BLOCKS = (1, 2, 5, 3)


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an X3D. Raises ModelConfigError with field, found and allowed.

    Attributes:
        width: channels of the stem.
        bottleneck: growth of the bottleneck's width.
        deeper: growth of the depth.
        hidden: width of the last hidden layer.
    """

    num_classes: Count
    width: Annotated[int, AtLeast(8)] = 24
    bottleneck: Annotated[float, Within(0.1, 16)] = 2.25
    deeper: Annotated[float, Within(0.1, 16)] = 2.2
    hidden: Count = 2048
    dropout: Rate = 0.5


TINY = Config(num_classes=5, width=8, deeper=0.4, hidden=16)


def rounded(width: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is not below 0.9 of the width.

    >>> rounded(54 * 1.25), rounded(11)
    (64, 16)
    """
    result = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return result + divisor if result < 0.9 * width else result


class SqueezeExcite(nn.Module):
    """Channels weighed by a small network on their means. (N, C, T, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = rounded(channels / 16)
        self.fc1, self.fc2 = nn.Conv3d(channels, inner, 1), nn.Conv3d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu_(F.linear(x.mean((2, 3, 4)), self.fc1.weight.flatten(1), self.fc1.bias))
        return (
            x
            * F.linear(inner, self.fc2.weight.flatten(1), self.fc2.bias).sigmoid_()[
                ..., None, None, None
            ]
        )


class Block(nn.Module):
    """1x1x1, channel-wise 3x3x3, squeeze and excitation in every other block, Swish, 1x1x1. Halves
    the picture when `first`.
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, first: bool, weighed: bool
    ) -> None:
        super().__init__()
        stride = (1, 2, 2) if first else (1, 1, 1)
        self.downsample: nn.Module = nn.Identity()
        if first:
            self.downsample = ConvNorm3d(in_channels, out_channels, (1, 1, 1), stride, relu=False)
        self.conv1 = ConvNorm3d(in_channels, channels, (1, 1, 1))
        self.conv2 = ConvNorm3d(channels, channels, (3, 3, 3), stride, relu=False, groups=channels)
        self.conv3 = ConvNorm3d(channels, out_channels, (1, 1, 1), relu=False)
        self.weigh = SqueezeExcite(channels) if weighed else nn.Identity()
        nn.init.zeros_(self.conv3.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.weigh(self.conv2(self.conv1(x))), inplace=True)
        return F.relu_(self.conv3(y).add_(self.downsample(x)))


class X3D(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, any T -> logits (B, classes). Time is never reduced
    before the last mean.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem_image = Conv3d(3, width, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.stem_time = ConvNorm3d(width, width, (5, 1, 1), groups=width)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = width
        for stage, base in enumerate(BASE_BLOCKS):
            out = width * 2**stage
            inner = int(out * config.bottleneck)
            blocks = []
            for index in range(math.ceil(base * config.deeper)):
                blocks.append(Block(channels, inner, out, index == 0, index % 2 == 0))
                channels = out
            stages[f"layer{stage + 1}"] = nn.Sequential(*blocks)
        self.stages = nn.Sequential(stages)
        self.last = ConvNorm3d(channels, int(channels * config.bottleneck), (1, 1, 1))
        self.fc1 = nn.Linear(int(channels * config.bottleneck), config.hidden, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(config.hidden, config.num_classes)
        nn.init.kaiming_normal_(self.stem_image.weight, mode="fan_out", nonlinearity="relu")
        for linear in (self.fc1, self.fc):
            nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): mean over all places."""
        require_clip("x3d", clip)
        return self.last(self.stages(self.stem_time(self.stem_image(channels_last(clip))))).mean(
            (2, 3, 4)
        )

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            "x3d", features, (None, self.fc1.in_features), f"(B, {self.fc1.in_features})"
        )
        return self.fc(self.dropout(F.relu_(self.fc1(features))))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> X3D:
    """An X3D with fresh weights."""
    return X3D(config)
