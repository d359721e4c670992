"""Temporal pyramid network (Yang et al., CVPR 2020): two stages of a trunk, aligned in space, fused
at several tempos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Conv3d, ConvNorm3d, fold_frames
from models.blocks.heads import classifier
from models.blocks.resnet2d import BLOCKS, Place, ResNet2d, Slots
from models.blocks.resnet3d import ResNet3d, zero_init_residuals
from models.blocks.temporal import TemporalShift
from models.config import Checked, Count, MultipleOf, OneOf, Rate
from models.errors import require_clip, require_features

GROUPS = 32
TRUNKS = ("slowonly", "tsm")
AUXILIARY_WEIGHT = 0.5  # of the auxiliary head's loss


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a TPN on a SlowOnly or a TSM trunk. Raises ModelConfigError with field, found and
    allowed.
    """

    num_classes: Count
    trunk: Annotated[str, OneOf(TRUNKS)] = "slowonly"
    num_segments: Count = 8
    depth: Annotated[int, OneOf([depth for depth in BLOCKS if depth >= 50])] = 50
    width: Annotated[int, MultipleOf(2, 1024)] = 64
    dropout: Rate = 0.5


TINY = Config(num_classes=5, num_segments=4, width=4)


class ShiftedFrames(nn.Module):
    """A TSM trunk: (B, 3, T, H, W) -> maps of its last two stages, (B, C, T, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__()

        def shift(place: Place) -> nn.Module:
            return TemporalShift(config.num_segments, 8)

        self.frames = ResNet2d(config.depth, config.width, Slots(temporal=shift))

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.frames
        third = trunk.layer3(
            trunk.layer2(trunk.layer1(F.relu_(trunk.pool(trunk.stem(fold_frames(clip))))))
        )
        last = trunk.layer4(third)
        return tuple(
            maps.unflatten(0, (clip.shape[0], -1)).transpose(1, 2) for maps in (third, last)
        )  # type: ignore[return-value]


class SlowFrames(nn.Module):
    """A SlowOnly trunk: (B, 3, T, H, W) -> maps of its last two stages, (B, C, T, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.clips = zero_init_residuals(
            ResNet3d(config.depth, config.width, inflate=(False, False, True, True))
        )

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.clips
        third = trunk.layer3(trunk.layer2(trunk.layer1(trunk.enter(clip))))
        return third, trunk.layer4(third)


class LevelFusion(nn.Module):
    """Both levels, each through a grouped 1x1x1 convolution, side by side and fused by another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            ConvNorm3d(channels, channels, (1, 1, 1), groups=GROUPS) for _ in range(2)
        )
        self.fuse = ConvNorm3d(2 * channels, 2 * channels, (1, 1, 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.fuse(
            torch.cat([level(maps) for level, maps in zip(self.levels, levels, strict=True)], 1)
        )


class Pyramid(nn.Module):
    """Maps (B, C, T, h, w) and (B, 2C, T, h / 2, w / 2) of two stages -> (B, 2C, ceil(T / 8), h /
    2, w / 2).

    The finer stage is brought to the coarser one's size, both are modulated along time; the coarse
    level is added to the fine one, then (cascade) the result to the coarse one, and each of the two
    flows is fused.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tempo = nn.ModuleList(
            Conv3d(2 * channels, channels, (3, 1, 1), padding=(1, 0, 0), groups=GROUPS, bias=False)
            for _ in range(2)
        )
        self.up = Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.top_down = LevelFusion(channels)
        self.align = ConvNorm3d(channels, 2 * channels, (1, 3, 3), (1, 2, 2))
        self.bottom_up = LevelFusion(channels)
        self.fuse = ConvNorm3d(4 * channels, 2 * channels, (1, 1, 1))
        self.pool = nn.MaxPool3d((8, 1, 1), ceil_mode=True)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, third: Tensor, last: Tensor) -> Tensor:
        fine, coarse = (
            self.pool(tempo(maps))
            for tempo, maps in zip(self.tempo, (self.align(third), last), strict=True)
        )
        fine = fine + coarse
        down = self.top_down([fine, coarse])
        return self.fuse(torch.cat([down, self.bottom_up([fine, coarse + self.up(fine)])], 1))


class AuxiliaryHead(nn.Module):
    """Scores from the finer stage alone, for training."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = ConvNorm3d(channels, 2 * channels, (1, 3, 3), (1, 2, 2))
        self.dropout = nn.Dropout(0.5)
        self.fc = classifier(2 * channels, num_classes, 0.01)
        nn.init.xavier_uniform_(self.conv.conv.weight)

    def forward(self, maps: Tensor) -> Tensor:
        return self.fc(self.dropout(self.conv(maps).mean((2, 3, 4))))


class TPN(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB -> logits (B, classes). A TSM trunk takes T =
    num_segments only.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.trunk = SlowFrames(config) if config.trunk == "slowonly" else ShiftedFrames(config)
        channels = 16 * config.width
        self.pyramid = Pyramid(channels)
        self.auxiliary = AuxiliaryHead(channels, config.num_classes)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(2 * channels, config.num_classes, 0.01)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): mean over all places of the pyramid."""
        require_clip("tpn", clip, self.config.num_segments if self.config.trunk == "tsm" else None)
        return self.pyramid(*self.trunk(clip)).mean((2, 3, 4))

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            "tpn", features, (None, self.fc.in_features), f"(B, {self.fc.in_features})"
        )
        return self.fc(self.dropout(features))

    def forward(
        self, clip: Tensor, every_head: bool = False
    ) -> Tensor | list[tuple[Tensor, float]]:
        """Scores of a clip.

        Args:
            clip: (B, 3, T, H, W) float, normalised RGB.
            every_head: gives a list of (logits, weight of their loss), the main ones first.

        Returns:
            Logits (B, classes), or that list.
        """
        if not every_head:
            return self.classify(self.features(clip))
        require_clip("tpn", clip, self.config.num_segments if self.config.trunk == "tsm" else None)
        third, last = self.trunk(clip)
        main = self.classify(self.pyramid(third, last).mean((2, 3, 4)))
        return [(main, 1.0), (self.auxiliary(third), AUXILIARY_WEIGHT)]


def build(config: Config) -> TPN:
    """A TPN with fresh weights."""
    return TPN(config)
