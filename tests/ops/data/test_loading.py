"""Batches ahead of time: order, errors, early ends, and processes that give the same."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import default_collate

from ops.data.clips import ClipDataset, load_clips
from ops.data.loading import AHEAD, Loader
from ops.store.layout import Layout


class Numbers:
    """Items are their index; one of them fails; counts what was asked."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad, self.asked = bad, 0

    def __getitem__(self, index: int) -> int:
        self.asked += 1
        if index == self.bad:
            raise ValueError(f"item {index} is bad")
        return index


def test_batches_come_in_order_epoch_after_epoch() -> None:
    loader = Loader(Numbers(), list)
    for batches in ([[0, 1], [5], [3, 2]], [[9]], []):
        assert list(loader.epoch(batches)) == batches
    loader.close()


def test_an_error_is_raised_at_its_batch() -> None:
    found = []
    with pytest.raises(ValueError, match="item 4 is bad"):
        for batch in Loader(Numbers(bad=4), list).epoch([[0], [1], [4], [5]]):
            found.append(batch)
    assert found == [[0], [1]]


def test_the_thread_works_a_few_batches_ahead_and_ends_with_its_consumer() -> None:
    numbers = Numbers()
    batches = Loader(numbers, list).epoch([[index] for index in range(100)])
    assert next(batches) == [0]
    until = time.monotonic() + 30
    while numbers.asked <= AHEAD and time.monotonic() < until:  # nobody asks for more meanwhile
        time.sleep(0.01)
    assert numbers.asked > AHEAD
    time.sleep(0.2)
    assert numbers.asked <= AHEAD + 2
    batches.close()
    assert "batches" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.slow  # two processes import torch
def test_loader_processes_give_the_same_batches(world, stored: Layout, tmp_path: Path) -> None:
    recipe = world.recipe()
    clips = load_clips(stored, world.DATASET).clips["train"]
    results = []
    for workers in (0, 2):
        samples = ClipDataset(clips, recipe.sampling, recipe.transforms, seed=1)
        loader = Loader(samples, default_collate, workers)  # not a function of this file: processes cannot import it
        epochs = []
        for epoch in (1, 2):
            samples.set_epoch(epoch)  # has to reach processes that already run
            epochs.append(np.concatenate([batch["frames"] for batch in loader.epoch([[3, 1], [0, 2], [7, 5]])]))
        loader.close()
        results.append(np.stack(epochs))
    assert np.array_equal(*results)
    assert not np.array_equal(results[0][0], results[0][1])
