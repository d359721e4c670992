"""EVAD's encoder: VideoMAE's Vision Transformer, its tokens thinned out around the key frame."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.blocks.conv import Conv3d
from models.blocks.pruning import PruningBlock, positions, recompute
from models.blocks.vit import Block, drop_rates

TUBELET = 2


class Encoded(NamedTuple):
    """What the encoder makes of a clip of `grid` = (slots, h, w) tokens."""

    # (B, h * w + kept, C), normalised: the key frame's tokens, then the kept ones by falling score
    # of the last pruning
    tokens: Tensor
    # (B, kept) int64: numbers of the kept tokens among the (slots - 1) * h * w tokens outside the
    # key frame, in time order
    kept: Tensor
    # (B, C, h, w) each: the key frame's tokens after the tapped blocks, shallow to deep, not
    # normalised
    key_maps: list[Tensor]
    grid: tuple[int, int, int]
    # of each pruning block: float32 importance (B, tokens before it less h * w)
    scores: list[Tensor]


class Encoder(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, H and W multiples of `patch` -> Encoded."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        side: int,
        key_slot: int,
        taps: Collection[int],
        pruning: Collection[int],
        keep_rate: float,
        key_weight: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.side, self.key_slot, self.taps = side, key_slot, tuple(taps)
        self.save_memory = False
        self.embed = Conv3d(3, width, (TUBELET, patch, patch), (TUBELET, patch, patch))
        self.blocks = nn.ModuleList(
            (
                PruningBlock(width, heads, keep_rate, key_weight, rate)
                if index in pruning
                else Block(width, heads, "qv", drop_path=rate)
            )
            for index, rate in enumerate(drop_rates(drop_path, depth))
        )
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, clip: Tensor) -> Encoded:
        embedded = self.embed(clip)
        slots, height, width = embedded.shape[2:]
        x = embedded.flatten(2).transpose(1, 2)
        x = (x + positions(slots, self.side, height, width, x)).unflatten(1, (slots, -1))
        key = self.key_slot
        x = torch.cat([x[:, key : key + 1], x[:, :key], x[:, key + 1 :]], 1).flatten(1, 2)
        places = height * width
        kept = torch.arange((slots - 1) * places, device=x.device).expand(len(x), -1)
        maps, scores = [], []
        saving = self.save_memory and self.training and torch.is_grad_enabled()
        for index, block in enumerate(self.blocks):
            if isinstance(block, PruningBlock):
                x, kept, score = block(x, kept, places, saving)
                scores.append(score)
            else:
                x = recompute(block, x) if saving else block(x)
            if index in self.taps:
                maps.append(x[:, :places].transpose(1, 2).unflatten(2, (height, width)))
        return Encoded(self.norm(x), kept, maps, (slots, height, width), scores)
