"""Boxes as tensors (..., 4): xyxy corners or cxcywh centre and size, in whatever unit the caller
has.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """cxcywh (..., 4) -> xyxy (..., 4)."""
    centre, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat([centre - half, centre + half], -1)


def to_centres(boxes: Tensor) -> Tensor:
    """xyxy (..., 4) -> cxcywh (..., 4)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def area(boxes: Tensor) -> Tensor:
    """xyxy (..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union areas of boxes.

    Args:
        one: xyxy (..., 4).
        other: xyxy (..., 4) in the same unit; both broadcast against each other.

    Returns:
        Two tensors (...), in that unit squared.
    """
    size = (
        torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])
    ).clamp(min=0)
    inside = size[..., 0] * size[..., 1]
    return inside, area(one) + area(other) - inside


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes; not a number where both are empty.

    Args:
        one: xyxy (..., 4).
        other: xyxy (..., 4) in the same unit; both broadcast: `boxes[:, None], others` gives all
            pairs.

    Returns:
        (...), from 0 to 1.

    >>> iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 2.0, 1.0]))
    tensor(0.2500)
    """
    inside, union = overlap(one, other)
    return inside / union


def generalized_iou(one: Tensor, other: Tensor) -> Tensor:
    """IoU less the share of the smallest box around both that neither covers (Rezatofighi et al.,
    CVPR 2019).

    Args:
        one: xyxy (..., 4).
        other: xyxy (..., 4) in the same unit; both broadcast against each other.

    Returns:
        (...), from -1 to 1; not a number where both are empty.
    """
    inside, union = overlap(one, other)
    around = (
        torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    ).clamp(min=0)
    hull = around[..., 0] * around[..., 1]
    return inside / union - (hull - union) / hull
