"""Convolution, batch normalisation and activation as one named unit, in 2D and 3D, and folding of
frames into the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ints = Sequence[int]

BLOCK = 16
"""Input channels at a time of the widest kernels for CPUs, those of AVX-512; AVX2's take 8."""


class Conv3d(nn.Conv3d):
    """Torch's, by the faster way of `convolved`."""

    def forward(self, x: Tensor) -> Tensor:
        return convolved(self, x, self.weight, self.bias)


class ConvMaker(Protocol):
    """A slot: makes the convolutions of a trunk.

    Args:
        in_channels: C of (N, C, H, W).
        out_channels: C' of what comes.
        kernel: a side of the kernel, odd; the size stays at stride 1.
        stride: along both sides.
        relu: False leaves the activation out.
    """

    def __call__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, relu: bool = True
    ) -> nn.Module: ...


def conv_norm(
    conv: nn.Conv2d | nn.Conv3d, norm: nn.BatchNorm2d | nn.BatchNorm3d, x: Tensor
) -> Tensor:
    """`norm(conv(x))` of a convolution without bias.

    Settled statistics are a scale of the weights and a bias: in evaluation, and where the
    normalisation is frozen in training, no pass over the maps is spent on them, unless the weights
    are more than the maps. Gradients reach the parameters of both.

    Args:
        conv: in 2D or 3D; its bias, if any, is not applied.
        norm: of the same dimensions, with running statistics and a scale and bias.
        x: (N, C, H, W), or (N, C, T, H, W) in 3D.
    """
    if norm.training or _heavy(x, conv.weight, conv.stride, 1):
        return norm(convolved(conv, x, conv.weight, None))
    scale, shift = fold_batchnorm(norm)
    return convolved(conv, x, conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1)), shift)


def norm_conv(norm: nn.BatchNorm3d, conv: nn.Conv3d, x: Tensor) -> Tensor:
    """`conv(norm(x))`, settled statistics as in `conv_norm`.

    Args:
        norm: with running statistics and a scale and bias.
        conv: 1x1x1, with or without a bias.
        x: (N, C, T, H, W).
    """
    if norm.training or _heavy(x, conv.weight, conv.stride, 1):
        return convolved(conv, norm(x), conv.weight, conv.bias)
    scale, shift = fold_batchnorm(norm)
    return convolved(
        conv,
        x,
        conv.weight * scale.view(-1, 1, 1, 1),
        F.linear(shift, conv.weight.flatten(1), conv.bias),
    )


def fold_batchnorm(norm: nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """What a normalisation with settled statistics multiplies its channels by, and what it adds
    then.
    """
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def convolved(
    conv: nn.Conv2d | nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """A convolution with other weights than its own.

    3D kernels that are flat along time or over the image are run as 2D ones, on views of
    channels-last memory: torch has a slow way, with copies of all maps, for 3D convolutions of a
    single clip, and libraries have faster 2D kernels than 3D ones.

    Args:
        conv: says kernel, stride, padding (in numbers) and groups; only kernels over time and image
            together may be dilated.
        x: (N, C, H, W), or (N, C, T, H, W) in 3D.
        weight: in the shape of the convolution's.
        bias: (C',), or None for none.
    """
    assert not isinstance(conv.padding, str)
    if weight.ndim == 4:
        return _convolved2d(x, weight, bias, conv.stride, conv.padding, conv.groups)
    (depth, *area), (step, *steps), (room, *rooms) = conv.kernel_size, conv.stride, conv.padding
    if depth == 1:  # frame by frame, for none of these is padded in time
        frames = x[:, :, ::step].transpose(1, 2)
        out = _convolved2d(frames.flatten(0, 1), weight[:, :, 0], bias, steps, rooms, conv.groups)
        return out.unflatten(0, frames.shape[:2]).transpose(1, 2)
    # over all places at once; flattened as they lie, or torch takes one clip for another layout
    if set(area) == set(steps) == {1}:
        places = x.permute(0, 2, 3, 4, 1).flatten(2, 3).permute(0, 3, 1, 2)
        out = _convolved2d(places, weight[..., 0], bias, (step, 1), (room, 0), conv.groups)
        return out.permute(0, 2, 3, 1).unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)
    return conv3d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _convolved2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, groups: int
) -> Tensor:
    """Torch's, with detours on CPUs.

    On a single thread torch has a slow way for 1x1 convolutions of few samples, unless they are
    dilated; a kernel of one place is the same at any dilation. Where weights are more than maps,
    the maps are put into the weights' order and not the other way round.
    """
    point = weight.shape[2] == weight.shape[3] == 1
    if x.device.type != "cpu" or point or not _heavy(x, weight, stride, 4):
        return conv2d(
            x, weight, bias, stride, padding, 2 if point and x.device.type == "cpu" else 1, groups
        )
    return channels_last(F.conv2d(x.contiguous(), weight, bias, stride, padding, 1, groups))


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints | int,
    groups: int = 1,
) -> Tensor:
    """Torch's, with detours on CPUs where oneDNN's gradients err; `kinograph benchmark kernels`
    looks for such (docs/kernels.md).

    For the weights' gradient of a strided 1x1 convolution over channels-last maps, oneDNN gathers
    the places that count into a buffer, and steps through it by blocks of 8 (AVX2) or 16 (AVX-512)
    channels even where the maps have fewer: it writes past the end, and reads what it has
    overwritten (uxlfoundation/oneDNN#6035, open). Here the places are taken first: the means of
    single places are those places, and their gradient, unlike a slice's, stays in channels-last
    memory. In bfloat16 a dilated kernel's weights get what was never written, where channels do not
    fill the last of several blocks.

    Args:
        x: (N, C, H, W).
        weight: (C', C / groups, height, width).
        bias: (C',), or None for none.
        stride: along height and width.
        padding: at each end of height and width.
        dilation: along height and width, one number for both or two.
        groups: parts of the channels that do not see each other.
    """
    point = weight.shape[2] == weight.shape[3] == 1
    if (
        point
        and groups == 1
        and weight.shape[1] < BLOCK
        and max(stride) > 1
        and not any(padding)
        and x.device.type == "cpu"
    ):
        x, stride = F.avg_pool2d(x, 1, tuple(stride)), (1, 1)
    dilated = not point and (dilation if isinstance(dilation, int) else max(dilation)) > 1
    if dilated and _trains(weight) and _in_bfloat16(x):
        with torch.autocast("cpu", enabled=False):
            x, weight, bias = x.float(), weight.float(), None if bias is None else bias.float()
            return F.conv2d(x, weight, bias, stride, padding, dilation, groups).bfloat16()
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints | int,
    groups: int = 1,
) -> Tensor:
    """Torch's, with detours on CPUs where oneDNN errs in bfloat16: the gradient of the weights is
    wrong where kernels are longer than clips, and with AMX a stride across an output that is one
    place wide gives other outputs (pytorch/pytorch#169688).

    Args:
        x: (N, C, T, H, W).
        weight: (C', C / groups, time, height, width).
        bias: (C',), or None for none.
        stride: along time, height and width.
        padding: at each end of time, height and width.
        dilation: along time, height and width, one number for all or three.
        groups: parts of the channels that do not see each other.
    """
    if _in_bfloat16(x):
        longer = _trains(weight) and weight.shape[2] > x.shape[2]
        narrow = stride[2] > 1 and x.shape[4] + 2 * padding[2] - weight.shape[4] < stride[2]
        if longer or narrow:
            with torch.autocast("cpu", enabled=False):
                x, weight, bias = x.float(), weight.float(), None if bias is None else bias.float()
                return F.conv3d(x, weight, bias, stride, padding, dilation, groups).bfloat16()
    return F.conv3d(x, weight, bias, stride, padding, dilation, groups)


