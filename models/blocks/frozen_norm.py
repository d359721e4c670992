"""Convolutions whose batch normalisation never moves, as detectors use that start from a trained
image network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import conv2d

EPS = 1e-5


class FrozenNorm(nn.Module):
    """The statistics, scale and bias of a batch normalisation as buffers: nothing trains them.
    Applied by `FrozenConvNorm`.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def line(self) -> tuple[Tensor, Tensor]:
        """Scale and bias (C,) each, of the straight line that this is."""
        scale = self.weight * (self.running_var + EPS).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        scale, bias = self.line()
        return x * scale[:, None, None] + bias[:, None, None]


class FrozenConvNorm(nn.Module):
    """Conv2d without bias, FrozenNorm and ReLU. (N, C, H, W) -> (N, C', H / stride, W / stride).

    Without gradients the normalisation goes into the kernel and its bias at each call: the maps are
    walked over once, not three times. With them it is applied in place, in the order of the
    published implementations: ReLU cuts at zero, and another rounding there moves single gradients
    by far more than a rounding.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: a side of the kernel, odd; padded so that the size stays at stride 1.
        stride: along both sides.
        relu: False leaves the ReLU out.
        dilation: cells from one place of the kernel to the next.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        relu: bool = True,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, dilation, bias=False
        )
        self.bn = FrozenNorm(out_channels)
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        conv, (scale, bias) = self.conv, self.bn.line()
        assert not isinstance(conv.padding, str)
        if torch.is_grad_enabled():
            x = conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation)
            x = x.mul_(scale[:, None, None]).add_(bias[:, None, None])
        else:
            x = conv2d(
                x,
                conv.weight * scale[:, None, None, None],
                bias,
                conv.stride,
                conv.padding,
                conv.dilation,
            )
        return F.relu_(x) if self.relu else x
