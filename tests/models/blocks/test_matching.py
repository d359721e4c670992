"""Assignment against scipy's, and its bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from models.blocks.matching import assign


@pytest.mark.parametrize("shape", [(1, 1), (100, 7), (7, 100), (40, 40), (5, 0), (0, 5), (300, 20)])
def test_the_pairs_are_those_of_scipy(shape: tuple[int, int]) -> None:
    for seed in range(20):
        cost = np.random.default_rng(seed).normal(size=shape)
        for found, expected in zip(assign(cost), linear_sum_assignment(cost), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_equal_costs_still_give_an_optimum() -> None:
    for seed in range(50):
        cost = np.random.default_rng(seed).integers(0, 4, size=(12, 9)).astype(float)
        rows, columns = assign(torch.from_numpy(cost))
        assert cost[rows, columns].sum() == cost[linear_sum_assignment(cost)].sum()
        assert len(set(rows)) == len(set(columns)) == 9


def test_a_cost_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        assign(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match="shape"):
        assign(np.zeros(3))
