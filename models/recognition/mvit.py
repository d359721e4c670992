"""MViTv2 (Li et al., CVPR 2022): attention whose queries, keys and values are pooled, with fewer
places and more channels as it goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Conv3d, Triple, as_maps, channels_last, conv3d
from models.blocks.drop import DropPath
from models.blocks.heads import classifier
from models.blocks.pooling import StemPool
from models.blocks.vit import Mlp, drop_rates, init_linear
from models.config import AtLeast, Checked, Count, MultipleOf, Rate
from models.errors import require_clip, require_features

PATCH_STRIDE = (2, 4, 4)


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an MViTv2. Raises ModelConfigError with field, found and allowed.

    Attributes:
        num_frames: of the clips that tables of positions are made for; they are stretched for
            others.
        size: side in pixels of those clips' frames.
        halvings: the blocks that halve the picture.
        widen_early: doubles the channels in the network of the block before a halving, not in its
            attention (MaskFeat's).
    """

    num_classes: Count
    width: Annotated[int, MultipleOf("heads")] = 96
    depth: Count = 16
    heads: Count = 1
    halvings: tuple[int, ...] = (1, 3, 14)
    num_frames: Count = 16
    size: Annotated[int, AtLeast(32)] = 224
    key_stride: Count = 8
    widen_early: bool = False
    drop_path: Rate = 0.1
    dropout: Rate = 0.5
    init_std: Rate = 0.02

    def agree(self) -> None:
        blocks = range(1, self.depth)
        if not isinstance(self.halvings, tuple) or list(self.halvings) != [
            block for block in blocks if block in self.halvings
        ]:
            self.refuse("halvings", f"ascending blocks from 1 to {self.depth - 1}")


TINY = Config(num_classes=5, width=8, depth=3, halvings=(1,), num_frames=4, size=64, key_stride=4)
TINY_INPUT = (3, 4, 64, 64)


def pooled(tokens: Tensor, pool: nn.Module, size: Triple) -> tuple[Tensor, Triple]:
    """Tokens with the places pooled; the class token stays.

    Args:
        tokens: (B, 1 + T * H * W, C), the class token first.
        pool: works on maps (B, C, T, H, W).
        size: T, H, W.

    Returns:
        The tokens, and the new size.
    """
    maps = pool(as_maps(tokens[:, 1:], size))
    new: Triple = (maps.shape[2], maps.shape[3], maps.shape[4])
    return torch.cat([tokens[:, :1], maps.flatten(2).transpose(1, 2)], 1), new


def distances(table: Tensor, queries: int, keys: int) -> Tensor:
    """Rows of a table of relative positions for each pair along one axis.

    Args:
        table: (L, C).
        queries: places of the queries along the axis.
        keys: places of the keys.

    Returns:
        (queries, keys, C).
    """
    length = 2 * max(queries, keys) - 1
    if len(table) != length:
        table = F.interpolate(table.T[None], size=length, mode="linear")[0].T
    of_queries = torch.arange(queries, device=table.device)[:, None] * max(keys / queries, 1.0)
    of_keys = torch.arange(keys, device=table.device)[None] * max(queries / keys, 1.0)
    return table[(of_queries - of_keys + (keys - 1) * max(queries / keys, 1.0)).long()]


