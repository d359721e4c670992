"""What a family's network makes of the machine: arithmetic per second, over that of a large float32
matrix product in the same process.

One published configuration of middle size each, one clip as its test sees it, on all CPUs or
OMP_NUM_THREADS of them.
"""

from __future__ import annotations

import pytest

from configs.schema import Recipe
from ops.benchmarks.speed import line_of, recipes_of, usable_threads, usage_of


@pytest.mark.bench
@pytest.mark.parametrize("recipe", recipes_of(), ids=lambda recipe: recipe.family)
def test_share_of_the_peak(recipe: Recipe) -> None:
    usage = usage_of(recipe, usable_threads())
    print("\n" + line_of(usage))
    assert usage.forward_share >= usage.bound.share
