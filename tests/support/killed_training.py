"""One rank of a training as a process of its own, to be killed: `killed_training.py ROOT FOLDER
RANK WORLD_SIZE ATTEMPT CHANGES`.

Goes on from the state in the folder, keeps that up to date in the middle of epochs only, and leaves
`final-<rank>.pt` in the end.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import clip_world as world


def main(root: str, folder: Path, rank: int, world_size: int, attempt: str, changes: dict) -> None:
    """Train to the end."""
    from ops.store.layout import Layout
    from ops.training.checkpoint import FILE, load_state
    from ops.training.loop import fit
    from ops.training.task import build

    torch.set_num_threads(1)
    if world_size > 1:
        meeting = f"file://{folder}/meeting-{attempt}"
        dist.init_process_group(
            "gloo",
            init_method=meeting,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=100),
        )
    recipe = world.recipe(**changes)
    start = load_state(folder, recipe.key()) if (folder / FILE).exists() else None
    state = fit(
        build(recipe, Layout(root), world.DATASET),
        recipe.scale,
        rank=rank,
        world_size=world_size,
        start=start,
        on_checkpoint=lambda report, save: save(folder),
    )
    began = (start.epoch, start.step_in_epoch) if start else (0, 0)
    torch.save(
        {
            "weights": state.weights,
            "losses": [row["loss"] for row in state.history],
            "began": began,
        },
        folder / f"final-{rank}.pt",
    )


if __name__ == "__main__":
    root_, folder_, rank_, world_size_, attempt_, changes_ = sys.argv[1:]
    main(root_, Path(folder_), int(rank_), int(world_size_), attempt_, json.loads(changes_))