class PooledAttention(nn.Module):
    """Attention of pooled queries over pooled keys, with learnt biases for distances along height,
    width and time.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        heads: int,
        query_stride: int,
        key_stride: int,
        size: Triple,
    ) -> None:
        super().__init__()
        self.heads = heads
        inner = channels // heads
        length = 2 * max(size[1] // query_stride, size[1] // key_stride) - 1
        self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(torch.zeros(length, inner)),
            nn.Parameter(torch.zeros(length, inner)),
        )
        self.rel_pos_t = nn.Parameter(torch.zeros(2 * size[0] - 1, inner))
        self.qkv, self.proj = nn.Linear(in_channels, 3 * channels), nn.Linear(channels, channels)
        self.pool_q, self.norm_q = HeadPool(inner, query_stride), nn.LayerNorm(inner, 1e-6)
        self.pool_k, self.norm_k = HeadPool(inner, key_stride), nn.LayerNorm(inner, 1e-6)
        self.pool_v, self.norm_v = HeadPool(inner, key_stride), nn.LayerNorm(inner, 1e-6)
        for table in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_t):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor, size: Triple) -> tuple[Tensor, Triple]:
        q, k, v = self.qkv(x).chunk(3, 2)
        q, of_queries = pooled(q, self.pool_q, size)
        k, of_keys = pooled(k, self.pool_k, size)
        v, _ = pooled(v, self.pool_v, size)
        q, k, v = (
            norm(x.unflatten(2, (self.heads, -1)))
            for norm, x in ((self.norm_q, q), (self.norm_k, k), (self.norm_v, v))
        )
        out = self._attend(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), of_queries, of_keys
        ).transpose(1, 2)
        # the pooled queries are added, but for the class token
        out = torch.cat([out[:, :1], out[:, 1:] + q[:, 1:]], 1)
        return self.proj(out.flatten(2)), of_queries

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, of_queries: Triple, of_keys: Triple
    ) -> Tensor:
        """Softmax(q k / root + biases) v of (B, heads, N, C); the biases are a sum over the three
        axes, and none for the class token.
        """
        places = q[:, :, 1:].unflatten(2, of_queries)
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        along = []
        for axis, table, queries, keys in zip("thw", tables, of_queries, of_keys, strict=True):
            rows = distances(table, queries, keys)
            # else all biases lie in einsum's order
            found = torch.einsum(f"bnthwc,{axis}kc->bnthwk", places, rows).contiguous()
            along.append(F.pad(found.flatten(2, 4), (0, 0, 1, 0)))
        over_image = along[1][..., :, None] + along[2][..., None, :]
        biases = (along[0][..., None, None] + over_image[..., None, :, :]).flatten(3)
        biases = torch.cat([biases.new_zeros(*biases.shape[:3], 1), biases], 3)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=biases)


class HeadPool(nn.Conv3d):
    """A channel-wise 3x3x3 convolution that is the same for all heads, which stand side by side in
    the channels: (B, heads * C, T, H, W) -> (B, heads * C, T, H / stride, W / stride).
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 3, (1, stride, stride), 1, groups=channels, bias=False)
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, maps: Tensor) -> Tensor:
        channels = maps.shape[1]
        return conv3d(
            maps,
            self.weight.repeat(channels // self.groups, 1, 1, 1, 1),
            None,
            self.stride,
            (1, 1, 1),
            1,
            channels,
        )


class Network(Mlp):
    """A two-layer network that may change the number of channels."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(in_channels, 4 * in_channels)
        if channels != in_channels:
            self.fc2 = nn.Linear(4 * in_channels, channels)


class PooledBlock(nn.Module):
    """Pooled attention and a two-layer network; what is added to them is pooled and widened in
    step.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        heads: int,
        stride: int,
        key_stride: int,
        size: Triple,
        widen_early: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.widen_early = widen_early
        inner = in_channels if widen_early else channels
        self.norm1 = nn.LayerNorm(in_channels, 1e-6)
        self.attn = PooledAttention(in_channels, inner, heads, stride, key_stride, size)
        self.norm2, self.mlp = nn.LayerNorm(inner, 1e-6), Network(inner, channels)
        self.proj = nn.Linear(in_channels, channels) if in_channels != channels else None
        self.pool = StemPool() if stride == 2 else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: Triple) -> tuple[Tensor, Triple]:
        normed = self.norm1(x)
        attended, new = self.attn(normed, size)
        if self.proj is not None and not self.widen_early:
            x = self.proj(normed)
        if self.pool is not None:
            x, _ = pooled(x, self.pool, size)
        x = x + self.drop_path(attended)
        normed = self.norm2(x)
        if self.proj is not None and self.widen_early:
            x = self.proj(normed)
        return x + self.drop_path(self.mlp(normed)), new


class MViT(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, sides from 32 -> logits (B, classes). The class token
    is classified.

    `idle` are parameters of the published models that cannot reach the answer: the last block's
    biases and pooling of queries are for places alone.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, heads, stride = config.width, config.heads, config.key_stride
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.embed = Conv3d(3, width, (3, 7, 7), PATCH_STRIDE, (1, 3, 3))
        size = ((config.num_frames + 1) // 2, (config.size + 3) // 4, (config.size + 3) // 4)
        blocks = []
        for index, rate in enumerate(drop_rates(config.drop_path, config.depth)):
            halving = index in config.halvings
            heads, stride = (2 * heads, max(stride // 2, 1)) if halving else (heads, stride)
            widens = index + 1 in config.halvings if config.widen_early else halving
            channels = 2 * width if widens else width
            blocks.append(
                PooledBlock(
                    width,
                    channels,
                    heads,
                    2 if halving else 1,
                    stride,
                    size,
                    config.widen_early,
                    rate,
                )
            )
            size = (size[0], size[1] // 2, size[2] // 2) if halving else size
            width = channels
        self.blocks = nn.ModuleList(blocks)
        last = f"blocks.{config.depth - 1}.attn"
        self.idle = (f"{last}.rel_pos_", f"{last}.pool_q.")
        self.norm = nn.LayerNorm(width, 1e-6)
        init_linear(self, config.init_std)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(width, config.num_classes, 0.02)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): the class token. Features of several views may be averaged."""
        require_clip("mvit", clip)
        maps = self.embed(channels_last(clip))
        size: Triple = (maps.shape[2], maps.shape[3], maps.shape[4])
        x = torch.cat(
            [self.first.expand(maps.shape[0], -1, -1), maps.flatten(2).transpose(1, 2)], 1
        )
        for block in self.blocks:
            x, size = block(x, size)
        return self.norm(x[:, 0])

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            "mvit", features, (None, self.fc.in_features), f"(B, {self.fc.in_features})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> MViT:
    """An MViTv2 with fresh weights."""
    return MViT(config)
