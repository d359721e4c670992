"""An image as a transformer's memory: a trunk's last map, projected, and encoded with positions
(the first half of a DETR).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import ConvMaker, ConvNorm
from models.blocks.frozen_norm import FrozenConvNorm
from models.blocks.positions import positions
from models.blocks.resnet2d import Place, ResNet2d, Slots, three_by_three
from models.blocks.swin import SwinFrames
from models.blocks.transformer import Encoder
from models.config import Checked
from models.errors import ModelInputError

STRIDES: dict[int, tuple[int, int, int, int]] = {
    32: (1, 2, 2, 2),
    16: (1, 2, 2, 1),
    8: (1, 2, 1, 1),
}
"""Pixels per cell of a ResNet's last map -> strides of its stages."""
NORMS: dict[str, ConvMaker] = {"frozen": FrozenConvNorm, "batch": ConvNorm}


class Memory(NamedTuple):
    """tokens, keys: (B, h * w, C), the keys with positions. bias: (B, 1, 1, h * w), -inf at
    padding, or None. size: h, w. maps: the trunk's stages (B, C_s, h_s, w_s). extent: (B, 2) width
    and height of each image without padding, in pixels.
    """

    tokens: Tensor
    keys: Tensor
    bias: Tensor | None
    size: tuple[int, int]
    maps: list[Tensor]
    extent: Tensor


def resnet(depth: int, width: int, norm: str, stride: int) -> ResNet2d:
    """A ResNet whose last stages step by 1 until its last map has `stride`.

    Args:
        depth: one of `BLOCKS` in `models.blocks.resnet2d`.
        width: channels of the stem; 64 in the published ones.
        norm: `frozen` is for trained weights: the stem and the first stage do not train either, and
            bottlenecks behind a missing step dilate as torchvision's do, so that the weights see
            what they have learnt on. With `batch` all of it trains, from nothing.
        stride: pixels per cell of the last map, one of `STRIDES`.
    """
    strides = STRIDES[stride]

    def middle(slots: Slots, place: Place) -> nn.Module:
        missing = sum(step == 1 for step in strides[1 : place.stage - (place.index == 0)])
        if norm == "batch" or not missing:
            return three_by_three(slots, place)
        return FrozenConvNorm(place.channels, place.channels, 3, place.stride, dilation=2**missing)

    trunk = ResNet2d(depth, width, Slots(conv=NORMS[norm], middle=middle, strides=strides))
    if norm == "frozen":
        for part in (trunk.stem, trunk.layer1):
            part.requires_grad_(False)
    return trunk


class ImageEncoder(nn.Module):
    """images (B, 3, H, W) -> Memory.

    Args:
        trunk: gives the maps; the last one is encoded.
        layers: of the encoder.
        channels: C of the memory.
        heads: of each layer's attention.
        hidden: width of each layer's two-layer network.
        dropout: rate, in training.
        pre_norm: normalises the inputs of branches, not their sums.
        positions_kind: one of `KINDS` in `models.blocks.positions`.
    """

    def __init__(
        self,
        trunk: ResNet2d | SwinFrames,
        layers: int,
        channels: int,
        heads: int,
        hidden: int,
        dropout: float,
        pre_norm: bool = False,
        positions_kind: str = "sine",
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.project = nn.Conv2d(trunk.out_channels, channels, 1)
        self.positions = positions(positions_kind, channels)
        self.encoder = Encoder(layers, channels, heads, hidden, dropout, pre_norm)

    def forward(self, images: Tensor, padding: Tensor | None) -> Memory:
        """Encodes images.

        Without gradients the maps are channels-last in memory, which is faster; with them their
        layout is that of the images.

        Args:
            images: (B, 3, H, W) float, normalised RGB.
            padding: (B, H, W) bool, True where there is no image; None where all of it is.
        """
        if not torch.is_grad_enabled():
            images = images.contiguous(memory_format=torch.channels_last)
        maps = self.trunk.maps(images)
        projected = self.project(maps[-1])
        size = (projected.shape[2], projected.shape[3])
        bias = None
        if padding is None:
            padding = images.new_zeros(images.shape[0], 1, 1, dtype=torch.bool).expand(
                -1, *images.shape[2:]
            )
            outside = images.new_zeros((1, *size), dtype=torch.bool)
        else:
            outside = F.interpolate(padding[:, None].float(), size)[:, 0].bool()
            bias = (
                torch.zeros_like(outside, dtype=images.dtype)
                .masked_fill_(outside, -torch.inf)
                .flatten(1)[:, None, None]
            )
        places = self.positions(outside).flatten(1, 2).to(projected.dtype)
        tokens = self.encoder(projected.flatten(2).transpose(1, 2), places, bias)
        inside = ~padding
        extent = torch.stack([inside.any(1).sum(1), inside.any(2).sum(1)], 1)
        return Memory(tokens, tokens + places, bias, size, maps, extent)


def require_images(model: str, images: Tensor, padding: Tensor | None) -> None:
    """Refuses what are no images.

    Args:
        model: the family's name, for the message.
        images: should be a float (B, 3, H, W), normalised RGB, with no side empty.
        padding: should be a bool (B, H, W) or None.

    Raises:
        ModelInputError: one of them is not.
    """
    expected = "floating-point (B, 3, H, W), normalised RGB"
    if not isinstance(images, Tensor):
        raise ModelInputError(
            f"{model}: images: found {type(images).__name__}; expected a tensor, {expected}"
        )
    if (
        images.ndim != 4
        or images.shape[1] != 3
        or not images.is_floating_point()
        or 0 in images.shape
    ):
        dtype = str(images.dtype).removeprefix("torch.")
        raise ModelInputError(
            f"{model}: images: found {dtype} {tuple(images.shape)}; expected {expected}"
        )
    if padding is None:
        return
    wanted = (images.shape[0], *images.shape[2:])
    if (
        not isinstance(padding, Tensor)
        or padding.dtype != torch.bool
        or tuple(padding.shape) != wanted
    ):
        found = (
            f"{padding.dtype} {tuple(padding.shape)}"
            if isinstance(padding, Tensor)
            else type(padding).__name__
        )
        raise ModelInputError(
            f"{model}: padding: found {found}; expected a bool tensor {wanted} or None"
        )


def agree_heads(config: Checked, channels: int, heads: int) -> None:
    """Refuses channels that do not split evenly into heads, and into sines and cosines of two axes.

    Args:
        config: is named in the message, with its field `channels`.
        channels: have to be a multiple of 4 and of the heads.
        heads: of the attention.

    Raises:
        ModelConfigError: they do not.
    """
    if channels % 4 or channels % heads:
        config.refuse("channels", f"a multiple of 4 and of heads, {heads}")
