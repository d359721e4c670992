"""Temporal Interlacing Network (Shao et al., AAAI 2020): a 2D ResNet whose blocks move channels along time by learnt offsets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from models.blocks.adaptive import TemporalInterlace
from models.blocks.heads import FrameClassifier
from models.blocks.resnet2d import BLOCKS, Place, ResNet2d, Slots
from models.errors import require_int, require_one_of, require_rate


@dataclass(frozen=True)
class Config:
    """Numbers of a TIN. Raises ModelConfigError with field, found and allowed."""

    num_classes: int
    num_segments: int = 8
    depth: int = 50
    width: int = 64
    shift_div: int = 4
    dropout: float = 0.5

    def __post_init__(self) -> None:
        require_int("tin", "num_classes", self.num_classes, 1)
        require_int("tin", "num_segments", self.num_segments, 1)
        require_one_of("tin", "depth", self.depth, BLOCKS)
        require_one_of("tin", "width", self.width, range(16, 1025, 16))
        require_one_of("tin", "shift_div", self.shift_div, (1, 2, 4))
        require_rate("tin", "dropout", self.dropout)


TINY = Config(num_classes=5, num_segments=4, depth=10, width=16)


class TIN(FrameClassifier):
    """(B, 3, num_segments, H, W) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        def interlace(place: Place) -> nn.Module:
            return TemporalInterlace(place.in_channels, config.num_segments, config.shift_div)

        trunk = ResNet2d(config.depth, config.width, Slots(temporal=interlace))
        super().__init__("tin", trunk, trunk.out_channels, config.num_segments, config.num_classes, config.dropout, init_std=0.001)
        self.config = config


def build(config: Config) -> TIN:
    """A TIN with fresh weights."""
    return TIN(config)