def _trains(weight: Tensor) -> bool:
    return weight.requires_grad and torch.is_grad_enabled()


def _in_bfloat16(x: Tensor) -> bool:
    """Whether a CPU computes a convolution of this in bfloat16."""
    mixed = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.device.type == "cpu" and (mixed or x.dtype == torch.bfloat16)


def _heavy(x: Tensor, weight: Tensor, stride: Ints, times: int) -> bool:
    """Whether a convolution has so many times more weights than values in its output."""
    if torch.compiler.is_compiling():  # a program is for any number of clips
        return False
    return times * (x.numel() // x.shape[1] // math.prod(stride)) < weight[0].numel()


class ConvNorm(nn.Module):
    """Conv2d without bias, BatchNorm2d and ReLU. (N, C, H, W) -> (N, C', H / stride, W / stride).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: a side of the kernel, odd; padded by half of it.
        stride: along both sides.
        relu: False leaves the ReLU out.
        groups: parts of the channels that do not see each other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        relu: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=kernel // 2,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = conv_norm(self.conv, self.bn, x)
        # In place: batch normalisation keeps its input, not its output, for the backward pass.
        return F.relu_(x) if self.relu else x


Triple = tuple[int, int, int]
ONCE: Triple = (1, 1, 1)


class ConvMaker3d(Protocol):
    """A slot: makes the convolutions of a 3D trunk.

    Args:
        in_channels: C of (N, C, T, H, W).
        out_channels: C' of what comes.
        kernel: (time, height, width), odd; the size stays at stride 1.
        stride: (time, height, width).
        relu: False leaves the activation out.
    """

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        stride: Triple = ONCE,
        relu: bool = True,
    ) -> nn.Module: ...


class ConvNorm3d(nn.Module):
    """Conv3d without bias, BatchNorm3d and ReLU. (N, C, T, H, W) -> (N, C', T / s_t, H / s, W / s).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: (time, height, width), odd; padded by half of each.
        stride: (time, height, width).
        relu: False leaves the ReLU out.
        groups: parts of the channels that do not see each other.
        eps: added to the normalisation's variances.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        stride: Triple = ONCE,
        relu: bool = True,
        groups: int = 1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm3d(out_channels, eps)
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = conv_norm(self.conv, self.bn, x)
        return F.relu_(x) if self.relu else x


def channels_last(maps: Tensor) -> Tensor:
    """Clips (B, C, T, H, W) or frames (N, C, H, W), the same values in channels-last memory, which
    convolutions, above all channel-wise ones, are fastest on.

    What already lies so in memory, as decoded frames do, is not copied.
    """
    return maps.contiguous(
        memory_format=torch.channels_last if maps.ndim == 4 else torch.channels_last_3d
    )


def as_maps(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """Tokens as maps in channels-last memory, a view.

    In this order: transposed first, a single clip has strides that torch does not take for
    channels-last ones.

    Args:
        tokens: (B, T * H * W, C).
        size: T, H, W.

    Returns:
        (B, C, T, H, W).
    """
    return tokens.unflatten(1, size).permute(0, 4, 1, 2, 3)


def fold_frames(clip: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B*T, C, H, W), frames of a clip in order, in channels-last memory.

    Channels-last keeps every convolution of a 2D trunk free of layout changes. A clip that already
    lies as (B, T, H, W, C) in memory, as decoded frames do, is folded without a copy.
    """
    return channels_last(clip.permute(0, 2, 3, 4, 1).flatten(0, 1).permute(0, 3, 1, 2))
