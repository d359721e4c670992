"""One rank of a tiny detection training, also as a process of its own: `detection_ranks.py FOLDER
STORE RANK WORLD_SIZE`.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import key_frame_world as scenes
from ops.store.layout import Layout
from ops.tasks.detection.task import build
from ops.training.loop import fit


def train(store: str, rank: int, world_size: int) -> dict[str, Any]:
    """Train for an epoch with plain gradient descent, so that the change of the weights is the sum
    of the gradients.
    """
    recipe = scenes.recipe(
        optimizer={
            "name": "sgd",
            "lr": 0.01,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "clip_grad_norm": None,
        },
        training={"epochs": 1, "batch_size": 6},
        schedule={"kind": "constant", "warmup_epochs": 0},
    )
    task = build(recipe, Layout(store), scenes.DATASET)
    torch.manual_seed(0)
    steps: list[float] = []
    state = fit(
        task,
        recipe.scale,
        rank=rank,
        world_size=world_size,
        on_step=lambda report: steps.append(report.loss),
    )
    sums = [
        float(tensor.double().abs().sum())
        for _, tensor in sorted(state.model.items())
        if tensor.is_floating_point()
    ]
    return {
        "losses": [state.history[-1]["loss"]],
        "gradients": sums,
        "metric": state.history[-1]["frame_map"],
    }


def main(folder: Path, store: str, rank: int, world_size: int) -> None:
    """Train and write the results."""
    patience = timedelta(seconds=200)  # with a rank that has died
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world_size,
        timeout=patience,
    )
    torch.set_num_threads(1)
    result = train(store, rank, world_size)
    (folder / f"{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
