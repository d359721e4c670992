"""Which samples make which batch: the same for one worker and for many."""

from __future__ import annotations

import numpy as np

from configs.schema import ConfigError, Recipe

Shares = list[list[int]]  # micro-batches of one rank


class BatchPlan:
    """Splits every epoch's shuffled samples into global batches, these into micro-batches, and these among the ranks.

    The order depends on seed and epoch alone. The incomplete last batch is left out as long as there is a full one; fewer
    samples than a batch make one batch. Every sample goes to exactly one rank.
    """

    def __init__(self, recipe: Recipe, num_samples: int, rank: int, world_size: int) -> None:
        training = recipe.training
        if training.batch_size % (training.accumulate * world_size):
            found = f"{training.batch_size} over {training.accumulate} accumulation steps and {world_size} workers"
            raise ConfigError(f"recipe '{recipe.name}'", "training.batch_size", found, "a multiple of accumulate x scale.num_workers")
        if num_samples < world_size:
            raise ConfigError(f"recipe '{recipe.name}'", "scale.num_workers", world_size, f"at most {num_samples}, the training samples")
        self.seed, self.num_samples = training.seed, num_samples
        self.rank, self.world_size = rank, world_size
        self.batch_size = min(training.batch_size, num_samples)
        self.micro_steps = max(1, min(training.accumulate, self.batch_size // world_size))
        self.steps = num_samples // self.batch_size

    def epoch(self, epoch: int) -> list[Shares]:
        """This rank's micro-batches, step by step."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
        batches = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)
        return [[self._own(micro) for micro in np.array_split(batch, self.micro_steps)] for batch in batches]

    def _own(self, micro: np.ndarray) -> list[int]:
        return np.array_split(micro, self.world_size)[self.rank].tolist()


def evaluation_batches(num_samples: int, batch_size: int, rank: int, world_size: int) -> Shares:
    """This rank's samples in order, every `world_size`-th one, in batches."""
    own = list(range(rank, num_samples, world_size))
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
