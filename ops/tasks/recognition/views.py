"""One score per clip from a network's answers to its views; training, evaluation and serving share
it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ops.tasks.recognition.metric import Average, average_views

VIEWS_AT_ONCE = 16
# of all frames of the views that are in the network together: 16 views of 16 frames
PIXELS_AT_ONCE = 256 * 224 * 224


def views_at_once(views: Tensor) -> int:
    """How many of the views (N, 3, T, H, W) go through the network together: at most 16, fewer of
    long or large ones, at least one.
    """
    frames, height, width = views.shape[2:]
    return max(1, min(VIEWS_AT_ONCE, PIXELS_AT_ONCE // max(1, frames * height * width)))


def view_scores(model: nn.Module, views: Tensor, num_views: int, average: Average) -> np.ndarray:
    """Scores float32 [N, classes] of views, averaged as named.

    They go through the network in portions, so that ten clips of three crops need no more memory
    there than one portion.

    Args:
        model: for 'feature' it must have `features` and `classify`.
        views: (N * num_views, 3, T, S, S), consecutive ones of one clip.
        num_views: of each clip.
        average: as `average_views` takes it; 'feature' averages before the classifier.
    """
    network: Any = model
    parts = views.split(views_at_once(views))
    if average == "feature":
        features = torch.cat([network.features(part) for part in parts])
        logits = network.classify(features.unflatten(0, (-1, num_views)).mean(1))
    else:
        logits = torch.cat([network(part) for part in parts])
    return average_views(logits.float().cpu().numpy(), num_views, average)
