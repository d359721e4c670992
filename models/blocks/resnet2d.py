"""ResNet on single frames (He et al., CVPR 2016; the variant with the stride on the 3x3
convolution), with slots.

A family changes the trunk by filling a slot when it builds it. Parameter names depend on depth
alone: `stem.conv.weight`, `stem.bn.*`, `layer1.0.conv1.conv.weight`, `layer1.0.conv1.bn.*`,
`layer1.0.downsample.conv.weight`, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import ConvMaker, ConvNorm
from models.blocks.pooling import StemPool

BLOCKS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Depth -> residual blocks per stage. Depth 10 is not in the paper: the smallest trunk of the same
make, for CPUs.
"""


@dataclass(frozen=True)
class Place:
    """Where a block stands: stage 1 to 4, index in the stage, channels in, channels of its narrow
    part, channels out, stride.
    """

    stage: int
    index: int
    in_channels: int
    channels: int
    out_channels: int
    stride: int


def identity(place: Place) -> nn.Module:
    """The empty temporal slot."""
    return nn.Identity()


@dataclass(frozen=True)
class Stem:
    """The 7x7 convolution's stride, and what makes the rest of the way to a quarter of the input's
    size.
    """

    stride: int
    pool: Callable[[], nn.Module]


STEMS: dict[str, Stem] = {"pool": Stem(2, StemPool), "stride": Stem(4, nn.Identity)}
"""`pool` is the paper's. `stride` has the same parameters and steps by 4 at once: on CPUs it halves
a narrow trunk's time.
"""


def three_by_three(slots: Slots, place: Place) -> nn.Module:
    """The middle of a bottleneck."""
    return slots.conv(place.channels, place.channels, 3, place.stride)


@dataclass(frozen=True)
class Slots:
    """What a family may put into the trunk.

    Attributes:
        conv: makes the convolutions.
        middle: makes that in the middle of a bottleneck.
        stem: the way to a quarter of the size.
        strides: steps of the four stages.
        temporal: makes, for a block's place, the operation on the input of that block's first
            convolution; the shortcut does not see it.
        between: the one on its output.
        after: the one behind the block.
    """

    conv: ConvMaker = ConvNorm
    middle: Callable[[Slots, Place], nn.Module] = three_by_three
    stem: Stem = STEMS["pool"]
    strides: tuple[int, int, int, int] = (1, 2, 2, 2)
    temporal: Callable[[Place], nn.Module] = identity
    between: Callable[[Place], nn.Module] = identity
    after: Callable[[Place], nn.Module] = identity


class BasicBlock(nn.Module):
    """Two 3x3 convolutions. (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, place: Place, slots: Slots) -> None:
        super().__init__()
        self.temporal = slots.temporal(place)
        self.conv1 = slots.conv(place.in_channels, place.channels, 3, place.stride)
        self.conv2 = slots.conv(place.channels, place.channels, 3, relu=False)
        self.downsample = _shortcut(place, place.channels, slots)
        self.between, self.after = slots.between(place), slots.after(place)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.between(self.conv1(self.temporal(x))))
        return self.after(F.relu_(y.add_(self.downsample(x))))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution. (N, in_channels, H, W) -> (N, out_channels, H / stride, W /
    stride).
    """

    expansion = 4

    def __init__(self, place: Place, slots: Slots) -> None:
        super().__init__()
        self.temporal = slots.temporal(place)
        self.conv1 = slots.conv(place.in_channels, place.channels, 1)
        self.conv2 = slots.middle(slots, place)
        self.conv3 = slots.conv(place.channels, place.out_channels, 1, relu=False)
        self.downsample = _shortcut(place, place.out_channels, slots)
        self.between, self.after = slots.between(place), slots.after(place)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(self.conv2(self.between(self.conv1(self.temporal(x)))))
        return self.after(F.relu_(y.add_(self.downsample(x))))


def _shortcut(place: Place, out_channels: int, slots: Slots) -> nn.Module:
    if place.stride == 1 and place.in_channels == out_channels:
        return nn.Identity()
    return slots.conv(place.in_channels, out_channels, 1, place.stride, relu=False)


class ResNet2d(nn.Module):
    """(N, in_channels, H, W) -> (N, out_channels, H / 32, W / 32). N may hold frames of several
    clips, one clip after the other.

    Args:
        depth: one of `BLOCKS`; from 50 on blocks are bottlenecks.
        width: channels of the stem and of the narrow part of stage 1; doubles at each stage.
        slots: what stands in the trunk; None is the paper's.
        wider: multiplies the narrow parts alone (ResNeXt).
        in_channels: 3 for RGB.
    """

    def __init__(
        self,
        depth: int,
        width: int = 64,
        slots: Slots | None = None,
        wider: int = 1,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        slots = slots or Slots()
        block = Bottleneck if depth >= 50 else BasicBlock
        self.stem = slots.conv(in_channels, width, 7, slots.stem.stride, relu=False)
        self.pool = slots.stem.pool()
        channels = width
        stages: list[nn.Module] = []
        for stage, num_blocks in enumerate(BLOCKS[depth], start=1):
            narrow = width * 2 ** (stage - 1)
            blocks: list[nn.Module] = []
            for index in range(num_blocks):
                stride = slots.strides[stage - 1] if index == 0 else 1
                place = Place(
                    stage, index, channels, wider * narrow, block.expansion * narrow, stride
                )
                blocks.append(block(place, slots))
                channels = place.out_channels
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        # The paper has ReLU before the pooling. It commutes with a maximum, bit for bit, and here
        # it sees a quarter of the pixels.
        x = F.relu_(self.pool(self.stem(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x

    def maps(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> what each of the four stages gives."""
        x, found = F.relu_(self.pool(self.stem(x))), []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            found.append(x)
        return found
