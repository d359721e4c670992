"""Temporal Interlacing Network (Shao et al., AAAI 2020): a 2D ResNet whose blocks move channels
along time by learnt offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from models.blocks.adaptive import TemporalInterlace
from models.blocks.heads import FrameClassifier
from models.blocks.resnet2d import BLOCKS, Place, ResNet2d, Slots
from models.config import Checked, Count, MultipleOf, OneOf, Rate


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a TIN. Raises ModelConfigError with field, found and allowed."""

    num_classes: Count
    num_segments: Count = 8
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Annotated[int, MultipleOf(16, 1024)] = 64
    shift_div: Annotated[int, OneOf((1, 2, 4))] = 4
    dropout: Rate = 0.5


TINY = Config(num_classes=5, num_segments=4, depth=10, width=16)


class TIN(FrameClassifier):
    """(B, 3, num_segments, H, W) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        def interlace(place: Place) -> nn.Module:
            return TemporalInterlace(place.in_channels, config.num_segments, config.shift_div)

        trunk = ResNet2d(config.depth, config.width, Slots(temporal=interlace))
        super().__init__(
            "tin",
            trunk,
            trunk.out_channels,
            config.num_segments,
            config.num_classes,
            config.dropout,
            init_std=0.001,
        )
        self.config = config


def build(config: Config) -> TIN:
    """A TIN with fresh weights."""
    return TIN(config)
