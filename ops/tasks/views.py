"""One score per clip from a network's answers to its views; training, evaluation and serving share it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ops.metrics.recognition import Average, average_views

VIEWS_AT_ONCE = 16  # the views of a batch's clips go through the network in portions


def view_scores(model: nn.Module, views: Tensor, num_views: int, average: Average) -> np.ndarray:
    """Scores float32 [N, classes] of views (N * num_views, 3, T, S, S), consecutive ones of one clip, averaged as named.

    'feature' averages before the classifier: the model must have `features` and `classify`.
    """
    network: Any = model
    parts = views.split(VIEWS_AT_ONCE)
    if average == "feature":
        features = torch.cat([network.features(part) for part in parts])
        logits = network.classify(features.unflatten(0, (-1, num_views)).mean(1))
    else:
        logits = torch.cat([network(part) for part in parts])
    return average_views(logits.float().cpu().numpy(), num_views, average)
