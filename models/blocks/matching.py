"""One-to-one assignment of predictions to targets at the least total cost."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def assign(cost: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (rows, columns) int64 [min(R, C)] of the least total cost of a matrix (R, C), rows ascending.

    Shortest augmenting paths with dual variables (Crouse, IEEE TAES 2016), in float64; the exact optimum, as
    `scipy.optimize.linear_sum_assignment` finds it. Raises ValueError for a cost that is not finite.
    """
    matrix = np.asarray(cost.detach().cpu() if isinstance(cost, Tensor) else cost, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        bad = "values that are not finite" if matrix.ndim == 2 else f"shape {matrix.shape}"
        raise ValueError(f"assignment cost: found {bad}; allowed: a finite matrix (R, C)")
    tall = matrix.shape[0] > matrix.shape[1]
    columns = _cheapest_columns(np.ascontiguousarray(matrix.T if tall else matrix))
    rows = np.arange(len(columns))
    if not tall:
        return rows, columns
    order = np.argsort(columns)
    return columns[order], rows[order]


def _cheapest_columns(cost: np.ndarray) -> np.ndarray:
    """Each row's column in the optimum of a matrix that is no taller than wide."""
    num_rows, num_columns = cost.shape
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    column_of, row_of = np.full(num_rows, -1, np.int64), np.full(num_columns, -1, np.int64)
    for start in range(num_rows):
        distance, before = np.full(num_columns, np.inf), np.full(num_columns, -1, np.int64)
        open_, row, reached = np.ones(num_columns, bool), start, 0.0
        passed = []  # rows on the way, the start left out
        while row >= 0:
            through = reached + cost[row] - row_price[row] - column_price
            nearer = open_ & (through < distance)
            distance[nearer], before[nearer] = through[nearer], row
            column = int(np.where(open_, distance, np.inf).argmin())
            reached, open_[column] = distance[column], False
            row = row_of[column]
            passed.append(row)
        row_price[start] += reached
        way = np.array(passed[:-1], np.int64)
        row_price[way] += reached - distance[column_of[way]]
        column_price[~open_] -= reached - distance[~open_]
        while column >= 0:  # turn the path over: each of its rows takes the column that led on
            row = before[column]
            row_of[column], column_of[row], column = row, column, column_of[row]
            if row == start:
                break
    return column_of
