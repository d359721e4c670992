"""ResNet on clips: the 2D residual network with some convolutions inflated along time (Carreira and
Zisserman, CVPR 2017), with slots.

I3D, SlowOnly, SlowFast, CSN and R(2+1)D are this trunk with other numbers and other things in the
slots. Parameter names depend on depth alone: `stem.conv.weight`, `layer1.0.conv1.conv.weight`,
`layer1.0.conv1.bn.*`, `layer1.0.downsample.conv.weight`, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import ConvMaker3d, ConvNorm3d, Triple, channels_last
from models.blocks.pooling import StemPool
from models.blocks.resnet2d import BLOCKS


@dataclass(frozen=True)
class Place3d:
    """Where a block stands: stage 1 to 4, index in the stage, channels in, channels of its narrow
    part, strides, and whether its kernels reach along time.
    """

    stage: int
    index: int
    in_channels: int
    channels: int
    stride: int
    time_stride: int
    inflated: bool


def first_inflated(slots: Slots3d, place: Place3d) -> tuple[nn.Module, nn.Module]:
    """The narrow part of an I3D bottleneck: 3x1x1 (1x1x1 where not inflated), then 1x3x3."""
    one = slots.conv(place.in_channels, place.channels, (3 if place.inflated else 1, 1, 1))
    return one, slots.conv(
        place.channels, place.channels, (1, 3, 3), (place.time_stride, place.stride, place.stride)
    )


def identity(place: Place3d) -> nn.Module:
    """The empty slot."""
    return nn.Identity()


@dataclass(frozen=True)
class Slots3d:
    """What a family may put into the trunk.

    Attributes:
        conv: makes the convolutions.
        narrow: makes the first two of a bottleneck.
        after: makes what follows a block's last ReLU (a non-local block).
        second_pool: makes what follows the first stage.
    """

    conv: ConvMaker3d = ConvNorm3d
    narrow: Callable[[Slots3d, Place3d], tuple[nn.Module, nn.Module]] = first_inflated
    after: Callable[[Place3d], nn.Module] = identity
    second_pool: Callable[[], nn.Module] = nn.Identity


@dataclass(frozen=True)
class Stem3d:
    """The first convolution's reach and step along time, and the step of the pooling behind it
    (which drops frames, it does not compare them: its kernel is 1 along time).
    """

    kernel: int = 1
    stride: int = 1
    pool_stride: int = 1


class BasicBlock3d(nn.Module):
    """Two 3x3x3 convolutions (1x3x3 where not inflated). (N, C, T, H, W) -> (N, channels, T /
    time_stride, H / stride, W / stride).
    """

    expansion = 1

    def __init__(self, place: Place3d, slots: Slots3d) -> None:
        super().__init__()
        kernel = (3 if place.inflated else 1, 3, 3)
        self.conv1 = slots.conv(
            place.in_channels,
            place.channels,
            kernel,
            (place.time_stride, place.stride, place.stride),
        )
        self.conv2 = slots.conv(place.channels, place.channels, kernel, relu=False)
        self.downsample = _shortcut(place, place.channels, slots)
        self.after = slots.after(place)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.relu_(self.conv2(self.conv1(x)).add_(self.downsample(x))))


class Bottleneck3d(nn.Module):
    """The slot's two narrow convolutions, then 1x1x1. (N, C, T, H, W) -> (N, 4 * channels, T /
    time_stride, H / stride, W / stride).
    """

    expansion = 4

    def __init__(self, place: Place3d, slots: Slots3d) -> None:
        super().__init__()
        wide = self.expansion * place.channels
        self.conv1, self.conv2 = slots.narrow(slots, place)
        self.conv3 = slots.conv(place.channels, wide, (1, 1, 1), relu=False)
        self.downsample = _shortcut(place, wide, slots)
        self.after = slots.after(place)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.relu_(self.conv3(self.conv2(self.conv1(x))).add_(self.downsample(x))))


def _shortcut(place: Place3d, out_channels: int, slots: Slots3d) -> nn.Module:
    stride: Triple = (place.time_stride, place.stride, place.stride)
    if stride == (1, 1, 1) and place.in_channels == out_channels:
        return nn.Identity()
    return slots.conv(place.in_channels, out_channels, (1, 1, 1), stride, relu=False)


Inflate = Sequence[bool | int | Sequence[bool | int]]


class ResNet3d(nn.Module):
    """(N, 3, T, H, W) -> (N, out_channels, T', H / 32, W / 32).

    Args:
        depth: one of `BLOCKS` in `models.blocks.resnet2d`; from 50 on blocks are bottlenecks.
        width: channels of the stem and of the narrow part of stage 1; doubles at each stage.
        stem: None is one without reach or step along time.
        inflate: per stage, or per block of a stage, which blocks reach along time.
        time_strides: of each stage's first block.
        lateral: channels that another pathway adds to the input of each stage; a caller that has
            such a pathway runs `enter` and the stages itself.
        slots: what stands in the trunk; None is I3D's.
    """

    def __init__(
        self,
        depth: int,
        width: int = 64,
        stem: Stem3d | None = None,
        inflate: Inflate = (True, True, True, True),
        time_strides: Sequence[int] = (1, 1, 1, 1),
        lateral: Sequence[int] = (0, 0, 0, 0),
        slots: Slots3d | None = None,
    ) -> None:
        super().__init__()
        slots, stem = slots or Slots3d(), stem or Stem3d()
        block = Bottleneck3d if depth >= 50 else BasicBlock3d
        self.stem = slots.conv(3, width, (stem.kernel, 7, 7), (stem.stride, 2, 2), relu=False)
        self.pool = StemPool(time_stride=stem.pool_stride)
        self.second_pool = slots.second_pool()
        channels = width
        stages: list[nn.Module] = []
        for stage, num_blocks in enumerate(BLOCKS[depth], start=1):
            reach = inflate[stage - 1]
            blocks: list[nn.Module] = []
            for index in range(num_blocks):
                first = index == 0
                place = Place3d(
                    stage,
                    index,
                    channels + (lateral[stage - 1] if first else 0),
                    width * 2 ** (stage - 1),
                    2 if stage > 1 and first else 1,
                    time_strides[stage - 1] if first else 1,
                    bool(reach[index] if isinstance(reach, Sequence) else reach),
                )
                blocks.append(block(place, slots))
                channels = place.channels * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = channels

    def enter(self, x: Tensor) -> Tensor:
        """Stem and first pooling. ReLU commutes with a maximum, bit for bit, and sees a quarter of
        the pixels behind it.
        """
        return F.relu_(self.pool(self.stem(channels_last(x))))

    def forward(self, x: Tensor) -> Tensor:
        x = self.second_pool(self.layer1(self.enter(x)))
        return self.layer4(self.layer3(self.layer2(x)))


def zero_init_residuals(trunk: ResNet3d) -> ResNet3d:
    """The trunk with zeros for the weights of each block's last normalisation: a deep fresh network
    passes its input on (Goyal et al., 2017).
    """
    for block in trunk.modules():
        if isinstance(block, (BasicBlock3d, Bottleneck3d)):
            last = block.conv3 if isinstance(block, Bottleneck3d) else block.conv2
            assert isinstance(last, ConvNorm3d)
            nn.init.zeros_(last.bn.weight)
    return trunk
