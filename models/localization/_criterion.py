"""What a pyramid should have said: target assignment, and the losses as sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import ModelInputError
from models.localization._outputs import Pyramid

_TIE = 1e-3  # segments whose lengths differ by less are equally short
_EPSILON = 1e-8


def points(lengths: Sequence[int], device: torch.device | str | None = None) -> list[Tensor]:
    """Places of the points of every level on the feature grid: 0, s, 2s, ... where level l has the
    stride s = 2^l.

    Args:
        lengths: T_l, points of each level, the finest first.
        device: where they are made; None is torch's default.

    Returns:
        float32 (T_l,) of each level.
    """
    return [
        torch.arange(length, dtype=torch.float32, device=device) * 2**level
        for level, length in enumerate(lengths)
    ]


class Targets(NamedTuple):
    """What the P points of all levels, one after the other, should say of one video.

    classes (P, C): 0 or 1, several may be 1. offsets (P, 2): distances to start and end in strides
    of the point's level; they mean nothing where `classes` is all 0.
    """

    classes: Tensor
    offsets: Tensor


class Losses(NamedTuple):
    """Sums over a batch, not yet divided by the normaliser. num_positives is an integer tensor: the
    points with an action.
    """

    classification: Tensor
    regression: Tensor
    num_positives: Tensor


def assign_targets(
    lengths: Sequence[int],
    segments: Tensor,
    labels: Tensor,
    num_classes: int,
    ranges: Sequence[tuple[float, float]],
    radius: float | None = 1.5,
) -> Targets:
    """Targets of one video.

    A point is positive for a segment that it lies strictly inside of, near its centre, and whose
    farther end is at a distance within its level's range. The shortest such segment gives the
    offsets, and all that are as short give the classes.

    Args:
        lengths: points of each level, the finest first.
        segments: (G, 2) start and end on the feature grid; G may be 0.
        labels: (G,) integers from 0.
        num_classes: C.
        ranges: (least, greatest) distance to the farther end, of each level, on the feature grid;
            both ends included.
        radius: how far from a segment's centre a point may be, in strides of its level; None is
            anywhere.
    """
    device = segments.device
    levels = points(lengths, device)
    place = torch.cat(levels)[:, None]
    stride = torch.cat([level.new_full(level.shape, 2**at) for at, level in enumerate(levels)])[
        :, None
    ]
    low, high = (
        torch.cat(
            [level.new_full(level.shape, ranges[at][end]) for at, level in enumerate(levels)]
        )[:, None]
        for end in (0, 1)
    )
    if len(segments) == 0:
        return Targets(place.new_zeros(len(place), num_classes), place.new_zeros(len(place), 2))
    start, end = segments.float().unbind(1)
    left, right = place - start, end - place
    if radius is None:
        inside = torch.minimum(left, right) > 0
    else:
        centre = 0.5 * (start + end)
        near = (
            torch.maximum(centre - stride * radius, start),
            torch.minimum(centre + stride * radius, end),
        )
        inside = torch.minimum(place - near[0], near[1] - place) > 0
    farther = torch.maximum(left, right)
    inside &= (farther >= low) & (farther <= high)
    length = torch.where(inside, (end - start)[None], math.inf)
    shortest, which = length.min(1)
    ties = inside & (length <= shortest[:, None] + _TIE)
    classes = (ties.float() @ F.one_hot(labels.long(), num_classes).float()).clamp(max=1)
    offsets = (
        torch.stack(
            [left.gather(1, which[:, None])[:, 0], right.gather(1, which[:, None])[:, 0]], 1
        )
        / stride
    )
    return Targets(classes, offsets)


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (Lin et al., ICCV 2017) per element.

    Args:
        logits: of any shape.
        targets: of the same shape, 0 to 1: they may be soft.
        alpha: weight of a target of 1; one of 0 has the rest to 1.
        gamma: power of what is missed: the higher, the less counts what is nearly right.
    """
    prob = logits.sigmoid()
    missed = 1 - (prob * targets + (1 - prob) * (1 - targets))
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (
        weight
        * missed**gamma
        * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    )


def centre_diou_loss(offsets: Tensor, targets: Tensor) -> Tensor:
    """1 - IoU + (distance of the centres / length of both together)^2 of segments that share a
    point.

    The one-dimensional form of the distance-IoU loss (Zheng et al., AAAI 2020).

    Args:
        offsets: (N, 2) distances from the point to start and end.
        targets: (N, 2) those of the true segments, from the same points in the same unit.

    Returns:
        (N,).

    >>> centre_diou_loss(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 3.0]]))
    tensor([0.5625])
    """
    inside = torch.minimum(offsets, targets).sum(1)
    union = offsets.sum(1) + targets.sum(1) - inside
    apart = 0.5 * ((offsets[:, 1] - offsets[:, 0]) - (targets[:, 1] - targets[:, 0]))
    around = torch.maximum(offsets, targets).sum(1)
    return 1 - inside / union.clamp(min=_EPSILON) + (apart / around.clamp(min=_EPSILON)) ** 2


