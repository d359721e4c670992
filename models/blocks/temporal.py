"""Operations along time on frames that are folded into the batch: tensors are (B*T, C, H, W)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def _shifted(x: Tensor, num_segments: int, fold: int, forward: bool) -> Tensor:
    """`x` with `fold` channels moved one frame earlier and the next `fold` one frame later; the
    other way round if not `forward`.
    """
    out = torch.empty_like(x)
    of, to = x.unflatten(0, (-1, num_segments)), out.unflatten(0, (-1, num_segments))
    first, second = slice(0, fold), slice(fold, 2 * fold)
    from_next, from_last = (first, second) if forward else (second, first)
    to[:, :-1, from_next] = of[:, 1:, from_next]
    to[:, -1, from_next] = 0
    to[:, 1:, from_last] = of[:, :-1, from_last]
    to[:, 0, from_last] = 0
    to[:, :, 2 * fold :] = of[:, :, 2 * fold :]
    return out


class _Shift(torch.autograd.Function):
    """The shift is a partial permutation, so that its gradient is the opposite shift: one pass,
    nothing kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, num_segments: int, fold: int) -> Tensor:
        ctx.num_segments, ctx.fold = num_segments, fold
        return _shifted(x, num_segments, fold, forward=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _shifted(gradients[0], ctx.num_segments, ctx.fold, forward=False), None, None


def temporal_shift(x: Tensor, num_segments: int, shift_div: int) -> Tensor:
    """Moves part of the channels along time; shape and memory layout stay.

    The first C // `shift_div` channels of frame t come from frame t+1 (zero at the last frame), the
    next C // `shift_div` from frame t-1 (zero at the first), the rest stays. Lin et al., ICCV 2019.

    Args:
        x: (B*T, C, H, W).
        num_segments: T, frames of a clip.
        shift_div: one in so many channels is moved each way.
    """
    fold = x.shape[1] // shift_div
    return x if fold == 0 else _Shift.apply(x, num_segments, fold)


class TemporalShift(nn.Module):
    """`temporal_shift` as a module without parameters."""

    def __init__(self, num_segments: int, shift_div: int) -> None:
        super().__init__()
        self.num_segments, self.shift_div = num_segments, shift_div

    def forward(self, x: Tensor) -> Tensor:
        return temporal_shift(x, self.num_segments, self.shift_div)

    def extra_repr(self) -> str:
        return f"num_segments={self.num_segments}, shift_div={self.shift_div}"
