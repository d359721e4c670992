"""Attention within a window along time, linear in the length in time and memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# queries that share one block of keys: larger wastes products outside the window, smaller has more
# overlap
_CHUNK = 32
_AT_A_TIME = 32
MASKED = -1e4  # added to the score of a key that is padding


def window_bias(valid: Tensor, reach: int) -> Tensor:
    """What `local_attention` adds to its scores.

    Args:
        valid: (B, T) bool, False at padding.
        reach: points that a query sees on each side.

    Returns:
        (B, chunks, 1, chunk, chunk + 2 reach): 0; -inf outside the window and the sequence;
        `MASKED` at keys that are not valid.
    """
    chunk, chunks = _layout(valid.shape[1], reach)
    scores = torch.where(valid, 0.0, MASKED)
    scores = F.pad(scores, (reach, chunks * chunk - valid.shape[1] + reach), value=-torch.inf)
    blocks = scores.unfold(1, chunk + 2 * reach, chunk)[:, :, None, None]
    ahead = (
        torch.arange(chunk + 2 * reach, device=valid.device)
        - torch.arange(chunk, device=valid.device)[:, None]
    )
    bias = torch.where((ahead >= 0) & (ahead <= 2 * reach), blocks, -torch.inf)
    # A query behind the end of the sequence sees itself, so that no row is without a key: its
    # softmax and gradient stay finite.
    return torch.where((ahead == reach) & (blocks == -torch.inf), 0.0, bias)


def local_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, heads: int, reach: int
) -> Tensor:
    """Softmax attention over a window along the sequence.

    Every chunk of queries meets one block of keys, its own and `reach` more at each end. Without
    gradients the chunks go a few at a time, so that the overlapping blocks are never all in memory.

    Args:
        query: (B, T, C), C a multiple of the heads.
        key: (B, T, C).
        value: (B, T, C).
        bias: `window_bias` of the same length and reach.
        heads: how many look side by side, at C / heads channels each.
        reach: points that a query sees on each side.

    Returns:
        (B, T, C).
    """
    length = query.shape[1]
    chunk, chunks = _layout(length, reach)
    if torch.is_grad_enabled() or chunks <= _AT_A_TIME or torch.compiler.is_compiling():
        return _some_chunks(query, key, value, bias, heads, reach, 0)
    out = torch.empty_like(query)
    for at in range(0, chunks, _AT_A_TIME):
        here = slice(at * chunk, (at + _AT_A_TIME) * chunk)
        out[:, here] = _some_chunks(
            query[:, here], key, value, bias[:, at : at + _AT_A_TIME], heads, reach, at * chunk
        )
    return out


def _some_chunks(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, heads: int, reach: int, start: int
) -> Tensor:
    """The queries stand at `start` in the keys' sequence; as many chunks as `bias` has."""
    chunk, chunks, length = bias.shape[3], bias.shape[1], query.shape[1]
    rest = chunks * chunk - length
    query = F.pad(query, (0, 0, 0, rest)) if rest else query
    query = (
        query.unflatten(1, (chunks, chunk)).flatten(0, 1).unflatten(2, (heads, -1)).transpose(1, 2)
    )
    key, value = (_blocks(x, start, chunk, chunks, heads, reach) for x in (key, value))
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=bias.flatten(0, 1).to(query.dtype)
    )
    return out.transpose(1, 2).flatten(2).unflatten(0, (-1, chunks)).flatten(1, 2)[:, :length]


def _layout(length: int, reach: int) -> tuple[int, int]:
    chunk = max(_CHUNK, reach)
    return chunk, -(-length // chunk)


def _blocks(x: Tensor, start: int, chunk: int, chunks: int, heads: int, reach: int) -> Tensor:
    """(B, T, C) from `start` on -> (B * chunks, heads, chunk + 2 reach, C / heads), overlapping."""
    if torch.is_grad_enabled():  # copies, since the gradient of overlapping views is slow
        own = F.pad(x, (0, 0, 0, chunks * chunk - x.shape[1])).unflatten(1, (chunks, chunk))
        left = F.pad(own[:, :-1, chunk - reach :], (0, 0, 0, 0, 1, 0))
        right = F.pad(own[:, 1:, :reach], (0, 0, 0, 0, 0, 1))
        return (
            torch.cat([left, own, right], 2).flatten(0, 1).unflatten(2, (heads, -1)).transpose(1, 2)
        )
    first, last = start - reach, start + chunks * chunk + reach
    x = F.pad(x[:, max(first, 0) : last], (0, 0, max(-first, 0), max(last - x.shape[1], 0)))
    return (
        x.unfold(1, chunk + 2 * reach, chunk)
        .unflatten(2, (heads, -1))
        .permute(0, 1, 2, 4, 3)
        .flatten(0, 1)
    )
