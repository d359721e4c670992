"""TimeSformer (Bertasius et al., ICML 2021): a Vision Transformer over frames with attention along
time, over the image, or both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from models.blocks.conv import fold_frames
from models.blocks.drop import DropPath
from models.blocks.heads import classifier
from models.blocks.vit import Block, Mlp, SelfAttention, drop_rates, init_linear
from models.config import Checked, Count, MultipleOf, OneOf, Rate
from models.errors import ModelInputError, require_clip, require_features

KINDS = ("divided", "joint", "space_only")


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a TimeSformer, for clips of `num_frames` frames of `size` x `size` pixels. Raises
    ModelConfigError.
    """

    num_classes: Count
    attention: Annotated[str, OneOf(KINDS)] = "divided"
    width: Annotated[int, MultipleOf("heads")] = 768
    depth: Count = 12
    heads: Count = 12
    num_frames: Count = 8
    size: Annotated[int, MultipleOf("patch", 4096)] = 224
    patch: Count = 16
    drop_path: Rate = 0.1
    dropout: Rate = 0.0
    init_std: Rate = 0.02


TINY = Config(num_classes=5, width=16, depth=2, heads=2, num_frames=4, size=32)
TINY_INPUT = (3, 4, 32, 32)


class DividedBlock(nn.Module):
    """Attention along time at each place, then over each frame, then a two-layer network.

    (B, 1 + P * T, C) -> the same shape: the class token, then places with time fastest. The class
    token does not see time, and takes the mean of what it learns in the frames.
    """

    def __init__(self, channels: int, heads: int, num_frames: int, drop_path: float) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.time_norm, self.time_attn = (
            nn.LayerNorm(channels, 1e-6),
            SelfAttention(channels, heads),
        )
        self.time_fc = nn.Linear(channels, channels)
        self.space_norm, self.space_attn = (
            nn.LayerNorm(channels, 1e-6),
            SelfAttention(channels, heads),
        )
        self.mlp, self.mlp_norm = Mlp(channels, 4 * channels), nn.LayerNorm(channels, 1e-6)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[0], self.num_frames
        first, rest = x[:, :1], x[:, 1:].unflatten(1, (-1, frames))  # B, P, T, C
        along = self.drop_path(self.time_attn(self.time_norm(rest.flatten(0, 1))))
        rest = rest + self.time_fc(along).unflatten(0, (batch, -1))
        places = rest.transpose(1, 2).flatten(0, 1)  # B * T, P, C
        tokens = torch.cat([first.repeat_interleave(frames, 0), places], 1)
        over = self.drop_path(self.space_attn(self.space_norm(tokens)))
        first = first + over[:, :1].unflatten(0, (batch, frames)).mean(1)
        rest = rest + over[:, 1:].unflatten(0, (batch, frames)).transpose(1, 2)
        x = torch.cat([first, rest.flatten(1, 2)], 1)
        return x + self.drop_path(self.mlp(self.mlp_norm(x)))


class TimeSformer(nn.Module):
    """(B, 3, num_frames, size, size) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (config.size // config.patch) ** 2 + 1, width))
        if config.attention != "space_only":
            self.times = nn.Parameter(torch.zeros(1, config.num_frames, width))
        self.embed = nn.Conv2d(3, width, config.patch, config.patch)
        self.norm = nn.LayerNorm(width, 1e-6)
        rates = drop_rates(config.drop_path, config.depth)
        if config.attention == "divided":
            blocks: list[nn.Module] = [
                DividedBlock(width, config.heads, config.num_frames, rate) for rate in rates
            ]
        else:
            blocks = [Block(width, config.heads, drop_path=rate) for rate in rates]
        self.blocks = nn.Sequential(*blocks)
        init_linear(self, config.init_std)
        nn.init.trunc_normal_(self.first, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)
        # a fresh model looks at frames one by one; the first block's way along time is open
        for block in blocks[1:]:
            if isinstance(block, DividedBlock):
                nn.init.zeros_(block.time_fc.weight)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(width, config.num_classes, 0.02)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, num_frames, size, size) -> (B, width): the class token. Features of several views
        may be averaged.
        """
        config = self.config
        require_clip("timesformer", clip, config.num_frames)
        if tuple(clip.shape[3:]) != (config.size, config.size):
            found = f"{clip.shape[3]}x{clip.shape[4]}"
            raise ModelInputError(
                f"timesformer: input: found {found} pixels; expected {config.size}x{config.size}"
            )
        batch = clip.shape[0]
        patches = self.embed(fold_frames(clip)).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(patches.shape[0], -1, -1), patches], 1) + self.positions
        if config.attention == "space_only":
            x = self.blocks(x).unflatten(0, (batch, -1)).mean(1)
        else:
            first = x.unflatten(0, (batch, -1))[:, 0, :1]  # the same in all frames
            rest = x[:, 1:].unflatten(0, (batch, -1)).transpose(1, 2) + self.times  # B, P, T, C
            x = self.blocks(torch.cat([first, rest.flatten(1, 2)], 1))
        return self.norm(x)[:, 0]

    def classify(self, features: Tensor) -> Tensor:
        """(B, width) -> logits (B, classes)."""
        require_features(
            "timesformer", features, (None, self.config.width), f"(B, {self.config.width})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> TimeSformer:
    """A TimeSformer with fresh weights."""
    return TimeSformer(config)
