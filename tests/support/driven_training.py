"""One training as a process of its own, to be killed: `driven_training.py ROOT EPOCHS LOG`. Notes
every logged epoch in the file LOG.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

import clip_world as world


class FileLogger:
    """Appends epochs to a file."""

    run_id = "run-1"

    def __init__(self, path: str) -> None:
        self.path = path

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps([epoch, metrics["loss"]]) + "\n")

    def system_metrics(self) -> AbstractContextManager[None]:
        return nullcontext()


def main(root: str, epochs: int, log: str) -> None:
    """Train, and print the result as the last line."""
    from configs.settings import Settings
    from ops.store.layout import Layout
    from ops.training.ray_train import train

    settings = Settings(
        storage=root, tracking_uri="sqlite:///unused", home=Path(log).parent, ray_address=None
    )
    # of the three of an epoch
    recipe = world.recipe(training={"epochs": epochs}, scale={"checkpoint_every_steps": 2})
    result = train(recipe, Layout(root), settings, FileLogger(log), dataset=world.DATASET)
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
