"""The report's ladder on the figures, three seeds and equal budgets: the cascade above the
baseline, the refinement not below the cascade.

Needs the figures with their parts stored and annotated below KINOGRAPH_STORAGE (`kinograph run`
leaves them there); takes 9 trainings. `KINOGRAPH_LADDER_EPOCHS` makes them shorter or longer than
the recipes say.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import configs
from configs.schema.parsing import ParsingRecipe
from ops.data.errors import DataError
from ops.store.layout import Layout
from ops.tasks.parsing.task import build
from ops.training.loop import fit

pytestmark = [pytest.mark.bench, pytest.mark.timeout(4 * 3600)]
STEPS = ("baseline", "cascade", "refine")
SEEDS = (0, 1, 2)


def score(step: str, seed: int, layout: Layout) -> float:
    """Acc^p, with every action right, after the last epoch."""
    recipe = configs.load(f"apct_tiny_figures_{step}")
    assert isinstance(recipe, ParsingRecipe)
    epochs = int(os.environ.get("KINOGRAPH_LADDER_EPOCHS", recipe.training.epochs))
    training = recipe.training.model_copy(
        update={"seed": seed, "epochs": epochs, "evaluate_every": epochs}
    )
    recipe = recipe.model_copy(update={"training": training})
    torch.set_num_threads(max(1, os.cpu_count() or 1))
    state = fit(build(recipe, layout, configs.dataset(recipe.dataset)), recipe.scale)
    return state.history[-1]["acc_p"]


def test_each_step_of_the_ladder_is_worth_it() -> None:
    layout = Layout(configs.settings().storage)
    try:
        build(configs.load("apct_tiny_figures"), layout, configs.dataset("figures")).check()
    except DataError as error:
        pytest.skip(f"no figures to train on: {error}")
    found = {step: [score(step, seed, layout) for seed in SEEDS] for step in STEPS}
    for step, values in found.items():
        print(
            f"\n{step:>9}: {np.mean(values):.3f} "
            f" ({', '.join(f'{value:.3f}' for value in values)})",
            end="",
        )
    means = [float(np.mean(found[step])) for step in STEPS]
    assert means[0] < means[1] <= means[2]
