"""Parts of Vision Transformers (Dosovitskiy et al., ICLR 2021). Tokens are (B, N, C)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.drop import DropPath


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Multi-head attention of tokens with themselves.

    Args:
        qkv: (B, N, 3C), their queries, keys and values side by side.
        heads: how many look side by side, at C / heads channels each.

    Returns:
        (B, N, C).
    """
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Joint attention with one projection for queries, keys and values. (B, N, C) -> the same
    shape.

    Args:
        channels: C, a multiple of the heads.
        heads: how many look side by side.
        bias: of the projections: qkv gives all one, qv leaves the keys without (VideoMAE).
    """

    def __init__(self, channels: int, heads: int, bias: str = "qkv") -> None:
        super().__init__()
        self.heads = heads
        if bias == "qv":
            self.q_bias, self.v_bias = (
                nn.Parameter(torch.zeros(channels)),
                nn.Parameter(torch.zeros(channels)),
            )
        self.bias = bias
        self.qkv = nn.Linear(channels, 3 * channels, bias=bias == "qkv")
        self.proj = nn.Linear(channels, channels)

    def project(self, x: Tensor) -> Tensor:
        """(B, N, C) -> queries, keys and values side by side (B, N, 3C)."""
        if self.bias == "qkv":
            return self.qkv(x)
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return F.linear(x, self.qkv.weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attend(self.project(x), self.heads))


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and a two-layer network, each on normalised input and added to it. (B, N, C) -> the
    same shape.

    Args:
        channels: C; the network between is four times as wide.
        heads: of the attention.
        bias: as in `SelfAttention`.
        eps: of the normalisations.
        drop_path: rate at which a branch is dropped in training.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        bias: str = "qkv",
        eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(channels, eps), SelfAttention(channels, heads, bias)
        self.norm2, self.mlp = nn.LayerNorm(channels, eps), Mlp(channels, 4 * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def sine_positions(places: int, channels: int) -> Tensor:
    """Sines of a place in the even channels, cosines in the odd ones.

    Args:
        places: from 0 on.
        channels: C.

    Returns:
        Float32 (1, places, channels), on the CPU.
    """
    channel = torch.arange(channels, dtype=torch.float64, device="cpu")
    angles = torch.arange(places, dtype=torch.float64, device="cpu")[:, None] / 10000 ** (
        2 * (channel // 2) / channels
    )
    table = torch.where(channel % 2 == 0, angles.sin(), angles.cos())
    return table.float()[None]


def init_linear(model: nn.Module, std: float = 0.02) -> None:
    """Truncated normal weights and zero biases in every linear layer."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def drop_rates(last: float, count: int) -> list[float]:
    """Rates of stochastic depth that rise evenly from 0.

    Args:
        last: rate of the last block; where there is one block alone, its rate is 0.
        count: blocks.

    >>> drop_rates(0.5, 3)
    [0.0, 0.25, 0.5]
    """
    return [last * index / max(count - 1, 1) for index in range(count)]


def side(tokens: int) -> int:
    """Side of a square of `tokens` places."""
    return math.isqrt(tokens)
