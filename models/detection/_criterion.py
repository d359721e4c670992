"""What EVAD's detections cost: proposals matched with people one to one, at every stage, and the
matched ones' actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks.boxes import generalized_iou
from models.blocks.set_matching import assign
from models.detection._outputs import Detections
from models.errors import ModelInputError

NO_PERSON = 0.1
_SMALLEST = 1e-3  # pixels of a box's side: an empty box's overlap with another is no number


class Weights(Protocol):
    """Of the terms of the loss, and of "nothing" against "person" within the first; a recipe's
    section `weights` is one.
    """

    @property
    def person(self) -> float: ...
    @property
    def distance(self) -> float: ...  # L1
    @property
    def overlap(self) -> float: ...  # generalised IoU
    @property
    def action(self) -> float: ...
    @property
    def no_person(self) -> float: ...


class Target(NamedTuple):
    """The people of one clip's key frame; there may be none."""

    boxes: Tensor  # (G, 4) float xyxy, pixels of the unpadded input image
    actions: Tensor  # multi-label: (G, classes) 0 or 1; single-label: (G,) int64 class numbers


class Counts(NamedTuple):
    """What the terms are divided by, of a batch. Over several ranks: the sum over all of them,
    divided by their number.
    """

    people: float  # boxes in the targets: of the L1 and GIoU terms
    # people that got a proposal (there are no more than proposals): of the action and, with
    # `clips`, the person terms
    matched: float
    clips: float


class Losses(NamedTuple):
    """The terms, already weighted, in float32."""

    total: Tensor  # the mean of all terms below
    person: list[Tensor]  # of each stage
    l1: list[Tensor]
    giou: list[Tensor]
    action: list[Tensor]  # of each decoder block
    # of each stage, of each clip: proposals and people (int64), proposals ascending
    matches: list[list[tuple[Tensor, Tensor]]]

    def terms(self) -> dict[str, Tensor]:
        """The terms by name: `person`, `l1`, `giou`, `action` of the last stage, with _0, _1, ...
        for those before it; and `total`.
        """
        named = {"total": self.total}
        for kind in ("person", "l1", "giou", "action"):
            values = getattr(self, kind)
            named |= {kind: values[-1]} | {
                f"{kind}_{index}": value for index, value in enumerate(values[:-1])
            }
        return named


def counts(targets: Sequence[Target], proposals: int) -> Counts:
    """Counts of a batch.

    Args:
        targets: one of each clip.
        proposals: how many the model makes; no more people than these get one.
    """
    people = [len(target.boxes) for target in targets]
    return Counts(
        float(sum(people)),
        float(sum(min(number, proposals) for number in people)),
        float(len(people)),
    )


@torch.no_grad()
def match(
    logits: Tensor, boxes: Tensor, targets: Sequence[Target], sizes: Tensor, weights: Weights
) -> list[tuple[Tensor, Tensor]]:
    """One stage's proposals for the people of each clip, at the least total cost.

    The cost of a pair is less the probability of a person, plus the L1 distance of boxes as shares
    of the image, less their generalised IoU, weighted.

    Args:
        logits: (B, Q, 2): person, nothing.
        boxes: (B, Q, 4) xyxy pixels.
        targets: one of each clip.
        sizes: (B, 2) height and width of the unpadded images, in pixels.
        weights: `person`, `distance` and `overlap` are those of the cost's terms.

    Returns:
        Of each clip (proposals, people), int64 on the CPU, proposals ascending.

    Raises:
        ValueError: boxes that are not finite.
    """
    people = [len(target.boxes) for target in targets]
    if sum(people) == 0:
        return [(torch.zeros(0, dtype=torch.int64),) * 2 for _ in people]
    scale = sizes.flip(1).repeat(1, 2).to(boxes)
    owner = torch.arange(len(people)).repeat_interleave(torch.tensor(people)).to(boxes.device)
    wanted = torch.cat([target.boxes for target in targets]).to(boxes)
    offered = boxes[owner]  # (all people, Q, 4): only pairs of the same clip
    apart = (offered / scale[owner][:, None] - (wanted / scale[owner])[:, None]).abs().sum(-1)
    person = logits.float().softmax(-1)[owner, :, 0].to(boxes)
    cost = (
        weights.distance * apart
        - weights.person * person
        - weights.overlap * generalized_iou(_sound(offered), _sound(wanted)[:, None])
    )
    host, pairs = cost.cpu().numpy().astype(np.float64), []
    for block in np.split(host, np.cumsum(people)[:-1]):
        proposals, chosen = assign(block.T)
        pairs.append((torch.from_numpy(proposals), torch.from_numpy(chosen)))
    return pairs


