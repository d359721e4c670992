"""Pooling by maxima, as residual networks and their kin do it.

Torch's own pooling notes where each maximum is, and takes seven times as long for it on a CPU.
Without gradients nobody asks: then the same maxima are taken axis by axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Triple


def _nobody_asks(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
    )


def _pairs(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Every first and every second place along an axis, as many of each. Slices keep the strides by
    which torch knows its layouts.
    """
    stop, before = x.shape[dim] // 2 * 2, (slice(None),) * dim
    return x[(*before, slice(0, stop, 2))], x[(*before, slice(1, stop, 2))]


class StemPool(nn.Module):
    """The largest of 3x3 places, in steps of 2: frames (N, C, H, W), or clips (N, C, T, H, W).

    Args:
        padded: sides are halved and rounded up; without it they are one less than half of an even
            side.
        time_stride: of a clip, the frames from one that stays to the next.
    """

    def __init__(self, padded: bool = True, time_stride: int = 1) -> None:
        super().__init__()
        self.padded, self.time_stride = padded, time_stride

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.time_stride == 1 else x[:, :, :: self.time_stride]
        if _nobody_asks(x) and x.shape[-1] % 2 == x.shape[-2] % 2 == 0 < min(x.shape[-2:]) - 2:
            return self._halved(self._halved(x, x.ndim - 2), x.ndim - 1)
        room = int(self.padded)
        return (
            F.max_pool2d(x, 3, 2, room)
            if x.ndim == 4
            else F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, room, room))
        )

    def _halved(self, x: Tensor, dim: int) -> Tensor:
        """Along one axis of even length, from 4 on."""
        (even, odd), last = _pairs(x, dim), x.shape[dim] // 2 - 1
        if not self.padded:
            out = torch.maximum(even.narrow(dim, 0, last), odd.narrow(dim, 0, last))
            return torch.maximum(out, even.narrow(dim, 1, last), out=out)
        out = torch.maximum(even, odd)
        torch.maximum(
            out.narrow(dim, 1, last), odd.narrow(dim, 0, last), out=out.narrow(dim, 1, last)
        )
        return out


class PairPool(nn.Module):
    """The largest of neighbours along the axes of (N, C, T, H, W) where `kernel` is 2, not 1; a
    last odd place is left out.
    """

    def __init__(self, kernel: Triple) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        if not _nobody_asks(x):
            return F.max_pool3d(x, self.kernel)
        for dim, size in enumerate(self.kernel, start=2):
            if size == 2:
                x = torch.maximum(*_pairs(x, dim))
        return x
