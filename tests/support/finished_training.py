"""The folder of a finished training, made without one."""

from __future__ import annotations

from typing import Any

from safetensors.torch import save as to_safetensors

import models
from ops.files.storage import write_bytes
from ops.store.layout import Layout
from ops.training.run_folder import WEIGHTS, TrainResult, finish, plan_run
from ops.training.task import build


def have_trained(
    recipe: Any, layout: Layout, history: list[dict[str, float]] | None = None
) -> TrainResult:
    """The folder of a finished training of the recipe, with the weights that it began with."""
    plan, task = plan_run(recipe, layout), build(recipe, layout)
    weights = {
        name: tensor.contiguous() for name, tensor in models.build(recipe).state_dict().items()
    }
    write_bytes(f"{plan.run_dir}/{WEIGHTS}", to_safetensors(weights))
    uri = f"{plan.run_dir}/{WEIGHTS}"
    result = TrainResult(
        plan.run_dir,
        plan.run_key,
        uri,
        None,
        plan.data_version,
        {"top1": 0.3},
        3,
        1.0,
        None,
        history or [],
    )
    finish(result, recipe, task.vocabulary(), task.provenance())
    return result
