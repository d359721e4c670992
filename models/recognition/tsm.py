"""Temporal Shift Module (Lin et al., ICCV 2019): a ResNet whose blocks see part of the channels one frame early or late."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.blocks.conv import fold_frames
from models.blocks.resnet2d import BLOCKS, STEMS, Place, ResNet2d, Slots
from models.blocks.temporal import TemporalShift
from models.errors import require_clip, require_features, require_int, require_one_of, require_rate


@dataclass(frozen=True)
class Config:
    """Numbers of a TSM. Raises ModelConfigError with field, found and allowed."""

    num_classes: int
    num_segments: int = 8
    depth: int = 50
    width: int = 64
    stem: str = "pool"
    shift_div: int = 8
    dropout: float = 0.5
    init_std: float = 0.001

    def __post_init__(self) -> None:
        require_int("tsm", "num_classes", self.num_classes, 1)
        require_int("tsm", "num_segments", self.num_segments, 1)
        require_one_of("tsm", "depth", self.depth, BLOCKS)
        require_int("tsm", "width", self.width, 1)
        require_one_of("tsm", "stem", self.stem, STEMS)
        require_int("tsm", "shift_div", self.shift_div, 2)
        require_rate("tsm", "dropout", self.dropout)
        require_rate("tsm", "init_std", self.init_std)


TINY = Config(num_classes=5, num_segments=4, depth=10, width=8)


class TSM(nn.Module):
    """(B, 3, num_segments, H, W) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        # Very deep trunks (23 blocks and more in stage 3) shift in every second block of every stage.
        every = 2 if BLOCKS[config.depth][2] >= 23 else 1

        def shift(place: Place) -> nn.Module:
            return nn.Identity() if place.index % every else TemporalShift(config.num_segments, config.shift_div)

        self.trunk = ResNet2d(config.depth, config.width, Slots(stem=STEMS[config.stem], temporal=shift))
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(self.trunk.out_channels, config.num_classes)
        nn.init.normal_(self.fc.weight, std=config.init_std)
        nn.init.zeros_(self.fc.bias)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T, D): mean over places, one feature a frame."""
        require_clip("tsm", clip, self.config.num_segments)
        maps = self.trunk(fold_frames(clip))
        return maps.mean((2, 3)).unflatten(0, (clip.shape[0], clip.shape[2]))

    def classify(self, features: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, classes): scores of each frame, averaged."""
        frames, size = self.config.num_segments, self.fc.in_features
        require_features("tsm", features, (None, frames, size), f"(B, {frames}, {size})")
        return self.fc(self.dropout(features)).mean(1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> TSM:
    """A TSM with fresh weights."""
    return TSM(config)
