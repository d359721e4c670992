"""APCT's losses: each decoder layer's persons are matched with the truth, and scored with their
parts and states for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks.boxes import generalized_iou, to_corners
from models.blocks.set_matching import Matches, match, side_by_side
from models.errors import ModelInputError


class Parsed(NamedTuple):
    """What an APCT says after each decoder layer; the last layer's persons, boxes and parts, and
    `refined`, are the answer.

    persons: (L, B, Q) logits of being a person. boxes: (L, B, Q, 4) and parts: (L, B, Q, K, 4),
    cxcywh fractions of the image. states: (L, B, Q, K, S) logits, each state for itself (sigmoid).
    refined: (B, Q, K, S) logits, the last word about the states; without a refinement module the
    last layer's states, with no gradient.
    """

    persons: Tensor
    boxes: Tensor
    parts: Tensor
    states: Tensor
    refined: Tensor


class People(NamedTuple):
    """One image's truth; G may be 0. boxes: (G, 4) and parts: (G, K, 4) cxcywh fractions of the
    unpadded image, of positive size.

    seen: (G, K) bool: the part is annotated; only then its box and state count. states: (G, K)
    int64, 0..S-1, or -1 where the state is not known (the box of a seen part still counts). Values
    under what is not seen are ignored but must be finite.
    """

    boxes: Tensor
    parts: Tensor
    seen: Tensor
    states: Tensor


class Losses(NamedTuple):
    """Scalars: `total` is the sum of the others, which are weighted, normalised and summed over the
    decoder layers.
    """

    total: Tensor
    person: Tensor
    box: Tensor
    part: Tensor
    state: Tensor
    refined: Tensor


@dataclass(frozen=True)
class Weights:
    """Weights of the loss's terms.

    Attributes:
        giou: of an addition to the report's equation 1 that DETR has; off by default.
        nobody: of a query without a person in the cross entropy.
        cost_person: of the matching, as DETR's; `cost_box` and `cost_giou` too.
    """

    person: float = 1.0
    box: float = 5.0
    giou: float = 0.0
    part: float = 5.0
    state: float = 2.0
    refined: float = 2.0
    nobody: float = 0.1
    cost_person: float = 1.0
    cost_box: float = 5.0
    cost_giou: float = 2.0


BOX_BEND = 0.05
PART_BEND = 0.03
"""Where smooth L1 turns from a parabola into a line: in fractions of the image, and of the
person.
"""
ALPHA, GAMMA = 0.25, 2.0


def totals(people: Sequence[People], queries: int) -> Tensor:
    """What the terms are divided by: persons, queries of all images, seen parts, known states.
    Those of several ranks add up.

    Args:
        people: one of each image, at least one.
        queries: of the model, for one image.

    Returns:
        float32 (4,).
    """
    seen = sum((one.seen.sum() for one in people), torch.zeros((), device=people[0].seen.device))
    known = sum((_known(one.seen, one.states).sum() for one in people), torch.zeros_like(seen))
    persons = seen.new_tensor(sum(len(one.boxes) for one in people))
    return torch.stack([persons, seen.new_tensor(len(people) * queries), seen, known])


def _known(seen: Tensor, states: Tensor) -> Tensor:
    return seen & (states >= 0)


def focal(logits: Tensor, classes: Tensor) -> Tensor:
    """Sigmoid focal loss (Lin et al., ICCV 2017), summed.

    Args:
        logits: (M, S).
        classes: (M,) int64, one each, 0..S-1.
    """
    target = F.one_hot(classes, logits.shape[-1]).to(logits)
    surprise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    off = (target - logits.sigmoid()).abs()
    return ((ALPHA * target + (1 - ALPHA) * (1 - target)) * off.pow(GAMMA) * surprise).sum()


class Criterion:
    """The report's equation 1 for every decoder layer: cross entropy of being a person, smooth L1
    of person boxes, smooth L1 of part boxes and focal loss of part states, and one focal loss of
    the refined states, matched as the last layer is.

    The report leaves open, and here is: boxes are compared as cxcywh, persons' in fractions of the
    image and parts' in fractions of their true person, so that a small person's parts weigh as much
    as a large one's; each term is divided by what it counts (persons, weighted queries, seen parts,
    known states); matching is DETR's, by persons alone; a part that is not annotated has no box and
    no state that could be wrong.
    """

    def __init__(self, weights: Weights | None = None) -> None:
        self.weights = weights or Weights()

    @torch.no_grad()
    def match(self, parsed: Parsed, people: Sequence[People]) -> Matches:
        """The cheapest pairs of each layer and image by -p(person), L1 and -GIoU.

        Args:
            parsed: of the model, all layers.
            people: one of each image.

        Raises:
            ValueError: a cost that is not finite.
        """
        weights, targets = (
            self.weights,
            side_by_side([one.boxes for one in people]).float()[None, :, None],
        )
        boxes = parsed.boxes.float()[..., None, :]
        cost = weights.cost_box * (boxes - targets).abs().sum(-1)
        # nan: the filling up
        cost -= weights.cost_giou * generalized_iou(
            to_corners(boxes), to_corners(targets)
        ).nan_to_num(0.0)
        cost -= weights.cost_person * parsed.persons.float().sigmoid()[..., None]
        return match(cost, [len(one.boxes) for one in people])

    def __call__(
        self, parsed: Parsed, people: Sequence[People], mean_totals: Tensor | None = None
    ) -> Losses:
        """The losses of a batch.

        Args:
            parsed: of the model, all layers.
            people: one of each image.
            mean_totals: what the terms are divided by, as `totals` gives it; None stands for this
                batch's own. With several ranks it is the mean over them: the mean of the ranks'
                gradients is then the gradient of one rank that has all images.

        Raises:
            ModelInputError: people that do not fit the prediction.
            ValueError: a cost of matching that is not finite.
        """
        _check(parsed, people)
        weights, (layers, images, queries) = self.weights, parsed.persons.shape
        counted = (
            totals(people, queries)
            if mean_totals is None
            else mean_totals.to(parsed.persons.device)
        )
        num_persons, num_queries, num_seen, num_known = counted.float()
        found = self.match(parsed, people)
        truth = People(
            *(
                side_by_side(column)[found.image, found.target]
                for column in zip(*people, strict=True)
            )
        )
        at = (found.layer, found.image, found.query)

        is_person = torch.zeros((layers, images, queries), device=parsed.persons.device)
        is_person[at] = 1
        surprise = F.binary_cross_entropy_with_logits(
            parsed.persons.float(), is_person, reduction="none"
        )
        weighed = torch.where(is_person > 0, surprise, weights.nobody * surprise).sum()
        person = (
            weights.person * weighed / (num_persons + weights.nobody * (num_queries - num_persons))
        )

        boxes, true = parsed.boxes[at].float(), truth.boxes.float()
        box = weights.box * F.smooth_l1_loss(boxes, true, reduction="sum", beta=BOX_BEND)
        if weights.giou:
            box = (
                box
                + weights.giou * (1 - generalized_iou(to_corners(boxes), to_corners(true))).sum()
            )

        size = true[:, None, 2:].repeat(1, 1, 2)
        apart = ((parsed.parts[at].float() - truth.parts.float()) / size)[truth.seen]
        part = weights.part * F.smooth_l1_loss(
            apart, torch.zeros_like(apart), reduction="sum", beta=PART_BEND
        )

        known = _known(truth.seen, truth.states)
        state = weights.state * focal(parsed.states[at].float()[known], truth.states[known])
        last = found.layer == layers - 1
        known, guess = known[last], parsed.refined[found.image[last], found.query[last]].float()
        refined = weights.refined * focal(guess[known], truth.states[last][known])

        per_person, per_part, per_state = (
            num_persons.clamp(min=1),
            num_seen.clamp(min=1),
            num_known.clamp(min=1),
        )
        terms = (person, box / per_person, part / per_part, state / per_state, refined / per_state)
        return Losses(torch.stack(terms).sum(), *terms)


def _check(parsed: Parsed, people: Sequence[People]) -> None:
    images, parts = parsed.states.shape[1], parsed.states.shape[3]
    if len(people) != images:
        raise ModelInputError(f"apct: people: found {len(people)} images; expected {images}")
    for image, one in enumerate(people):
        found, number = [tuple(column.shape) for column in one], len(one.boxes)
        wanted = [(number, 4), (number, parts, 4), (number, parts), (number, parts)]
        if found != wanted or one.seen.dtype != torch.bool:
            raise ModelInputError(
                f"apct: people of image {image}: found shapes {found}; expected {wanted}, the third"
                " of them bool"
            )
