"""One rank of a tiny localization training, also as a process of its own: `localization_ranks.py
FOLDER RANK WORLD_SIZE`.

The world, its YAML files included, lies in FOLDER already.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import localization_world
from configs.schema import Scale
from ops.store.layout import Layout
from ops.training.loop import fit
from ops.training.task import build


def train(folder: Path, rank: int, world_size: int) -> dict:
    """Train the world's recipe in equal shares; weights and every step's loss, as this rank sees
    them.
    """
    import configs

    optimizer = {"name": "sgd", "lr": 0.02}  # Adam would blow up the rounding of gradients near 0
    recipe = localization_world.recipe(optimizer=optimizer)
    task = build(recipe, Layout(str(folder / "storage")), configs.dataset("own"))
    steps: list[float] = []
    normalisers: list[float] = []
    state = fit(
        task,
        Scale(num_workers=world_size),
        rank=rank,
        world_size=world_size,
        on_step=lambda report: (
            steps.append(report.loss),
            normalisers.append(task.state_dict()["normaliser"]),
        ),
    )
    keys = ("loss", "classification", "regression", "positives", "mean_ap")
    history = [[row.get(key, 0.0) for key in keys] for row in state.history]
    return {
        "weights": state.model,
        "average": state.weights,
        "history": history,
        "normalisers": normalisers,
        "last": state.task["normaliser"],
    }


def main(folder: Path, rank: int, world_size: int) -> None:
    """Train and write the result."""
    torch.set_num_threads(1)
    patience = timedelta(seconds=200)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world_size,
        timeout=patience,
    )
    torch.save(train(folder, rank, world_size), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ["KINOGRAPH_CONFIGS"] = str(Path(sys.argv[1]) / "configs")
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
