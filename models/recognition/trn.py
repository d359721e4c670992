"""Temporal Relation Network (Zhou et al., ECCV 2018): a 2D ResNet, and small networks on ordered
sets of its frames.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import fold_frames
from models.blocks.resnet2d import BLOCKS, ResNet2d
from models.config import Checked, Count, OneOf, Rate
from models.errors import require_clip, require_features

RELATIONS = 3  # sets of frames that are looked at for each size
HIDDEN = 256


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a multi-scale TRN. Raises ModelConfigError with field, found and allowed."""

    num_classes: Count
    num_segments: Annotated[int, OneOf(range(2, 17))] = 8
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    hidden: Count = 256
    dropout: Rate = 0.8


TINY = Config(num_classes=5, num_segments=4, depth=10, width=8, hidden=8)


class Relation(nn.Module):
    """Features of `size` frames, (B, size * hidden) -> scores (B, classes)."""

    def __init__(self, size: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size * hidden, HIDDEN), nn.Linear(HIDDEN, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(F.relu(x))))


class TRN(nn.Module):
    """(B, 3, num_segments, H, W) float, normalised RGB -> logits (B, classes).

    All frames together, and for each smaller number three of the possible ordered sets, are looked
    at. Training draws the sets anew for every batch. The originals draw in testing too; here
    testing looks at the sets that their generator gives first (numpy's, seed 0), so that an answer
    can be had twice. `relations` may be replaced by another draw.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        frames = config.num_segments
        self.trunk = ResNet2d(config.depth, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(self.trunk.out_channels, config.hidden)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.zeros_(self.fc.bias)
        self.sizes = list(range(frames, 1, -1))
        self.heads = nn.ModuleList(
            Relation(size, config.hidden, config.num_classes) for size in self.sizes
        )
        self.sets = [list(itertools.combinations(range(frames), size)) for size in self.sizes]
        draw = np.random.RandomState(0)
        self.relations = [[0]] + [
            draw.choice(len(sets), min(RELATIONS, len(sets)), replace=False).tolist()
            for sets in self.sets[1:]
        ]

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T, D): mean over places, one feature a frame."""
        require_clip("trn", clip, self.config.num_segments)
        return (
            self.trunk(fold_frames(clip)).mean((2, 3)).unflatten(0, (clip.shape[0], clip.shape[2]))
        )

    def classify(self, features: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, classes): the sum over all relations."""
        frames, size = self.config.num_segments, self.fc.in_features
        require_features("trn", features, (None, frames, size), f"(B, {frames}, {size})")
        x = self.fc(self.dropout(features))
        logits = x.new_zeros(x.shape[0], self.config.num_classes)
        for head, sets, chosen in zip(
            self.heads, self.sets, self._drawn() if self.training else self.relations, strict=True
        ):
            for index in chosen:
                logits = logits + head(x[:, list(sets[index])].flatten(1))
        return logits

    def _drawn(self) -> list[list[int]]:
        return [
            torch.randperm(len(sets))[: min(RELATIONS, len(sets))].tolist() for sets in self.sets
        ]

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> TRN:
    """A TRN with fresh weights."""
    return TRN(config)
