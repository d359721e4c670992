"""From a detection model's answer to persons as arrays: what training, evaluation and serving have
in common.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from configs.schema import DetectionRecipe
from ops.training.task import family_of

# what a family exports beside Config, TINY and build
FAMILY = ("Criterion", "Target", "counts", "decode")


class Persons(NamedTuple):
    """Persons of a key frame: `boxes` float32 [P, 4] xyxy as shares of the frame, `person_scores`
    [P], `scores` [P, classes].
    """

    boxes: np.ndarray
    person_scores: np.ndarray
    scores: np.ndarray

    def sorted(self) -> Persons:
        """Surest first; equal ones keep their order."""
        order = np.argsort(-self.person_scores, kind="stable")
        return Persons(*(column[order] for column in self))

    def chosen(self, threshold: float) -> Persons:
        """Those at least this sure; all where none is."""
        sure = self.person_scores >= threshold
        return Persons(*(column[sure] for column in self)) if sure.any() else self


def criterion_of(recipe: DetectionRecipe) -> Any:
    """The family's criterion with the recipe's weights."""
    return family_of(recipe, *FAMILY).Criterion(recipe.weights, multi_label(recipe))


def multi_label(recipe: DetectionRecipe) -> bool:
    """Whether a person may do several things at once, as the model section says."""
    return bool(recipe.model.get("multi_label", True))


def proposals(
    model: nn.Module, clips: Tensor, sizes: Tensor, recipe: DetectionRecipe
) -> list[Persons]:
    """All proposals of each clip, person or not.

    Args:
        model: on the clips' device.
        clips: (B, 3, T, H, W), as `padded` makes them.
        sizes: (B, 2), h and w without padding.
        recipe: its `detecting` says how scores are joined.
    """
    family = family_of(recipe, *FAMILY)
    found = family.decode(model(clips, sizes), 0.0, multi_label(recipe))
    result = []
    for one in found:
        scores = (
            one.action_scores * one.person_scores[:, None]
            if recipe.detecting.times_person
            else one.action_scores
        )
        result.append(
            Persons(
                *(column.float().cpu().numpy() for column in (one.boxes, one.person_scores, scores))
            )
        )
    return result


@torch.inference_mode()
def detected(
    model: nn.Module, clips: Tensor, sizes: Tensor, recipe: DetectionRecipe
) -> list[Persons]:
    """The persons of each clip by the recipe's threshold."""
    return [
        found.chosen(recipe.detecting.person_threshold)
        for found in proposals(model, clips, sizes, recipe)
    ]
