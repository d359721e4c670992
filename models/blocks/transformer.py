"""Encoder and decoder layers of a transformer over image features, as DETR has them (Carion et al.,
ECCV 2020). Tokens are (B, N, C).

Positions are added to queries and keys in every layer, never to values.
"""

from __future__ import annotations

import itertools
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.attention import Attention


class Layer(nn.Module):
    """What both kinds share: self-attention and a two-layer network with ReLU. `pre_norm`
    normalises a branch's input, else its sum.
    """

    def __init__(
        self, channels: int, heads: int, hidden: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = Attention(channels, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def attend_self(
        self, x: Tensor, positions: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        normed = self.norm1(x) if self.pre_norm else x
        placed = normed if positions is None else normed + positions
        x = x + self.dropout(self.self_attn(placed, placed, normed, bias))
        return x if self.pre_norm else self.norm1(x)

    def transform(self, x: Tensor, norm: nn.Module) -> Tensor:
        hidden = self.dropout(F.relu_(self.linear1(norm(x) if self.pre_norm else x)))
        x = x + self.dropout(self.linear2(hidden))
        return x if self.pre_norm else norm(x)


class EncoderLayer(Layer):
    """Tokens look at each other."""

    def forward(self, x: Tensor, positions: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Looks at the other tokens.

        Args:
            x: (B, N, C).
            positions: broadcasts to x, or None for none.
            bias: (B, 1, 1, N), -inf at keys that are padding; None where none is.
        """
        return self.transform(self.attend_self(x, positions, bias), self.norm2)


class DecoderLayer(Layer):
    """Queries look at each other, then at a memory."""

    def __init__(
        self, channels: int, heads: int, hidden: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__(channels, heads, hidden, dropout, pre_norm)
        self.multihead_attn = Attention(channels, heads, dropout)
        self.norm3 = nn.LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        positions: Tensor | None,
        memory: Tensor,
        keys: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Looks at the other queries and at the memory.

        Args:
            x: (B, Q, C).
            positions: broadcasts to x, or None for none.
            memory: (B, N, C).
            keys: the memory with its own positions.
            bias: (B, 1, 1, N), -inf at keys that are padding; None where none is.
        """
        x = self.attend_self(x, positions)
        normed = self.norm2(x) if self.pre_norm else x
        placed = normed if positions is None else normed + positions
        x = x + self.dropout(self.multihead_attn(placed, keys, memory, bias))
        return self.transform(x if self.pre_norm else self.norm2(x), self.norm3)


class Encoder(nn.Module):
    """A stack of encoder layers, with a last normalisation where the layers normalise their inputs.

    Args:
        layers: how many.
        channels: C of the tokens.
        heads: of each layer's attention.
        hidden: width of each layer's two-layer network.
        dropout: rate in training, of attention's weights too.
        pre_norm: normalises a branch's input, else its sum.
    """

    def __init__(
        self,
        layers: int,
        channels: int,
        heads: int,
        hidden: int,
        dropout: float,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [EncoderLayer(channels, heads, hidden, dropout, pre_norm) for _ in range(layers)]
        )
        self.norm = nn.LayerNorm(channels) if pre_norm else nn.Identity()
        spread(self)

    def forward(self, x: Tensor, positions: Tensor, bias: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, positions, bias)
        return self.norm(x)


class Decoder(nn.Module):
    """A stack of decoder layers and the normalisation that each layer's answer goes through; what
    runs between them is the family's.

    Args:
        layers: how many.
        channels: C of the tokens.
        heads: of each layer's attention.
        hidden: width of each layer's two-layer network.
        dropout: rate in training, of attention's weights too.
        pre_norm: normalises a branch's input, else its sum.
    """

    def __init__(
        self,
        layers: int,
        channels: int,
        heads: int,
        hidden: int,
        dropout: float,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [DecoderLayer(channels, heads, hidden, dropout, pre_norm) for _ in range(layers)]
        )
        self.norm = nn.LayerNorm(channels)
        spread(self)


class MLP(nn.Module):
    """Linear layers with ReLU between them. (..., C) -> (..., out).

    Args:
        channels: C.
        hidden: channels between the layers.
        out: channels of the answer.
        layers: how many, from 1.
    """

    def __init__(self, channels: int, hidden: int, out: int, layers: int) -> None:
        super().__init__()
        sizes = [channels] + [hidden] * (layers - 1) + [out]
        self.layers = nn.ModuleList(
            [nn.Linear(size, after) for size, after in itertools.pairwise(sizes)]
        )

    def last(self) -> nn.Linear:
        """The layer that answers."""
        return cast(nn.Linear, self.layers[-1])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu_(layer(x))
        return self.layers[-1](x)


def spread(module: nn.Module) -> None:
    """Xavier's uniform weights in every matrix."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
