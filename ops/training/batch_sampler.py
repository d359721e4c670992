"""Which samples make which batch: the same for one worker and for many.

With repeated augmentation (Hoffer et al., "Augment your batch", 2020) an item holds all copies of
its sample, each augmented in its own way, so that its frames are read once. The copies count in the
recipe's batch size: an index stands for all of them.
"""

from __future__ import annotations

import numpy as np

from configs.schema import ConfigError, Recipe

Shares = list[list[int]]  # micro-batches of one rank


class BatchPlan:
    """Splits every epoch's shuffled samples into global batches, these into micro-batches, and
    these among the ranks.

    The order depends on seed and epoch alone. The incomplete last batch is left out as long as
    there is a full one; fewer samples than a batch make one batch. Every sample goes to exactly one
    rank. `batch_size` is the number of different samples in a global batch, `copies` how often each
    of them is in it.
    """

    def __init__(self, recipe: Recipe, num_samples: int, rank: int, world_size: int) -> None:
        training, where = recipe.training, f"recipe '{recipe.name}'"
        self.copies = copies = training.repeated_augmentation
        if training.batch_size % (copies * training.accumulate * world_size):
            several = f"{copies} copies, " if copies > 1 else ""
            found = (
                f"{training.batch_size} over {several}{training.accumulate} accumulation steps and"
                f" {world_size} workers"
            )
            allowed = (
                f"a multiple of {'repeated_augmentation x ' if several else ''}accumulate x"
                " scale.num_workers"
            )
            raise ConfigError(where, "training.batch_size", found, allowed)
        if num_samples < world_size:
            raise ConfigError(
                where,
                "scale.num_workers",
                world_size,
                f"at most {num_samples}, the training samples",
            )
        self.seed, self.num_samples = training.seed, num_samples
        self.rank, self.world_size = rank, world_size
        self.batch_size = min(training.batch_size // copies, num_samples)
        self.micro_steps = max(1, min(training.accumulate, self.batch_size // world_size))
        self.steps = num_samples // self.batch_size

    def epoch(self, epoch: int) -> list[Shares]:
        """This rank's micro-batches, step by step."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
        batches = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)
        return [
            [self._own(micro) for micro in np.array_split(batch, self.micro_steps)]
            for batch in batches
        ]

    def _own(self, micro: np.ndarray) -> list[int]:
        return np.array_split(micro, self.world_size)[self.rank].tolist()


def evaluation_batches(num_samples: int, batch_size: int, rank: int, world_size: int) -> Shares:
    """This rank's samples in order, every `world_size`-th one, in batches.

    Args:
        num_samples: of all ranks together.
        batch_size: of one rank.
        rank: this process's, 0..world_size-1.
        world_size: number of ranks.
    """
    own = list(range(rank, num_samples, world_size))
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
