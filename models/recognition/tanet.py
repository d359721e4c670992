"""TANet (Liu et al., ICCV 2021): a 2D ResNet with a temporal adaptive module in every block."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from models.blocks.adaptive import TemporalAdaptive
from models.blocks.heads import FrameClassifier
from models.blocks.resnet2d import BLOCKS, Place, ResNet2d, Slots
from models.errors import require_int, require_one_of, require_rate


@dataclass(frozen=True)
class Config:
    """Numbers of a TANet. Raises ModelConfigError with field, found and allowed."""

    num_classes: int
    num_segments: int = 8
    depth: int = 50
    width: int = 64
    dropout: float = 0.5

    def __post_init__(self) -> None:
        require_int("tanet", "num_classes", self.num_classes, 1)
        require_int("tanet", "num_segments", self.num_segments, 1)
        require_one_of("tanet", "depth", self.depth, BLOCKS)
        require_int("tanet", "width", self.width, 1)
        require_rate("tanet", "dropout", self.dropout)


TINY = Config(num_classes=5, num_segments=4, depth=10, width=8)


class TANet(FrameClassifier):
    """(B, 3, num_segments, H, W) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        def adaptive(place: Place) -> nn.Module:
            return TemporalAdaptive(place.channels, config.num_segments)

        trunk = ResNet2d(config.depth, config.width, Slots(between=adaptive))
        super().__init__("tanet", trunk, trunk.out_channels, config.num_segments, config.num_classes, config.dropout, init_std=0.001)
        self.config = config


def build(config: Config) -> TANet:
    """A TANet with fresh weights."""
    return TANet(config)
