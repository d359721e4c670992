"""Key-frame-centric token pruning (Chen et al., ICCV 2023): other frames' tokens that few queries
look at are dropped between blocks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.blocks.drop import DropPath
from models.blocks.vit import Mlp, SelfAttention, attend, sine_positions

# Attention weights that are held at once where they are made for scoring: 16 MiB of float32 on a
# CPU, more where memory is fast.
_WEIGHTS_AT_ONCE = {"cpu": 1 << 22}
_WEIGHTS_AT_ONCE_ELSEWHERE = 1 << 28


class Pruned(NamedTuple):
    """What a pruning block leaves."""

    # (B, key tokens + kept, C): the key frame's first, then the kept ones by falling score
    tokens: Tensor
    # (B, kept) int64: numbers of the kept tokens among all tokens outside the key frame, in time
    # order
    kept: Tensor
    # (B, tokens before less key tokens) float32: importance of every token that could have been
    # dropped
    scores: Tensor


def num_kept(tokens: int, key_tokens: int, keep_rate: float) -> int:
    """How many of the tokens outside the key frame stay.

    Args:
        tokens: how many are there, the key frame's among them.
        key_tokens: the key frame's, which all stay.
        keep_rate: share of all of them that stays, rounded up.

    >>> num_kept(100, 20, 0.5)
    30
    """
    return max(math.ceil(keep_rate * tokens) - key_tokens, 0)


class ScoringAttention(SelfAttention):
    """Self-attention, biases as VideoMAE's, that also says how much the tokens are looked at.

    The choice of tokens has no gradient, so the scores need none: with gradients on, outputs come
    from `scaled_dot_product_attention` and weights are made a second time, piece by piece; without,
    outputs and scores share them.

    Args:
        channels: C of the tokens.
        heads: of the attention.
        key_weight: how many times the key frame's queries count in the scores.
    """

    def __init__(self, channels: int, heads: int, key_weight: float) -> None:
        super().__init__(channels, heads, "qv")
        self.key_weight = key_weight

    def forward(self, x: Tensor, key_tokens: int | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Attends, and scores the tokens that can be dropped.

        A token's score is its attention weight, averaged over heads and queries, the key frame's
        queries counted `key_weight` times.

        Args:
            x: (B, N, C), the key frame's tokens first.
            key_tokens: how many those are; None is none.

        Returns:
            Outputs (B, N, C) and scores float32 (B, N - key_tokens).
        """
        key_tokens = key_tokens or 0
        qkv = self.project(x)
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if not (torch.is_grad_enabled() and qkv.requires_grad):
            attended, scores = self._looks(q, k, v, key_tokens)
            return self.proj(attended.transpose(1, 2).flatten(2)), scores
        out = self.proj(attend(qkv, self.heads))
        with torch.no_grad():
            return out, self._looks(q, k, None, key_tokens)[1]

    def _looks(
        self, q: Tensor, k: Tensor, v: Tensor | None, key_tokens: int
    ) -> tuple[Tensor, Tensor]:
        """Attention of (B, heads, N, D) in pieces of the queries, so that not all weights exist at
        once; outputs only with values.
        """
        batch, heads, tokens, size = q.shape
        weights = _WEIGHTS_AT_ONCE.get(q.device.type, _WEIGHTS_AT_ONCE_ELSEWHERE)
        step = max(weights // (batch * heads * tokens), 1)
        scores = torch.zeros(
            batch, tokens, dtype=torch.promote_types(q.dtype, torch.float32), device=q.device
        )
        keys, pieces = k.transpose(2, 3), []
        for first, last, weight in ((0, key_tokens, self.key_weight), (key_tokens, tokens, 1.0)):
            for start in range(first, last, step):
                looks = ((q[:, :, start : min(start + step, last)] * size**-0.5) @ keys).softmax(-1)
                scores += weight * looks.sum(2, dtype=scores.dtype).sum(1)
                if v is not None:
                    pieces.append(looks.to(v.dtype) @ v)
        return torch.cat(pieces, 2) if pieces else q, scores[:, key_tokens:] / (heads * tokens)


class PruningBlock(nn.Module):
    """A block of a Vision Transformer that drops tokens between its attention and its two-layer
    network.

    Args:
        channels: C of the tokens.
        heads: of the attention.
        keep_rate: share of all tokens present, the key frame's among them, that stays; the key
            frame's all do.
        key_weight: how many times the key frame's queries count in the scores.
        drop_path: rate at which a branch is dropped in training.
        eps: of the normalisations.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        keep_rate: float,
        key_weight: float,
        drop_path: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.keep_rate = keep_rate
        self.norm1, self.attn = (
            nn.LayerNorm(channels, eps),
            ScoringAttention(channels, heads, key_weight),
        )
        self.norm2, self.mlp = nn.LayerNorm(channels, eps), Mlp(channels, 4 * channels)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, kept: Tensor, key_tokens: int, save_memory: bool = False
    ) -> Pruned:
        """Attends, drops tokens and transforms the rest.

        Args:
            x: (B, N, C), the key frame's tokens first.
            kept: (B, N - key_tokens) int64, numbers of the others among all tokens outside the key
                frame.
            key_tokens: how many tokens the key frame has.
            save_memory: computes both halves again in the backward pass; the choice of tokens lies
                between them and is made once.
        """
        run = recompute if save_memory else _now
        x, scores = run(self._attend, x, key_tokens)
        chosen = scores.topk(num_kept(x.shape[1], key_tokens, self.keep_rate), 1).indices
        others = x[:, key_tokens:].gather(1, chosen[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :key_tokens], others], 1)
        return Pruned(run(self._transform, x), kept.gather(1, chosen), scores)

    def _attend(self, x: Tensor, key_tokens: int) -> tuple[Tensor, Tensor]:
        attended, scores = self.attn(self.norm1(x), key_tokens)
        return x + self.drop_path(attended), scores

    def _transform(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mlp(self.norm2(x)))


def recompute(part: Callable[..., Any], *args: object) -> Any:
    """`part(*args)`, whose inner results are made again in the backward pass instead of being
    kept.
    """
    return checkpoint(part, *args, use_reentrant=False)


def _now(part: Callable[..., Any], *args: object) -> Any:
    return part(*args)


def positions(slots: int, side: int, height: int, width: int, like: Tensor) -> Tensor:
    """VideoMAE's fixed positions.

    They are sines over slots * side * side places, resized bicubically in each time slot. Where the
    number of places is the same already they stay as they are, also for another shape: published
    models are trained so.

    Args:
        slots: places along time.
        side: patches along a side of the pre-training's square images.
        height: patches of the clip from top to bottom.
        width: patches of the clip from left to right.
        like: (..., C), whose device and type the positions have.

    Returns:
        (1, slots * height * width, C).
    """
    # what is made in tracing is no tensor to keep
    make = _positions if type(like) is Tensor else _positions.__wrapped__
    return make(slots, side, height, width, like.shape[-1], like.device, like.dtype)


@functools.lru_cache(maxsize=16)
def _positions(
    slots: int,
    side: int,
    height: int,
    width: int,
    channels: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        table = sine_positions(slots * side**2, channels)
        if side**2 != height * width:
            maps = table.reshape(slots, side, side, channels).permute(0, 3, 1, 2)
            maps = F.interpolate(maps, size=(height, width), mode="bicubic", align_corners=False)
            table = maps.permute(0, 2, 3, 1).reshape(1, -1, channels)
        return table.to(device, dtype)
