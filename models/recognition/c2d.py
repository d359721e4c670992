"""C2D: a 2D ResNet on every frame, with pooling over time between its stages (the baseline of Wang
et al., CVPR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import fold_frames
from models.blocks.heads import PooledClassifier
from models.blocks.pooling import PairPool, StemPool
from models.blocks.resnet2d import BLOCKS, ResNet2d, Slots, Stem
from models.config import Checked, Count, OneOf, Rate


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a C2D. Raises ModelConfigError with field, found and allowed."""

    num_classes: Count
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    temporal_pool: bool = True
    dropout: Rate = 0.5


TINY = Config(num_classes=5, depth=10, width=8)


class PooledFrames(nn.Module):
    """(B, 3, T, H, W) -> (B, D, T / 2, H / 32, W / 32); T as it is without `temporal_pool`.

    With it, the pooling behind the stem has no padding (112 -> 55 pixels), as the original's.
    """

    def __init__(self, depth: int, width: int, temporal_pool: bool) -> None:
        super().__init__()
        slots = Slots(stem=Stem(2, lambda: StemPool(padded=False))) if temporal_pool else Slots()
        self.frames = ResNet2d(depth, width, slots)
        self.time_pool = PairPool((2, 1, 1)) if temporal_pool else nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:
        batch, frames = clip.shape[0], self.frames
        x = frames.layer1(F.relu_(frames.pool(frames.stem(fold_frames(clip)))))
        x = fold_frames(self.time_pool(_unfold(x, batch)))
        return _unfold(frames.layer4(frames.layer3(frames.layer2(x))), batch)


def _unfold(frames: Tensor, batch: int) -> Tensor:
    """(B*T, C, H, W) -> (B, C, T, H, W), a view."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


class C2D(PooledClassifier):
    """(B, 3, T, H, W) float, normalised RGB, T from 2 -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        trunk = PooledFrames(config.depth, config.width, config.temporal_pool)
        super().__init__(
            "c2d", trunk, trunk.frames.out_channels, config.num_classes, config.dropout
        )
        self.config = config


def build(config: Config) -> C2D:
    """A C2D with fresh weights."""
    return C2D(config)
