"""One rank of a tiny parsing training, also as a process of its own: `parsing_ranks.py FOLDER RANK
WORLD_SIZE`.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

import part_world as people

# Norms that stay: statistics of a batch are each rank's own.
FROZEN = {"norm": "frozen"}


def train(root: str, rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Weights after two epochs, and the losses of each."""
    from configs.schema import Scale
    from ops.store.layout import Layout
    from ops.tasks.parsing.task import build
    from ops.training.loop import fit

    recipe = people.recipe(model=FROZEN, training={"evaluate_every": 9})
    task = build(recipe, Layout(root), people.DATASET)
    state = fit(task, Scale(num_workers=world_size), rank=rank, world_size=world_size)  # type: ignore[arg-type]
    losses = torch.tensor(
        [
            [row[name] for name in ("loss", "box", "part", "state", "refined")]
            for row in state.history
        ]
    )
    return {**{name: tensor.clone() for name, tensor in state.model.items()}, "losses": losses}


def main(folder: Path, rank: int, world_size: int) -> None:
    """Train and write the result."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group(
        "gloo",
        init_method=meeting,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=200),
    )
    save_file(train(str(folder / "store"), rank, world_size), str(folder / f"{rank}.safetensors"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