class Criterion:
    """Sums of EVAD's training: person, L1 and GIoU of every stage (each matched anew), actions of
    every decoder block on the last stage's matches. What is propagated is the mean over all terms.

    Args:
        weights: of the terms.
        multi_label: actions are independent of each other (sigmoid); without it each person has one
            (softmax).
    """

    def __init__(self, weights: Weights, multi_label: bool = True) -> None:
        self.weights, self.multi_label = weights, multi_label

    def __call__(
        self, detections: Detections, targets: Sequence[Target], normalisers: Counts | None = None
    ) -> Losses:
        """The losses of a batch.

        Args:
            detections: of the model, all stages and blocks.
            targets: one of each clip.
            normalisers: stand in for the batch's own counts, so that several ranks' losses average
                to that of one large batch; None takes the batch's own.

        Raises:
            ModelInputError: targets that do not fit the detections.
            ValueError: boxes that are not finite.
        """
        self._check(detections, targets)
        queries = detections.boxes[0].shape[1]
        norm = normalisers or counts(targets, queries)
        sizes, device = detections.sizes, detections.boxes[0].device
        people = [len(target.boxes) for target in targets]
        wanted = torch.cat([target.boxes for target in targets]).to(device)
        first = np.concatenate([[0], np.cumsum(people)])
        person, l1, giou, matches = [], [], [], []
        clip = proposal = chosen = torch.zeros(0, dtype=torch.int64, device=device)
        for logits, boxes in zip(detections.person_logits, detections.boxes, strict=True):
            pairs = match(logits, boxes, targets, sizes, self.weights)
            clip = torch.cat(
                [torch.full_like(one, index) for index, (one, _) in enumerate(pairs)]
            ).to(device)
            proposal = torch.cat([one for one, _ in pairs]).to(device)
            chosen = torch.cat(
                [other + int(first[index]) for index, (_, other) in enumerate(pairs)]
            ).to(device)
            person.append(self.weights.person * self._person(logits, clip, proposal, norm, queries))
            found, true = boxes[clip, proposal], wanted[chosen].to(boxes)
            scale = sizes.flip(1).repeat(1, 2).to(boxes)[clip]
            divisor = norm.people or 1.0
            l1.append(self.weights.distance * (found / scale - true / scale).abs().sum() / divisor)
            giou.append(
                self.weights.overlap
                * (1 - generalized_iou(_sound(found), _sound(true))).sum()
                / divisor
            )
            matches.append(pairs)
        actions = torch.cat([target.actions for target in targets]).to(device)[chosen]
        action = [
            self.weights.action * self._action(logits[clip, proposal], actions, norm)
            for logits in detections.action_logits
        ]
        terms = [*person, *l1, *giou, *action]
        return Losses(
            torch.stack([term.to(torch.float32) for term in terms]).mean(),
            person,
            l1,
            giou,
            action,
            matches,
        )

    def _person(
        self, logits: Tensor, clip: Tensor, proposal: Tensor, norm: Counts, queries: int
    ) -> Tensor:
        """Cross-entropy of all proposals, "nothing" counted less, over the sum of their weights."""
        classes = torch.ones(logits.shape[:2], dtype=torch.int64, device=logits.device)
        classes[clip, proposal] = 0
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        each = F.cross_entropy(
            wide.flatten(0, 1),
            classes.flatten(),
            wide.new_tensor([1.0, self.weights.no_person]),
            reduction="sum",
        )
        return each / (
            norm.matched + self.weights.no_person * (norm.clips * queries - norm.matched)
        )

    def _action(self, logits: Tensor, actions: Tensor, norm: Counts) -> Tensor:
        """Of the matched people (M, classes): over people and classes where labels are many, over
        people where each has one.
        """
        wide, divisor = (
            logits.to(torch.promote_types(logits.dtype, torch.float32)),
            norm.matched or 1.0,
        )
        if not self.multi_label:
            return F.cross_entropy(wide, actions.long(), reduction="sum") / divisor
        each = F.binary_cross_entropy_with_logits(wide, actions.to(wide), reduction="sum")
        return each / (divisor * wide.shape[1])

    def _check(self, detections: Detections, targets: Sequence[Target]) -> None:
        batch, _, classes = detections.action_logits[0].shape
        if len(targets) != batch:
            raise ModelInputError(
                f"evad: targets: found {len(targets)}; expected one for each of {batch} clips"
            )
        for index, (boxes, actions) in enumerate(targets):
            shape = (len(boxes), classes) if self.multi_label else (len(boxes),)
            if boxes.ndim != 2 or boxes.shape[1] != 4 or actions.shape != shape:
                found = f"boxes {tuple(boxes.shape)} and actions {tuple(actions.shape)}"
                raise ModelInputError(
                    f"evad: target {index}: found {found}; expected (G, 4) and {('G', *shape[1:])}"
                )
            if not bool((boxes[:, 2:] >= boxes[:, :2]).all()):  # also where one is not a number
                raise ModelInputError(
                    f"evad: target {index}: found boxes {boxes.tolist()}; expected x1 <= x2 and y1"
                    " <= y2"
                )
            if (
                not self.multi_label
                and len(actions)
                and not 0 <= int(actions.min()) <= int(actions.max()) < classes
            ):
                raise ModelInputError(
                    f"evad: target {index}: found classes {actions.tolist()}; expected 0 to"
                    f" {classes - 1}"
                )


def _sound(boxes: Tensor) -> Tensor:
    """Boxes that are not thinner than a thousandth of a pixel."""
    return torch.cat(
        [boxes[..., :2], torch.maximum(boxes[..., 2:], boxes[..., :2] + _SMALLEST)], -1
    )
