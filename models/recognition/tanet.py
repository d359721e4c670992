"""TANet (Liu et al., ICCV 2021): a 2D ResNet with a temporal adaptive module in every block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from models.blocks.adaptive import TemporalAdaptive
from models.blocks.heads import FrameClassifier
from models.blocks.resnet2d import BLOCKS, Place, ResNet2d, Slots
from models.config import Checked, Count, OneOf, Rate


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a TANet. Raises ModelConfigError with field, found and allowed."""

    num_classes: Count
    num_segments: Count = 8
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    dropout: Rate = 0.5


TINY = Config(num_classes=5, num_segments=4, depth=10, width=8)


class TANet(FrameClassifier):
    """(B, 3, num_segments, H, W) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        def adaptive(place: Place) -> nn.Module:
            return TemporalAdaptive(place.channels, config.num_segments)

        trunk = ResNet2d(config.depth, config.width, Slots(between=adaptive))
        super().__init__(
            "tanet",
            trunk,
            trunk.out_channels,
            config.num_segments,
            config.num_classes,
            config.dropout,
            init_std=0.001,
        )
        self.config = config


def build(config: Config) -> TANet:
    """A TANet with fresh weights."""
    return TANet(config)
