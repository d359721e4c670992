"""One rank of a tiny parsing training, also as a process of its own: `parsing_ranks.py FOLDER PEOPLE_FILE RANK WORLD_SIZE`."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file

# Norms that stay: statistics of a batch are each rank's own.
FROZEN = {"norm": "frozen"}


def train(people: Any, root: str, rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Weights after two epochs, and the losses of each."""
    from configs.schema import Scale
    from ops.store.layout import Layout
    from ops.tasks.parsing import build
    from ops.training.loop import fit

    recipe = people.recipe(model=FROZEN, training={"evaluate_every": 9})
    task = build(recipe, Layout(root), people.DATASET)
    state = fit(task, Scale(num_workers=world_size), rank=rank, world_size=world_size)  # type: ignore[arg-type]
    losses = torch.tensor([[row[name] for name in ("loss", "box", "part", "state", "refined")] for row in state.history])
    return {**{name: tensor.clone() for name, tensor in state.model.items()}, "losses": losses}


def main(folder: Path, people_file: str, rank: int, world_size: int) -> None:
    """Train and write the result."""
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("tiny_people", people_file)
    assert spec is not None and spec.loader is not None
    people = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(people)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size, timeout=timedelta(seconds=200))
    save_file(train(people, str(folder / "store"), rank, world_size), str(folder / f"{rank}.safetensors"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
