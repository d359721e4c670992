"""Where a place of a map is, as a vector: (B, h, w, C) of DETR's two kinds (Carion et al., ECCV
2020), and the same of boxes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.errors import ModelInputError

TEMPERATURE = 10000.0
KINDS = ("sine", "learned")


def waves(at: Tensor, channels: int) -> Tensor:
    """Sine and cosine in turn, of frequencies that fall from 1 to almost 1 / TEMPERATURE.

    Args:
        at: angles (...) in radians, of the fastest wave.
        channels: even.

    Returns:
        (..., channels) float32.
    """
    channel = torch.arange(channels, dtype=torch.float32, device=at.device)
    slowness = TEMPERATURE ** (2 * (channel // 2) / channels)
    angles = at[..., None].float() / slowness
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1).flatten(-2)


class SinePositions(nn.Module):
    """Waves of y in the first half of the channels and of x in the second; each axis spans 0 to 2
    pi over the image without padding.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.each = channels // 2

    def forward(self, padding: Tensor) -> Tensor:
        """(B, h, w) bool, True where there is no image -> (B, h, w, C)."""
        inside = (~padding).float()
        rows, columns = inside.cumsum(1), inside.cumsum(2)
        y = 2 * math.pi * rows / (rows[:, -1:, :] + 1e-6)
        x = 2 * math.pi * columns / (columns[:, :, -1:] + 1e-6)
        return torch.cat([waves(y, self.each), waves(x, self.each)], -1)


class LearnedPositions(nn.Module):
    """A vector of each column in the first half of the channels and of each row in the second;
    padding counts like image.
    """

    places = 50

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.row_embed, self.col_embed = (
            nn.Embedding(self.places, channels // 2),
            nn.Embedding(self.places, channels // 2),
        )
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, padding: Tensor) -> Tensor:
        """(B, h, w) -> (1, h, w, C). Raises ModelInputError for a map of more rows or columns than
        there are vectors.
        """
        height, width = padding.shape[1:]
        if max(height, width) > self.places:
            raise ModelInputError(
                f"learned positions: found a map of {height} x {width}; expected at most"
                f" {self.places} a side"
            )
        across = self.col_embed.weight[:width].expand(height, -1, -1)
        down = self.row_embed.weight[:height, None].expand(-1, width, -1)
        return torch.cat([across, down], -1)[None]


def positions(kind: str, channels: int) -> nn.Module:
    """The maker of positions of this kind: a module, bool (B, h, w) of padding -> (B or 1, h, w,
    C).

    Args:
        kind: one of `KINDS`.
        channels: C, half of them for each axis: a multiple of 4 for sines.
    """
    return SinePositions(channels) if kind == "sine" else LearnedPositions(channels)


def box_waves(boxes: Tensor, channels: int) -> Tensor:
    """A box as a vector: the centre as `SinePositions` writes a place, then the size in the same
    way.

    Args:
        boxes: (..., 4) cxcywh as shares of what they lie in.
        channels: of the centre, and as many of the size.

    Returns:
        (..., 2 * channels) float32.
    """
    angles = 2 * math.pi * boxes
    return torch.cat([waves(angles[..., axis], channels // 2) for axis in (1, 0, 3, 2)], -1)
