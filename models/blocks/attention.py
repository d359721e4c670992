"""Attention with separate inputs for queries, keys and values (Vaswani et al., NeurIPS 2017).
Tokens are (B, N, C).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention, its three input projections one tensor in the order queries, keys,
    values.

    Args:
        channels: C, a multiple of the heads.
        heads: how many look side by side, at C / heads channels each.
        dropout: share of the attention's weights that is dropped in training.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight, self.in_proj_bias = (
            nn.Parameter(torch.empty(3 * channels, channels)),
            nn.Parameter(torch.zeros(3 * channels)),
        )
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Mixes values by how queries and keys agree.

        Args:
            query: (B, N, C).
            key: (B, M, C); the query itself for self-attention, which then takes one product for
                both.
            value: (B, M, C).
            bias: broadcasts to (B, heads, N, M) and is added to the attention's logits; None adds
                nothing.

        Returns:
            (B, N, C).
        """
        channels = query.shape[-1]
        weight, offset = self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k = F.linear(query, weight[: 2 * channels], offset[: 2 * channels]).chunk(2, -1)
        else:
            q = F.linear(query, weight[:channels], offset[:channels])
            k = F.linear(key, weight[channels : 2 * channels], offset[channels : 2 * channels])
        v = F.linear(value, weight[2 * channels :], offset[2 * channels :])
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        bias = None if bias is None else bias.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, bias, self.dropout if self.training else 0.0)
        return self.out_proj(out.transpose(1, 2).flatten(2))
