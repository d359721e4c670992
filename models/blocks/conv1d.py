"""Layers of a sequence network, on (B, T, C): time second and channels last, so that every product
is one over contiguous rows.

Parameters have the shapes of their (B, C, T) forms, (O, I, k) and (1, C, 1), as published
checkpoints hold them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, T, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight.flatten(), self.bias.flatten())


class Pointwise(nn.Conv1d):
    """A linear map of every point, (B, T, I) -> (B, T, O)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.squeeze(-1), self.bias)


class Depthwise(nn.Conv1d):
    """Each channel's own three taps, without bias; (B, T, C) -> (B, T / stride, C), T a multiple of
    the stride.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        # As an image of one row: channels-last kernels exist for two dimensions only.
        image = x.unsqueeze(1).permute(0, 3, 1, 2)
        out = F.conv2d(
            image,
            self.weight.unsqueeze(2),
            stride=(1, self.stride[0]),
            padding=(0, 1),
            groups=self.groups,
        )
        return out.squeeze(2).transpose(1, 2)


class Conv3(nn.Conv1d):
    """Three taps over all channels at stride 1 with zeros at both ends; (B, T, I) -> (B, T, O)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return conv3(x, self.weight, self.bias)


def conv3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Three taps at stride 1; zeros stand before and after.

    Args:
        x: (B, T, I).
        weight: (O, I, 3).
        bias: (O,), or None for none.

    Returns:
        (B, T, O).
    """
    if not _plain(x, weight):
        return F.conv1d(x.transpose(1, 2), weight, bias, padding=1).transpose(1, 2)
    # few outputs: one product with the three taps side by side, then a sum of shifted rows
    if weight.shape[0] < 128:
        taps = F.linear(x, weight.permute(2, 0, 1).flatten(0, 1)).unflatten(-1, (3, -1))
        out = (
            taps[:, :, 1]
            + F.pad(taps[:, :-1, 0], (0, 0, 1, 0))
            + F.pad(taps[:, 1:, 2], (0, 0, 0, 1))
        )
    else:
        out = _Winograd.apply(x, weight)
    return out if bias is None else out + bias


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Single precision on the CPU, where products cost more than passes over memory. Exported
    programs keep the convolution.
    """
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


class _Winograd(torch.autograd.Function):
    """Four outputs of a three-tap filter by six products instead of twelve (Winograd, 1980; Lavin
    and Gray, CVPR 2016: F(4, 3)).

    Inputs and taps are transformed by small matrices, multiplied, and the products transformed into
    outputs; gradients go the same way back. Rounding errors stay at four times those of a direct
    sum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _filtered(x, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        to_x = _filtered(grad, weight.transpose(0, 1).flip(2)) if ctx.needs_input_grad[0] else None
        return to_x, _weight_gradient(x, grad) if ctx.needs_input_grad[1] else None


def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """What transforms six inputs, (6, 6), three taps, (6, 3), and six products into four outputs,
    (4, 6).

    Polynomials are multiplied by way of their values at six points, one of them infinity (Toom and
    Cook); a filter is the transpose of that. Points near 1 in size keep rounding errors small.
    """
    points = torch.tensor([0, 0.75, -0.75, 1.5, -1.5], dtype=torch.float64)
    values = [F.pad(points[:, None] ** torch.arange(size), (0, 0, 0, 1)) for size in (6, 3, 4)]
    for powers in values:
        powers[-1, -1] = 1  # at infinity the highest power alone counts
    inputs, taps, outputs = values
    return inputs.inverse().t().float(), taps.float(), outputs.t().float()


_INPUTS, _TAPS, _OUTPUTS = _matrices()
# at a time: what stands between the transforms is small, and read again before it leaves the cache
_WINDOWS = 384


def _filtered(x: Tensor, weight: Tensor) -> Tensor:
    """(B, T, I) with (O, I, 3) -> (B, T, O)."""
    batch, length, _ = x.shape
    filters = (_TAPS @ weight.flatten(0, 1).t()).unflatten(1, weight.shape[:2]).transpose(1, 2)
    sequence = _sequence(x)
    out = x.new_empty(len(sequence) - 2, weight.shape[0])
    for inputs, outputs in zip(
        _windows(sequence), out.unflatten(0, (-1, 4)).split(_WINDOWS), strict=True
    ):
        products = torch.bmm(_transformed(_INPUTS, inputs).transpose(0, 1), filters)
        _transformed(_OUTPUTS, products.transpose(0, 1), out=outputs)
    return out[: batch * (length + 1)].unflatten(0, (batch, length + 1))[:, :length]


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """(B, T, I) and the gradient of (B, T, O) -> (O, I, 3)."""
    filters = x.new_zeros(6, grad.shape[2], x.shape[2])
    outputs = _sequence(grad)[1:-1].unflatten(0, (-1, 4)).split(_WINDOWS)
    for inputs, some in zip(_windows(_sequence(x)), outputs, strict=True):
        filters.baddbmm_(
            _transformed(_OUTPUTS.t(), some).permute(1, 2, 0),
            _transformed(_INPUTS, inputs).transpose(0, 1),
        )
    return (filters.flatten(1).t() @ _TAPS).unflatten(0, filters.shape[1:])


def _sequence(x: Tensor) -> Tensor:
    """(B, T, C) -> (4 N + 2, C), one after the other: a point of zeros before, between, and one or
    more after them.
    """
    batch, length, channels = x.shape
    points = x.new_empty(-(-batch * (length + 1) // 4) * 4 + 2, channels)
    own, rest = points.tensor_split((batch * (length + 1),))
    for into, one in zip(own.unflatten(0, (batch, length + 1)), x, strict=True):
        # a matrix alone is turned block by block, four times faster, where x is a transposed view
        into[0], into[1:] = 0, one
    rest.zero_()
    return points


def _windows(sequence: Tensor) -> tuple[Tensor, ...]:
    """(4 N + 2, C) -> (N, 6, C), some at a time: what four outputs see, in views that overlap by
    two points.
    """
    return sequence.unfold(0, 6, 4).transpose(1, 2).split(_WINDOWS)


def _transformed(matrix: Tensor, windows: Tensor, out: Tensor | None = None) -> Tensor:
    """(P, Q) times each of (N, Q, C) -> (N, P, C)."""
    return torch.bmm(matrix.expand(len(windows), *matrix.shape), windows, out=out)