class Criterion:
    """Losses of a pyramid against the true segments.

    Args:
        num_classes: C.
        ranges: the model's (`Config.ranges`).
        radius: of `assign_targets`.
        label_smoothing: e turns targets t into t (1 - e) + e / (C + 1).
        regression_weight: weighs the second loss in `total`; 0 or less balances the two instead.
    """

    def __init__(
        self,
        num_classes: int,
        ranges: Sequence[tuple[float, float]],
        *,
        radius: float | None = 1.5,
        label_smoothing: float = 0.0,
        regression_weight: float = 1.0,
    ) -> None:
        self.num_classes, self.ranges, self.radius = num_classes, tuple(ranges), radius
        self.label_smoothing, self.regression_weight = label_smoothing, regression_weight

    def __call__(
        self, pyramid: Pyramid, segments: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> Losses:
        """Sums over the batch. Only points within the video count.

        Args:
            pyramid: of B videos.
            segments: (G, 2) start and end on the feature grid, of each video; G may be 0.
            labels: (G,) integers of each video.

        Raises:
            ModelInputError: another number of videos, other shapes, or labels outside the classes.
        """
        self._check(pyramid, segments, labels)
        lengths = [valid.shape[1] for valid in pyramid.valid]
        device = pyramid.valid[0].device
        targets = [
            assign_targets(
                lengths, one.to(device), name.to(device), self.num_classes, self.ranges, self.radius
            )
            for one, name in zip(segments, labels, strict=True)
        ]
        classes, offsets = (
            torch.stack([one.classes for one in targets]),
            torch.stack([one.offsets for one in targets]),
        )
        logits, said = torch.cat(pyramid.logits, 1).float(), torch.cat(pyramid.offsets, 1).float()
        valid = torch.cat(pyramid.valid, 1)
        positive = (classes.sum(-1) > 0) & valid
        smooth = classes * (1 - self.label_smoothing) + self.label_smoothing / (
            self.num_classes + 1
        )
        classification = torch.where(valid[..., None], focal_loss(logits, smooth), 0).sum()
        # A sum over no positives is 0 and still depends on the offsets, so that data parallel
        # gradients exist on every rank.
        regression = centre_diou_loss(said[positive], offsets[positive]).sum()
        return Losses(classification, regression, positive.sum())

    def total(self, losses: Losses, normaliser: float | Tensor) -> Tensor:
        """What is minimised: both sums over the normaliser, the second one weighted.

        Args:
            losses: sums of a batch.
            normaliser: `next_normaliser` of this step; with several ranks this one's share of it,
                by videos.
        """
        classification, regression = (
            losses.classification / normaliser,
            losses.regression / normaliser,
        )
        if self.regression_weight > 0:
            return classification + self.regression_weight * regression
        return classification + regression * (
            classification.detach() / regression.detach().clamp(min=0.01)
        )

    def _check(
        self, pyramid: Pyramid, segments: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> None:
        videos = len(pyramid.valid[0])
        if not len(segments) == len(labels) == videos:
            raise ModelInputError(
                f"actionformer: found segments of {len(segments)} and labels of {len(labels)}"
                f" videos; expected {videos}"
            )
        for at, (one, name) in enumerate(zip(segments, labels, strict=True)):
            if one.ndim != 2 or one.shape[1] != 2 or name.shape != one.shape[:1]:
                found = f"{tuple(one.shape)} and {tuple(name.shape)}"
                raise ModelInputError(
                    f"actionformer: video {at}: segments and labels: found {found}; expected (G, 2)"
                    " and (G,)"
                )
            if len(name) and not 0 <= int(name.min()) <= int(name.max()) < self.num_classes:
                found = f"{int(name.min())} to {int(name.max())}"
                raise ModelInputError(
                    f"actionformer: video {at}: labels: found {found}; expected 0 to"
                    f" {self.num_classes - 1}"
                )


def next_normaliser(normaliser: float, num_positives: float, momentum: float = 0.9) -> float:
    """The running normaliser after a step; it divides that step's losses.

    Args:
        normaliser: before the step.
        num_positives: points with an action in the step, of all ranks together; none counts as one.
        momentum: share of the old one that stays.
    """
    return momentum * normaliser + (1 - momentum) * max(num_positives, 1)
