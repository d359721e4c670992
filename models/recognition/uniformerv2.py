"""UniFormerV2 (Li et al., ICCV 2023): CLIP's image transformer on frames, and a video token that
looks at all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Conv3d, channels_last
from models.blocks.drop import DropPath
from models.blocks.heads import classifier
from models.blocks.vit import attend, drop_rates, side
from models.config import Checked, Count, MultipleOf, Rate
from models.errors import ModelInputError, require_clip, require_features


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a UniFormerV2, for frames of `size` x `size` pixels. The last `looks` blocks are
    looked at.

    Raises ModelConfigError with field, found and allowed.
    """

    num_classes: Count
    width: Annotated[int, MultipleOf("heads")] = 768
    depth: Count = 12
    heads: Count = 12
    patch: Count = 16
    size: Annotated[int, MultipleOf("patch", 4096)] = 224
    looks: int = 4
    drop_path: Rate = 0.0
    look_dropout: Rate = 0.5
    dropout: Rate = 0.5

    def agree(self) -> None:
        self.one_of("looks", range(1, self.depth + 1))


TINY = Config(num_classes=5, width=16, depth=3, heads=2, size=32, looks=2)
TINY_INPUT = (3, 3, 32, 32)


QUICK = 1.702
"""CLIP's GELU is x * sigmoid(QUICK * x)."""


class Attention(nn.Module):
    """Projections for attention, under the names of torch's own layer."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight, self.in_proj_bias = (
            nn.Parameter(torch.empty(3 * channels, channels)),
            nn.Parameter(torch.zeros(3 * channels)),
        )
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) with themselves."""
        return self.out_proj(
            attend(F.linear(x, self.in_proj_weight, self.in_proj_bias), self.heads)
        )

    def look(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Queries (B, Q, C) at tokens (B, N, C) -> (B, Q, C)."""
        channels = query.shape[2]
        q = F.linear(query, self.in_proj_weight[:channels], self.in_proj_bias[:channels])
        k, v = F.linear(tokens, self.in_proj_weight[channels:], self.in_proj_bias[channels:]).chunk(
            2, -1
        )
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with CLIP's approximation of GELU between."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.c_fc, self.c_proj = (
            nn.Linear(channels, 4 * channels),
            nn.Linear(4 * channels, channels),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        # That is silu(QUICK * x) / QUICK, and the products scale for nothing.
        wide = torch.addmm(
            self.c_fc.bias, x.flatten(0, 1), self.c_fc.weight.T, beta=QUICK, alpha=QUICK
        )
        wide = self.dropout(F.silu(wide, inplace=True))
        return torch.addmm(self.c_proj.bias, wide, self.c_proj.weight.T, alpha=1 / QUICK).view_as(x)


class FrameBlock(nn.Module):
    """A block of CLIP's image transformer on the tokens of single frames, (B * T, 1 + P, C)."""

    def __init__(self, channels: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.attn, self.ln_1 = Attention(channels, heads), nn.LayerNorm(channels)
        self.mlp, self.ln_2 = Mlp(channels), nn.LayerNorm(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.ln_1(x)))
        return x + self.drop_path(self.mlp(self.ln_2(x)))


class LookBlock(nn.Module):
    """The video token (B, 1, C) looks at all tokens of all frames (B, N, C)."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attn, self.ln_1 = Attention(channels, heads), nn.LayerNorm(channels)
        self.mlp = Mlp(channels, dropout)
        self.ln_2, self.ln_3 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        nn.init.xavier_uniform_(self.mlp.c_fc.weight)
        for last in (self.attn.out_proj, self.mlp.c_proj):  # a fresh token learns nothing yet
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, token: Tensor, tokens: Tensor) -> Tensor:
        token = token + self.attn.look(self.ln_1(token), self.ln_3(tokens))
        return token + self.mlp(self.ln_2(token))


class UniFormerV2(nn.Module):
    """(B, 3, T, size, size) float, normalised RGB, any T -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(
            width**-0.5 * torch.randn((config.size // config.patch) ** 2 + 1, width)
        )
        self.video_token = nn.Parameter(torch.zeros(1, 1, width))
        self.balance = nn.Parameter(torch.zeros(width))
        self.embed = Conv3d(
            3, width, (1, config.patch, config.patch), (1, config.patch, config.patch), bias=False
        )
        self.norm_first = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            FrameBlock(width, config.heads, rate)
            for rate in drop_rates(config.drop_path, config.depth)
        )
        self.positions = nn.ModuleList(
            Conv3d(width, width, 3, padding=1, groups=width) for _ in range(config.looks)
        )
        self.looks = nn.ModuleList(
            LookBlock(width, config.heads, config.look_dropout) for _ in range(config.looks)
        )
        self.norm = nn.LayerNorm(width)
        for position in self.positions:
            nn.init.zeros_(position.bias)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(width, config.num_classes, 0.02)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, size, size) -> (B, width): the video token and the mean of the frames' tokens,
        balanced channel by channel.
        """
        config = self.config
        require_clip("uniformerv2", clip)
        if tuple(clip.shape[3:]) != (config.size, config.size):
            found = f"{clip.shape[3]}x{clip.shape[4]}"
            raise ModelInputError(
                f"uniformerv2: input: found {found} pixels; expected {config.size}x{config.size}"
            )
        batch = clip.shape[0]
        patches = self.embed(channels_last(clip)).permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = self.norm_first(torch.cat([first, patches], 1) + self.positional_embedding)
        token = self.video_token.expand(batch, -1, -1)
        for index, block in enumerate(self.blocks):
            x = block(x)
            look = index - (config.depth - config.looks)
            if look >= 0:
                token = self.looks[look](token, self._placed(x, batch, self.positions[look]))
        share = torch.sigmoid(self.balance)
        frames = x[:, 0].unflatten(0, (batch, -1)).mean(1)
        return self.norm((1 - share) * token[:, 0] + share * frames)

    def _placed(self, x: Tensor, batch: int, position: nn.Module) -> Tensor:
        """Tokens of all frames side by side, (B, T * (1 + P), C), patches with their place in the
        clip added.
        """
        tokens = x.unflatten(0, (batch, -1))
        length = side(tokens.shape[2] - 1)
        maps = tokens[:, :, 1:].unflatten(2, (length, length)).permute(0, 4, 1, 2, 3)
        placed = position(maps).permute(0, 2, 3, 4, 1).flatten(2, 3)
        return torch.cat([tokens[:, :, :1], tokens[:, :, 1:] + placed], 2).flatten(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """(B, width) -> logits (B, classes)."""
        require_features(
            "uniformerv2", features, (None, self.config.width), f"(B, {self.config.width})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> UniFormerV2:
    """A UniFormerV2 with fresh weights."""
    return UniFormerV2(config)
