"""Batches: every sample once, the same global batches for any number of ranks."""

from __future__ import annotations

import pytest

from configs.schema import ConfigError
from ops.training.batch_sampler import BatchPlan, evaluation_batches


def plans(world, samples: int, world_size: int, **training) -> list[BatchPlan]:
    recipe = world.recipe(training=training)
    return [BatchPlan(recipe, samples, rank, world_size) for rank in range(world_size)]


def batches(world, samples: int, world_size: int, epoch: int = 1, **training) -> list[set[int]]:
    """The global batches, put together from all ranks."""
    shares = [plan.epoch(epoch) for plan in plans(world, samples, world_size, **training)]
    found = []
    for step in zip(*shares, strict=True):
        flat = [index for share in step for micro in share for index in micro]
        assert len(flat) == len(set(flat))
        found.append(set(flat))
    return found


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("samples", [8, 21, 64, 5, 3])
def test_ranks_share_the_batches_of_one_rank(world, samples: int, accumulate: int) -> None:
    alone = batches(world, samples, 1, batch_size=8, accumulate=accumulate)
    for world_size in (2, 4):
        if samples >= world_size:
            assert batches(world, samples, world_size, batch_size=8, accumulate=accumulate) == alone
    assert len(alone) == max(1, samples // 8)
    assert all(len(batch) == min(8, samples) for batch in alone)
    assert len(set().union(*alone)) == len(alone) * min(8, samples)


def test_no_rank_is_ever_without_a_sample(world) -> None:
    for plan in plans(world, 5, 4, batch_size=16, accumulate=4):
        assert [len(micro) > 0 for step in plan.epoch(1) for micro in step] == [True]


def test_the_order_changes_with_epoch_and_seed_alone(world) -> None:
    first = plans(world, 32, 1, batch_size=8, seed=1)[0]
    assert first.epoch(1) == plans(world, 32, 1, batch_size=8, seed=1)[0].epoch(1)
    assert first.epoch(1) != first.epoch(2)
    assert first.epoch(1) != plans(world, 32, 1, batch_size=8, seed=2)[0].epoch(1)


def test_micro_batches_are_shares_of_the_batch(world) -> None:
    plan = plans(world, 16, 2, batch_size=8, accumulate=2)[0]
    assert [[len(micro) for micro in step] for step in plan.epoch(1)] == [[2, 2], [2, 2]]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_copies_of_a_sample_count_in_the_batch_size(world, accumulate: int) -> None:
    """An index stands for all copies, which one item holds."""
    plan = plans(world, 20, 2, batch_size=16, repeated_augmentation=2, accumulate=accumulate)[0]
    assert (plan.batch_size, plan.copies, plan.steps) == (8, 2, 2)
    alone = batches(world, 20, 1, batch_size=16, repeated_augmentation=2, accumulate=accumulate)
    assert (
        batches(world, 20, 2, batch_size=16, repeated_augmentation=2, accumulate=accumulate)
        == alone
    )
    assert [len(batch) for batch in alone] == [8, 8] and len(set().union(*alone)) == 16
    with pytest.raises(
        ConfigError,
        match=(
            r"found '8 over 3 copies, 1 accumulation steps and 1 workers'; allowed:"
            r" .*repeated_augmentation x"
        ),
    ):
        plans(world, 20, 1, batch_size=8, repeated_augmentation=3)


def test_evaluation_takes_every_sample_once() -> None:
    found = [evaluation_batches(11, 4, rank, 3) for rank in range(3)]
    assert sorted(index for batches in found for batch in batches for index in batch) == list(
        range(11)
    )
    assert max(len(batch) for batches in found for batch in batches) == 4


def test_what_cannot_be_shared_is_named(world) -> None:
    with pytest.raises(
        ConfigError,
        match=r"training\.batch_size.*found '8 over 2 accumulation steps and 3 workers'",
    ):
        plans(world, 64, 3, batch_size=8, accumulate=2)
    with pytest.raises(ConfigError, match=r"scale\.num_workers.*found 2; allowed: at most 1"):
        plans(world, 1, 2)
