"""Assignment against all that there are, and its bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.blocks.set_matching import assign


@pytest.mark.parametrize("shape", [(2, 2), (6, 3), (3, 6)])
def test_the_pairs_are_the_cheapest_of_all(shape: tuple[int, int]) -> None:
    for seed in range(20):
        cost = np.random.default_rng(seed).integers(0, 9, size=shape).astype(float)
        rows, columns = assign(cost)
        tall = cost if shape[0] >= shape[1] else cost.T
        least = min(
            tall[list(rows), range(tall.shape[1])].sum()
            for rows in itertools.permutations(range(len(tall)), tall.shape[1])
        )
        assert (
            cost[rows, columns].sum() == least
            and (np.diff(rows) > 0).all()
            and len(set(columns)) == min(shape)
        )


def test_nobody_to_assign() -> None:
    assert [len(one) for one in assign(np.empty((5, 0)))] == [0, 0]


def test_a_cost_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        assign(np.array([[0.0, np.nan]]))
