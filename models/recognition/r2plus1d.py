"""R(2+1)D (Tran et al., CVPR 2018): every 3D convolution as one over the image and one along time,
with a ReLU between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import ONCE, Triple, conv_norm
from models.blocks.heads import PooledClassifier
from models.blocks.resnet2d import BLOCKS
from models.blocks.resnet3d import ResNet3d, Slots3d, Stem3d
from models.config import Checked, Count, OneOf, Rate

NORM_EPS = 1e-3  # of the outer normalisation; the inner one has torch's


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an R(2+1)D. Raises ModelConfigError with field, found and allowed."""

    num_classes: Count
    depth: Annotated[int, OneOf([depth for depth in BLOCKS if depth < 50])] = 34
    width: Count = 64
    dropout: Rate = 0.5


TINY = Config(num_classes=5, depth=10, width=8)


class SeparateConv(nn.Module):
    """1 x k x k convolution, normalisation, ReLU, then 3 (or 1) x 1 x 1 convolution; normalisation,
    ReLU unless `relu` is false.

    The channels between are so many that the pair has the parameters of a 3 x k x k convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        stride: Triple = ONCE,
        relu: bool = True,
    ) -> None:
        super().__init__()
        time, height, width = kernel
        area = height * width
        middle = 3 * in_channels * out_channels * area // (in_channels * area + 3 * out_channels)
        self.over_image = nn.Conv3d(
            in_channels,
            middle,
            (1, height, width),
            (1, *stride[1:]),
            (0, height // 2, width // 2),
            bias=False,
        )
        self.between = nn.BatchNorm3d(middle)
        self.along_time = nn.Conv3d(
            middle, out_channels, (time, 1, 1), (stride[0], 1, 1), (time // 2, 0, 0), bias=False
        )
        self.bn = nn.BatchNorm3d(out_channels, NORM_EPS)
        self.relu = relu
        for conv in (self.over_image, self.along_time):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = conv_norm(
            self.along_time, self.bn, F.relu_(conv_norm(self.over_image, self.between, x))
        )
        return F.relu_(x) if self.relu else x


class R2Plus1D(PooledClassifier):
    """(B, 3, T, H, W) float, normalised RGB, T from 8 -> logits (B, classes). Time is halved before
    three of the stages.
    """

    def __init__(self, config: Config) -> None:
        trunk = ResNet3d(
            config.depth,
            config.width,
            Stem3d(kernel=3),
            time_strides=(1, 2, 2, 2),
            slots=Slots3d(conv=SeparateConv),
        )
        super().__init__("r2plus1d", trunk, trunk.out_channels, config.num_classes, config.dropout)
        self.config = config


def build(config: Config) -> R2Plus1D:
    """An R(2+1)D with fresh weights."""
    return R2Plus1D(config)
