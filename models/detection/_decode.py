"""From EVAD's detections to people and what they do."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.detection._outputs import Detections


class Persons(NamedTuple):
    """The people of one key frame, in the order of the proposals."""

    boxes: Tensor  # (P, 4) float32 xyxy as shares of the image's width and height, within [0, 1]
    person_scores: Tensor  # (P,) float32 in [0, 1]
    action_scores: Tensor  # (P, classes) float32 in [0, 1], not weighted by the person's score
    proposals: Tensor  # (P,) int64: which proposals they are


@torch.no_grad()
def decode(
    detections: Detections, threshold: float = 0.7, multi_label: bool = True
) -> list[Persons]:
    """The people of each clip: the proposals that are one, or all where none is.

    Boxes end at the image's last pixel, one before its size.

    Args:
        detections: of the model; the last stage and block count.
        threshold: the least probability of a person, from 0 to 1; 0 gives all proposals, for the
            average precision of persons.
        multi_label: actions are sigmoids; without it a softmax over classes.

    Raises:
        ValueError: a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"decode: threshold: found {threshold}; allowed: 0 to 1")
    sizes = detections.sizes.float().flip(1).repeat(1, 2)[:, None]  # (B, 1, 4): w, h, w, h
    boxes = torch.minimum(detections.boxes[-1].float().clamp(min=0), sizes - 1).clamp(min=0) / sizes
    scores = detections.person_logits[-1].float().softmax(-1)[..., 0]
    logits = detections.action_logits[-1].float()
    actions = logits.sigmoid() if multi_label else logits.softmax(-1)
    people = []
    for index in range(len(boxes)):
        chosen = scores[index] >= threshold
        if not bool(chosen.any()):
            chosen = torch.ones_like(chosen)
        people.append(
            Persons(
                boxes[index, chosen],
                scores[index, chosen],
                actions[index, chosen],
                chosen.nonzero()[:, 0],
            )
        )
    return people
