"""Heads of Sparse R-CNN (Sun et al., CVPR 2021): learned proposals look into their own region and
move their boxes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.boxes import to_centres, to_corners
from models.blocks.roi import Maps, choose_levels, pool

BINS = 7
# Deltas are learned at these scales, and a box grows no more than to this size at once.
_DELTA_SCALE = (2.0, 2.0, 1.0, 1.0)
_LARGEST_GROWTH = math.log(100000.0 / 16)


class Proposals(NamedTuple):
    """What a head says of each proposal."""

    logits: Tensor  # (B, Q, classes + 1), the last one for nothing
    boxes: Tensor  # (B, Q, 4) xyxy in input pixels, not clipped
    features: Tensor  # (B, Q, hidden)


class DynamicConv(nn.Module):
    """Two 1x1 convolutions over a proposal's region, their kernels made from the proposal's
    features.
    """

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.dynamic_layer = nn.Linear(hidden, 2 * hidden * inner)
        self.norm1, self.norm2 = nn.LayerNorm(inner), nn.LayerNorm(hidden)
        self.out_layer = nn.Linear(hidden * BINS**2, hidden)
        self.norm3 = nn.LayerNorm(hidden)

    def forward(self, features: Tensor, region: Tensor) -> Tensor:
        """Looks into each proposal's region.

        Args:
            features: (K, hidden).
            region: (K, 49, hidden), the bins of each.

        Returns:
            (K, hidden).
        """
        first, second = self.dynamic_layer(features).chunk(2, 1)
        region = F.relu(self.norm1(region @ first.unflatten(1, (-1, self.inner))))
        region = F.relu(self.norm2(region @ second.unflatten(1, (self.inner, -1))))
        return F.relu(self.norm3(self.out_layer(region.flatten(1))))


def _layers(channels: int, count: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(count):
        parts += [
            nn.Linear(channels, channels, bias=False),
            nn.LayerNorm(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*parts)


class ProposalHead(nn.Module):
    """One stage: proposals look at each other, at their regions, and give a class and a better box
    each.

    Args:
        hidden: channels of the pyramid and of the proposals.
        inner: channels between the two dynamic convolutions.
        heads: of the proposals' attention.
        feedforward: width of the two-layer network.
        classes: without the one for nothing.
    """

    def __init__(
        self,
        hidden: int = 256,
        inner: int = 64,
        heads: int = 8,
        feedforward: int = 2048,
        classes: int = 1,
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.inst_interact = DynamicConv(hidden, inner)
        self.linear1, self.linear2 = nn.Linear(hidden, feedforward), nn.Linear(feedforward, hidden)
        self.norm1, self.norm2, self.norm3 = (
            nn.LayerNorm(hidden),
            nn.LayerNorm(hidden),
            nn.LayerNorm(hidden),
        )
        self.cls_module, self.reg_module = _layers(hidden, 1), _layers(hidden, 3)
        self.class_logits = nn.Linear(hidden, classes + 1)
        self.bboxes_delta = nn.Linear(hidden, 4)

    def forward(self, pyramid: Maps, boxes: Tensor, features: Tensor) -> Proposals:
        """What this stage says of each proposal.

        Args:
            pyramid: laid out, from level 2 up.
            boxes: (B, Q, 4) xyxy in input pixels.
            features: (B, Q, hidden).
        """
        batch, queries = boxes.shape[:2]
        flat = boxes.flatten(0, 1)
        image = torch.arange(batch, device=boxes.device).repeat_interleave(queries)
        region = pool(pyramid, flat, image, choose_levels(flat, len(pyramid.starts)), BINS)
        features = self.norm1(
            features + self.self_attn(features, features, features, need_weights=False)[0]
        )
        features = features.flatten(0, 1)
        features = self.norm2(features + self.inst_interact(features, region))
        features = self.norm3(features + self.linear2(F.relu(self.linear1(features)))).unflatten(
            0, (batch, queries)
        )
        logits = self.class_logits(self.cls_module(features))
        return Proposals(
            logits, moved(boxes, self.bboxes_delta(self.reg_module(features))), features
        )


def moved(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes moved by shares of their sizes and grown by exponents.

    Args:
        boxes: xyxy (..., 4).
        deltas: (..., 4) dx, dy, dw, dh, in the scales that they are learned at.

    Returns:
        xyxy (..., 4).
    """
    deltas = deltas.to(boxes.dtype) / boxes.new_tensor(_DELTA_SCALE)
    centres = to_centres(boxes)
    place = centres[..., :2] + deltas[..., :2] * centres[..., 2:]
    size = centres[..., 2:] * deltas[..., 2:].clamp(max=_LARGEST_GROWTH).exp()
    return to_corners(torch.cat([place, size], -1))
