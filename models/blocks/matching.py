"""One-to-one assignment of predictions to targets at the least total cost."""

from __future__ import annotations

import numpy as np


def assign(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (rows, columns) int64 [min(R, C)] of the least total cost of a matrix (R, C), rows ascending.

    Raises ValueError for a cost that is not finite, which an assignment may hold otherwise where it has to.
    """
    from scipy.optimize import linear_sum_assignment

    if not np.isfinite(cost).all():
        raise ValueError("assignment cost: found values that are not finite; allowed: a finite matrix (R, C)")
    return linear_sum_assignment(cost)
