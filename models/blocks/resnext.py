"""ResNeXt (Xie et al., CVPR 2017), 32 groups of 4 channels: a ResNet whose bottlenecks are twice as
wide and grouped in the middle.
"""

from __future__ import annotations

from torch import nn

from models.blocks.conv import ConvNorm
from models.blocks.resnet2d import Place, ResNet2d, Slots

GROUPS = 32


def resnext(depth: int, width: int = 64) -> ResNet2d:
    """(N, 3, H, W) -> (N, 32 * width, H / 32, W / 32), of a depth with bottlenecks (50 and
    more).
    """

    def grouped(slots: Slots, place: Place) -> nn.Module:
        return ConvNorm(
            place.channels, place.channels, 3, place.stride, groups=min(GROUPS, place.channels)
        )

    return ResNet2d(depth, width, Slots(middle=grouped), wider=2)
