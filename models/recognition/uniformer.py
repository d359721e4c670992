"""UniFormer (Li et al., ICLR 2022): convolutions over small neighbourhoods first, attention over
the whole clip later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Conv3d, as_maps, channels_last, norm_conv
from models.blocks.drop import DropPath
from models.blocks.heads import classifier
from models.blocks.vit import Mlp, SelfAttention, drop_rates, init_linear
from models.config import Checked, Count, Counts, Rate
from models.errors import require_clip, require_features


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a UniFormer: blocks and channels of its four stages. Raises ModelConfigError with
    field, found and allowed.
    """

    num_classes: Count
    depths: Annotated[tuple[int, ...], Counts(4)] = (3, 4, 8, 3)
    widths: Annotated[tuple[int, ...], Counts(4)] = (64, 128, 320, 512)
    head_width: Count = 64
    drop_path: Rate = 0.1
    dropout: Rate = 0.0
    init_std: Rate = 0.02

    def agree(self) -> None:
        if any(width % self.head_width for width in self.widths[2:]):
            self.refuse(
                "widths", f"multiples of head_width {self.head_width} in the last two stages"
            )


TINY = Config(num_classes=5, depths=(1, 1, 1, 1), widths=(8, 8, 16, 16), head_width=8)


class Embedding(nn.Module):
    """Patches of maps as new, smaller maps, normalised over channels. (B, C, T, H, W) -> (B, C', t,
    h, w).
    """

    def __init__(self, in_channels: int, channels: int, first: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        if first:
            self.proj = Conv3d(in_channels, channels, (3, 4, 4), (2, 4, 4), (1, 0, 0))
        else:
            self.proj = Conv3d(in_channels, channels, (1, 2, 2), (1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class PointMlp(nn.Module):
    """Two 1x1x1 convolutions with GELU between, on normalised maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Conv3d(channels, 4 * channels, 1), Conv3d(4 * channels, channels, 1)

    def forward(self, x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
        return self.fc2(F.gelu(norm_conv(norm, self.fc1, x)))


class LocalBlock(nn.Module):
    """Positions by a channel-wise 3x3x3 convolution, relations by a channel-wise 5x5x5 one. (B, C,
    T, H, W) -> the same shape.
    """

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.pos_embed = Conv3d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1, self.conv2 = Conv3d(channels, channels, 1), Conv3d(channels, channels, 1)
        self.attn = Conv3d(channels, channels, 5, padding=2, groups=channels)
        self.norm2, self.mlp = nn.BatchNorm3d(channels), PointMlp(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(norm_conv(self.norm1, self.conv1, x))))
        return x + self.drop_path(self.mlp(x, self.norm2))


class GlobalBlock(nn.Module):
    """Positions by a channel-wise 3x3x3 convolution, relations by attention over all places. (B, C,
    T, H, W) -> the same shape.
    """

    def __init__(self, channels: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.pos_embed = Conv3d(channels, channels, 3, padding=1, groups=channels)
        self.norm1, self.attn = nn.LayerNorm(channels), SelfAttention(channels, heads)
        self.norm2, self.mlp = nn.LayerNorm(channels), Mlp(channels, 4 * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return as_maps(tokens, x.shape[2:])


class UniFormer(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, T from 2, sides from 32 -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        rates = drop_rates(config.drop_path, sum(config.depths))
        channels = 3
        embeddings: list[nn.Module] = []
        stages: list[nn.Module] = []
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            embeddings.append(Embedding(channels, width, first=stage == 0))
            own = [rates.pop(0) for _ in range(depth)]
            if stage < 2:
                blocks: list[nn.Module] = [LocalBlock(width, rate) for rate in own]
            else:
                blocks = [GlobalBlock(width, width // config.head_width, rate) for rate in own]
            stages.append(nn.Sequential(*blocks))
            channels = width
        self.embeddings, self.stages = nn.ModuleList(embeddings), nn.ModuleList(stages)
        self.norm = nn.BatchNorm3d(channels)
        init_linear(self, config.init_std)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(channels, config.num_classes, 0.01)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): mean over all places. Features of several views may be
        averaged.
        """
        require_clip("uniformer", clip)
        x = channels_last(clip)
        for embedding, stage in zip(self.embeddings, self.stages, strict=True):
            x = stage(embedding(x))
        return self.norm(x).mean((2, 3, 4))

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            "uniformer", features, (None, self.fc.in_features), f"(B, {self.fc.in_features})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> UniFormer:
    """A UniFormer with fresh weights."""
    return UniFormer(config)
