"""Layers of a sequence network, on (B, T, C): time second and channels last, so that every product is one over contiguous rows.

Parameters have the shapes of their (B, C, T) forms, (O, I, k) and (1, C, 1), as published checkpoints hold them.
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
    """Each channel's own three taps, without bias; (B, T, C) -> (B, T / stride, C), T a multiple of the stride."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # As an image of one row: channels-last kernels exist for two dimensions only.
        image = x.unsqueeze(1).permute(0, 3, 1, 2)
        out = F.conv2d(image, self.weight.unsqueeze(2), stride=(1, self.stride[0]), padding=(0, 1), groups=self.groups)
        return out.squeeze(2).transpose(1, 2)


class Conv3(nn.Conv1d):
    """Three taps over all channels at stride 1 with zeros at both ends; (B, T, I) -> (B, T, O)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return conv3(x, self.weight, self.bias)


def conv3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(B, T, I) with a weight (O, I, 3) -> (B, T, O); zeros stand before and after."""
    if not _plain(x, weight):
        return F.conv1d(x.transpose(1, 2), weight, bias, padding=1).transpose(1, 2)
    if weight.shape[0] < 128:  # few outputs: one product with the three taps side by side, then a sum of shifted rows
        taps = F.linear(x, weight.permute(2, 0, 1).flatten(0, 1)).unflatten(-1, (3, -1))
        out = taps[:, :, 1] + F.pad(taps[:, :-1, 0], (0, 0, 1, 0)) + F.pad(taps[:, 1:, 2], (0, 0, 0, 1))
    else:
        out = _Winograd.apply(x, weight)
    return out if bias is None else out + bias


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Single precision on the CPU, where products cost more than passes over memory. Exported programs keep the convolution."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


class _Winograd(torch.autograd.Function):
    """Two outputs of a three-tap filter by four products instead of six (Winograd, 1980; Lavin and Gray, CVPR 2016: F(2, 3)).

    Errors stay at a few units in the last place of a direct sum: the transforms are additions alone, with factors of 1/2 on the weights.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        length = x.shape[1]
        spread = _spread(x)
        products = torch.bmm(spread.flatten(1, 2), _filters(weight).transpose(1, 2)).unflatten(1, spread.shape[1:3])
        del spread
        out = x.new_empty(*products.shape[1:3], 2, weight.shape[0])
        torch.add(products[0], products[1], out=out[:, :, 0]).add_(products[2])
        torch.sub(products[1], products[2], out=out[:, :, 1]).sub_(products[3])
        out = out.flatten(1, 2)
        return out if out.shape[1] == length else out[:, :length].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        even, odd = _pairs(grad)
        products = grad.new_empty(4, *even.shape)
        products[0].copy_(even)
        torch.add(even, odd, out=products[1])
        torch.sub(even, odd, out=products[2])
        torch.neg(odd, out=products[3])
        flat = products.flatten(1, 2)
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = _to_taps(torch.bmm(flat.transpose(1, 2), _spread(x).flatten(1, 2)))
        if ctx.needs_input_grad[0]:
            to_x = _gathered(torch.bmm(flat, _filters(weight)).unflatten(1, even.shape[:2]), x.shape[1])
        return to_x, to_weight


def _pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, C) -> its even and its odd points, (B, ceil(T / 2), C) each."""
    if x.shape[1] % 2:
        x = F.pad(x, (0, 0, 0, 1))
    return x[:, 0::2], x[:, 1::2]


def _spread(x: Tensor) -> Tensor:
    """(B, T, C) -> (4, B, ceil(T / 2), C): the four points around a pair, in the differences and sums that the filters multiply."""
    even, odd = _pairs(x)
    out = x.new_empty(4, *even.shape)
    torch.sub(odd[:, :-1], odd[:, 1:], out=out[0, :, 1:])
    torch.neg(odd[:, :1], out=out[0, :, :1])
    torch.add(even, odd, out=out[1])
    torch.sub(odd, even, out=out[2])
    torch.sub(even[:, :-1], even[:, 1:], out=out[3, :, :-1])
    out[3, :, -1:].copy_(even[:, -1:])
    return out


def _gathered(spread: Tensor, length: int) -> Tensor:
    """The transpose of `_spread`."""
    out = spread.new_empty(*spread.shape[1:3], 2, spread.shape[3])
    even, odd = out[:, :, 0], out[:, :, 1]
    torch.sub(spread[1], spread[2], out=even).add_(spread[3])
    even[:, 1:].sub_(spread[3, :, :-1])
    torch.add(spread[1], spread[2], out=odd).sub_(spread[0])
    odd[:, :-1].add_(spread[0, :, 1:])
    return out.flatten(1, 2)[:, :length]


_TAPS_TO_FILTERS = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])


def _filters(weight: Tensor) -> Tensor:
    """(O, I, 3) -> (4, O, I)."""
    return (_TAPS_TO_FILTERS @ weight.flatten(0, 1).t()).unflatten(1, weight.shape[:2])


def _to_taps(filters: Tensor) -> Tensor:
    """The transpose of `_filters`."""
    return (filters.flatten(1).t() @ _TAPS_TO_FILTERS).unflatten(0, filters.shape[1:])
