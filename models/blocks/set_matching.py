"""Sets of predictions against sets of truths of other sizes: all decoder layers and images at once,
but for the assignment itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Matches(NamedTuple):
    """The pairs of all layers and images, int64 (M,) each, in the order of layer, image, query."""

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor


def side_by_side(rows: Sequence[Tensor]) -> Tensor:
    """Tensors (G_b, ...) of B images -> (B, max G, ...), filled up with zeros."""
    most = max((len(row) for row in rows), default=0)
    out = rows[0].new_zeros((len(rows), most, *rows[0].shape[1:]))
    for image, row in enumerate(rows):
        out[image, : len(row)] = row
    return out


def assign(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (rows, columns) int64 [min(R, C)] of the least total cost of a matrix (R, C), rows
    ascending.

    Raises ValueError for a cost that is not finite, which an assignment may hold otherwise where it
    has to.
    """
    from scipy.optimize import linear_sum_assignment

    if not np.isfinite(cost).all():
        raise ValueError(
            "assignment cost: found values that are not finite; allowed: a finite matrix (R, C)"
        )
    return linear_sum_assignment(cost)


@torch.no_grad()
def match(cost: Tensor, numbers: Sequence[int]) -> Matches:
    """The cheapest one-to-one pairs of each layer and image, with one transfer to the CPU for all
    of them.

    Args:
        cost: (L, B, Q, max G) of every query and target; what stands beyond an image's targets is
            not read.
        numbers: how many targets each of the B images has.

    Raises:
        ValueError: a cost that is not finite.

    >>> found = match(torch.tensor([[[[3.0, 1.0], [2.0, 9.0], [5.0, 5.0]]]]), [2])
    >>> found.query.tolist(), found.target.tolist()
    ([0, 1], [1, 0])
    """
    layers, images = cost.shape[:2]
    matrices = cost.float().cpu().numpy()
    found = []
    for layer in range(layers):
        for image in range(images):
            queries, targets = assign(matrices[layer, image, :, : numbers[image]])
            pair = np.empty((4, len(queries)), np.int64)
            pair[0], pair[1], pair[2], pair[3] = layer, image, queries, targets
            found.append(pair)
    joined = np.concatenate(found, 1) if found else np.empty((4, 0), np.int64)
    layer_, image_, query, target = torch.from_numpy(joined).to(cost.device)
    return Matches(layer_, image_, query, target)


def per_layer(values: Tensor, matches: Matches, layers: int) -> Tensor:
    """Sums of what the matches cost, layer by layer.

    Args:
        values: (M,), one for each match.
        matches: says which layer each is of.
        layers: L, also where the last ones have no match.

    Returns:
        (L,).
    """
    return values.new_zeros(layers).index_add(0, matches.layer, values)
