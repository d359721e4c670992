"""One rank of a tiny regression, also as a process of its own: `regression_ranks.py FOLDER RANK
WORLD_SIZE`.

Its task knows nothing of clips or labels, so it also shows that the loop does not either.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from configs.schema import Gate, Optimizer, Recipe, Scale, Schedule, Training
from ops.training.loop import fit

COUNTS = (16, 5)  # two full batches of 8; less than one
RECIPE = Recipe(
    name="line",
    task="localization",
    family="line",
    about="a test",
    dataset="none",
    num_classes=1,
    model={},
    optimizer=Optimizer(name="sgd", lr=0.05, clip_grad_norm=1.0),
    schedule=Schedule(kind="constant"),
    training=Training(epochs=3, batch_size=8, accumulate=2),
    gate=Gate(metric="near", floor=0.0, registered_model="line"),
)


class Points:
    """y = 2 x + 1 with a sample's own noise."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch, self.seen = count, 0, []

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[float, float]:
        self.seen.append((self.epoch, index))
        return index / 10, 2 * index / 10 + 1 + ((index * 7919) % 13) / 50


class Nearness:
    """Share of predictions within 1."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def update(self, rows: Any) -> None:
        self.rows += rows

    def compute(self) -> dict[str, float]:
        assert len(self.rows) == 7
        errors = [row["error"] for row in self.rows]
        # another number for rows in another order
        order = sum(place * error for place, error in enumerate(errors))
        return {"near": sum(error < 1 for error in errors) / 7, "sum": sum(errors), "order": order}


class Line:
    """The task."""

    recipe = RECIPE

    def __init__(self, count: int) -> None:
        self.train, self.val = Points(count), Points(7)
        self.steps = 0

    def samples(self, split: str, mode: str) -> Points:
        return self.train if split == "train" else self.val

    def collate(self, items: list[Any]) -> torch.Tensor:
        return torch.tensor(items)

    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def losses(self, model: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        self.steps += 1
        return {"loss": ((model(batch[:, :1]) - batch[:, 1:]) ** 2).mean()}

    def predict(self, model: nn.Module, batch: torch.Tensor) -> list[dict[str, float]]:
        return [
            {"error": error}
            for error in (model(batch[:, :1]) - batch[:, 1:]).abs().flatten().tolist()
        ]

    def metric(self, split: str) -> Nearness:
        return Nearness()

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Any) -> None:
        self.steps = state["steps"]


def train(count: int, rank: int, world_size: int) -> dict[str, Any]:
    """Train on `count` samples and return what this rank saw."""
    task = Line(count)
    state = fit(task, Scale(num_workers=world_size), rank=rank, world_size=world_size)  # type: ignore[arg-type]
    return {
        "weights": [float(tensor) for tensor in state.model.values()],
        "losses": [row["loss"] for row in state.history],
        "metric": [state.history[-1][name] for name in ("near", "sum", "order")],
        "seen": [list(pair) for pair in task.train.seen],
    }


def main(folder: Path, rank: int, world_size: int) -> None:
    """Train on each number of samples and write the results."""
    patience = timedelta(seconds=200)  # with a rank that has died
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world_size,
        timeout=patience,
    )
    results = {count: train(count, rank, world_size) for count in COUNTS}
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
