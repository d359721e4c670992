"""DETR's losses: each decoder layer's set of objects is matched with the truth, and scored for
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks.boxes import generalized_iou, to_corners
from models.blocks.set_matching import Matches, match, per_layer, side_by_side


class Objects(NamedTuple):
    """What a DETR says after each of its decoder layers; the last one is the answer.

    logits: (L, B, Q, num_classes + 1), the last class is "no object". boxes: (L, B, Q, 4) cxcywh
    fractions of the image.
    """

    logits: Tensor
    boxes: Tensor


class Truth(NamedTuple):
    """One image's objects; G may be 0. labels: (G,) int64. boxes: (G, 4) cxcywh fractions of the
    unpadded image.
    """

    labels: Tensor
    boxes: Tensor


class Losses(NamedTuple):
    """`total` is the weighted sum to minimise. The others are (L,), one value per decoder layer,
    not weighted.

    cardinality: mean distance between the number of queries that are no "no object" and the number
    of objects; has no gradient.
    """

    total: Tensor
    classification: Tensor
    l1: Tensor
    giou: Tensor
    cardinality: Tensor


def counts(truth: Sequence[Truth], queries: int) -> Tensor:
    """What the terms are divided by: objects, and queries of all images. Counts of several ranks
    add up.

    Args:
        truth: one of each image.
        queries: of the model, for one image.

    Returns:
        float32 (2,).
    """
    device = truth[0].boxes.device if truth else None
    return torch.tensor(
        [sum(len(one.labels) for one in truth), len(truth) * queries],
        dtype=torch.float32,
        device=device,
    )


class Criterion:
    """Cross entropy, L1 and generalized IoU of matched boxes.

    Args:
        weights: (class, L1, GIoU), both of the matching and of the total, as published.
        nobody: weight of a query without an object in the cross entropy.
        auxiliary: every decoder layer counts; without it the last one alone.
    """

    def __init__(
        self,
        weights: tuple[float, float, float] = (1.0, 5.0, 2.0),
        nobody: float = 0.1,
        auxiliary: bool = True,
    ) -> None:
        self.weights, self.nobody, self.auxiliary = weights, nobody, auxiliary

    @torch.no_grad()
    def match(self, objects: Objects, truth: Sequence[Truth]) -> Matches:
        """The cheapest pairs of each layer and image by -p(class), L1 and -GIoU.

        Args:
            objects: of the model, all layers.
            truth: one of each image.

        Raises:
            ValueError: a cost that is not finite.
        """
        labels, targets = (
            side_by_side([one.labels for one in truth]),
            side_by_side([one.boxes for one in truth]),
        )
        shape = (*objects.logits.shape[:3], labels.shape[1])
        likely = objects.logits.float().softmax(-1).gather(-1, labels[None, :, None].expand(shape))
        boxes, targets = objects.boxes.float()[..., None, :], targets.float()[None, :, None]
        apart = (boxes - targets).abs().sum(-1)
        # of the filling up
        common = generalized_iou(to_corners(boxes), to_corners(targets)).nan_to_num(0.0)
        one, two, three = self.weights
        return match(
            one * -likely + two * apart - three * common, [len(image.labels) for image in truth]
        )

    def __call__(
        self, objects: Objects, truth: Sequence[Truth], totals: Tensor | None = None
    ) -> Losses:
        """The losses of a batch.

        Args:
            objects: of the model, all layers.
            truth: one of each image.
            totals: what the terms are divided by, as `counts` gives it; None stands for this
                batch's own. With several ranks it is the mean over them: the mean of the ranks'
                gradients is then the gradient of one rank that has all images.

        Raises:
            ValueError: a cost of matching that is not finite.
        """
        if not self.auxiliary:
            objects = Objects(objects.logits[-1:], objects.boxes[-1:])
        logits, layers, queries = (
            objects.logits.float(),
            len(objects.logits),
            objects.logits.shape[2],
        )
        num_objects, num_queries = (counts(truth, queries) if totals is None else totals).to(logits)
        found = self.match(objects, truth)
        classes, none = (
            logits.new_full(logits.shape[:3], logits.shape[-1] - 1, dtype=torch.int64),
            logits.shape[-1] - 1,
        )
        classes[found.layer, found.image, found.query] = side_by_side(
            [one.labels for one in truth]
        )[found.image, found.target]
        weight = torch.where(classes == none, self.nobody, 1.0)
        surprise = F.cross_entropy(
            logits.flatten(0, 2), classes.flatten(), reduction="none"
        ).view_as(weight)
        classification = (weight * surprise).flatten(1).sum(1) / (
            num_objects + self.nobody * (num_queries - num_objects)
        )
        boxes = objects.boxes.float()[found.layer, found.image, found.query]
        targets = side_by_side([one.boxes for one in truth]).float()[found.image, found.target]
        per_object = num_objects.clamp(min=1)
        l1 = per_layer((boxes - targets).abs().sum(-1), found, layers) / per_object
        giou = (
            per_layer(1 - generalized_iou(to_corners(boxes), to_corners(targets)), found, layers)
            / per_object
        )
        one, two, three = self.weights
        number = torch.tensor([len(image.labels) for image in truth], device=logits.device)
        cardinality = ((logits.argmax(-1) != none).sum(-1) - number).abs().float().mean(1)
        return Losses(
            (one * classification + two * l1 + three * giou).sum(),
            classification,
            l1,
            giou,
            cardinality,
        )
