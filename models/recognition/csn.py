"""Channel-separated networks (Tran et al., ICCV 2019): 3D convolutions work on one channel each,
1x1x1 ones mix the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from torch import nn

from models.blocks.conv import ConvNorm3d
from models.blocks.heads import PooledClassifier
from models.blocks.resnet2d import BLOCKS
from models.blocks.resnet3d import Bottleneck3d, Place3d, ResNet3d, Slots3d, Stem3d
from models.config import Checked, Count, OneOf, Rate

NORM_EPS = 1e-3
KINDS = ("ir", "ip")


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a CSN. Raises ModelConfigError with field, found and allowed.

    Attributes:
        kind: ir leaves the bottleneck's 3x3x3 to single channels (interaction-reduced); ip puts a
            1x1x1 convolution before it (interaction-preserved).
        damping: what the last normalisation of each block lacks to 1 in a fresh model: the
            gradients of many narrow blocks at full weight drown each other.
    """

    num_classes: Count
    depth: Annotated[int, OneOf([depth for depth in BLOCKS if depth >= 50])] = 152
    width: Count = 64
    kind: Annotated[str, OneOf(KINDS)] = "ir"
    dropout: Rate = 0.5
    damping: Rate = 0.0


TINY = Config(num_classes=5, depth=50, width=4)


def _narrow(kind: str, slots: Slots3d, place: Place3d) -> tuple[nn.Module, nn.Module]:
    """1x1x1, then 3x3x3 on single channels."""
    channels, stride = place.channels, (place.time_stride, place.stride, place.stride)
    mixing = (
        [ConvNorm3d(channels, channels, (1, 1, 1), relu=False, eps=NORM_EPS)]
        if kind == "ip"
        else []
    )
    single = ConvNorm3d(channels, channels, (3, 3, 3), stride, groups=channels, eps=NORM_EPS)
    return slots.conv(place.in_channels, channels, (1, 1, 1)), nn.Sequential(*mixing, single)


class CSN(PooledClassifier):
    """(B, 3, T, H, W) float, normalised RGB -> logits (B, classes). Made for T = 32; time is halved
    before three of the stages.
    """

    def __init__(self, config: Config) -> None:
        trunk = ResNet3d(
            config.depth,
            config.width,
            Stem3d(kernel=3),
            time_strides=(1, 2, 2, 2),
            slots=Slots3d(
                conv=partial(ConvNorm3d, eps=NORM_EPS), narrow=partial(_narrow, config.kind)
            ),
        )
        for block in trunk.modules():
            if isinstance(block, Bottleneck3d):
                assert isinstance(block.conv3, ConvNorm3d)
                nn.init.constant_(block.conv3.bn.weight, 1 - config.damping)
        super().__init__("csn", trunk, trunk.out_channels, config.num_classes, config.dropout)
        self.config = config


def build(config: Config) -> CSN:
    """A CSN with fresh weights."""
    return CSN(config)
