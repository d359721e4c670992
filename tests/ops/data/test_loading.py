"""Batches ahead of time: order, errors, early ends, and processes that give the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import default_collate

from ops.data.buffers import Shared, receive_shared, stacked
from ops.data.errors import SampleError
from ops.data.loading import AHEAD, Loader, LoaderError, WorkerPool
from ops.store.layout import Layout
from ops.store.reader import FrameReader
from ops.tasks.recognition.clips import ClipDataset, load_clips


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


def test_a_thread_gives_batches_that_are_let_go(world, stored: Layout) -> None:
    """Nothing but the consumer holds a batch that was handed over."""
    batches = Loader([np.zeros(9)] * 9, stacked).epoch([[0], [1]])
    first = next(batches)
    gone = weakref.ref(first)
    del first
    next(batches)
    assert gone() is None


# ------------------------------------------------------------------------------------------------
# loader processes Their data sets are of the standard library or of the packages: a process cannot
# import what stands in this file.


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """Two loader processes for all tests below: that they serve many data sets is what they are
    for.
    """
    workers = WorkerPool(2)
    yield workers
    workers.close()


def test_loader_processes_give_the_same_batches(world, stored: Layout, pool: WorkerPool) -> None:
    recipe = world.recipe()
    clips = load_clips(stored, world.DATASET).clips["train"]
    results = []
    for workers in (0, pool):
        samples = ClipDataset(clips, recipe.sampling, recipe.transforms, seed=1)
        loader = Loader(samples, default_collate, workers)
        epochs = []
        for epoch in (1, 2):
            samples.set_epoch(epoch)  # has to reach processes that already run
            epochs.append(
                np.concatenate(
                    [batch["frames"] for batch in loader.epoch([[3, 1], [0, 2], [7, 5]])]
                )
            )
        loader.close()
        results.append(np.stack(epochs))
    assert np.array_equal(*results)
    assert not np.array_equal(results[0][0], results[0][1])
    assert len(set(pool.pids)) == 2


def test_processes_keep_order_and_are_kept(pool: WorkerPool) -> None:
    loader = Loader(range(100), list, pool)
    batches = [[number, number + 1] for number in range(40)]
    assert list(loader.epoch(batches)) == batches
    before = pool.pids
    broken_off = loader.epoch(batches)
    assert next(broken_off) == [0, 1]
    assert list(loader.epoch(batches[:3])) == batches[:3]
    with pytest.raises(LoaderError, match="another epoch was started"):
        list(broken_off)
    assert list(loader.epoch([])) == [] and pool.pids == before


def test_an_error_in_a_process_is_the_samples_own(world, stored: Layout, pool: WorkerPool) -> None:
    recipe = world.recipe()
    clips = list(load_clips(stored, world.DATASET).clips["train"])
    clips[5] = clips[5]._replace(array_uri=f"{stored.root}/gone.zarr")
    loader = Loader(ClipDataset(clips, recipe.sampling, recipe.transforms), default_collate, pool)
    found = []
    with pytest.raises(
        SampleError, match=r"clip 'clip-train/005' at .*gone\.zarr.*no such array"
    ) as caught:
        for batch in loader.epoch([[0], [1], [5], [6]]):
            found += batch["clip_id"]
    assert found == ["clip-train/000", "clip-train/001"]  # and nothing in its place
    assert (
        "in loader process" in caught.value.__notes__[0]
        and "Traceback" in caught.value.__notes__[0]
    )


def test_batches_lie_in_memory_that_is_used_again_and_never_while_it_is_held(
    pool: WorkerPool,
) -> None:
    samples = [np.full((64, 1024), number, np.float32) for number in range(30)]
    loader = Loader(samples, stacked, pool)
    batches = [[number, number] for number in range(30)]
    kept = list(loader.epoch(batches))
    assert all(
        batch.shape == (2, 64, 1024) and (batch == number).all()
        for number, batch in enumerate(kept)
    )
    del kept
    for _ in range(4):
        for number, batch in enumerate(loader.epoch(batches)):
            assert (batch == number).all()
    blocks = [len(worker.mirror._blocks) for worker in pool._workers]
    assert max(blocks) <= 9, blocks  # in hand, held by this loop, and spare


def test_a_large_data_set_lies_in_memory_once_for_all_processes(pool: WorkerPool) -> None:
    def own() -> list[int]:
        return [
            memory.rss - memory.shared
            for memory in (psutil.Process(pid).memory_info() for pid in pool.pids)
        ]

    list(Loader([0], len, pool).epoch([[0], [0]]))
    samples, before = [np.full(2**23, number, np.uint8) for number in range(8)], own()
    assert list(Loader(samples, len, pool).epoch([[0, 1], [2, 3, 4]])) == [2, 3]
    grown = [after - one for after, one in zip(own(), before, strict=True)]
    assert max(grown) < sum(array.nbytes for array in samples) / 2, grown
    [[first]] = Loader(samples, list, pool).epoch([[7]])
    first += 1  # what came is the consumer's own
    assert (first == 8).all() and (samples[7] == 7).all()


def test_a_data_set_that_grows_after_its_start_is_told() -> None:
    """Else a process that is given it later would take one array's memory for another's."""
    thing = [np.full(2**16, 1, np.uint8)]
    shared, (ours, theirs) = Shared(thing), Pipe()
    shared.send(ours, os.getpid())
    assert (receive_shared(theirs, *theirs.recv())[0] == 1).all()
    thing.insert(0, np.full(2**17, 2, np.uint8))
    with pytest.raises(ValueError, match="given other arrays"):
        shared.send(ours, os.getpid())
    shared.close()


def test_all_kinds_of_tensors_travel(pool: WorkerPool) -> None:
    large = torch.arange(60_000)
    item = {
        "scalar": torch.tensor(1.5),
        "none": torch.empty(0, 4),
        "half": large.to(torch.bfloat16),
        "view": large.reshape(200, 300).T[3:],
        "mask": [large > 7, (torch.tensor([True]), "text")],
        "array": np.arange(3),
        "same": large,
    }
    [[found]] = Loader([item], list, pool).epoch([[0]])
    for name in ("scalar", "none", "half", "view", "same"):
        assert found[name].dtype == item[name].dtype and torch.equal(found[name], item[name])
    assert torch.equal(found["mask"][0], item["mask"][0]) and found["mask"][1] == (
        torch.tensor([True]),
        "text",
    )
    assert np.array_equal(found["array"], item["array"])
    found["same"] += 1  # the consumer may write into what it was given


def test_a_process_that_dies_is_an_error_at_once(pool: WorkerPool) -> None:
    loader = Loader([np.zeros(2**20)] * 400, stacked, pool)
    batches = loader.epoch([[number] * 4 for number in range(400)])
    next(batches)
    os.kill(pool.pids[1], signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(
        LoaderError,
        match=r"loader process \d+ was killed by signal 9 \(SIGKILL\).*lower scale.loader_workers",
    ):
        list(batches)
    assert time.monotonic() - start < 5
    assert list(Loader([3], list, pool).epoch([[0]])) == [[3]]  # a new start works


@pytest.mark.slow  # three processes import torch
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        "import time\nfrom ops.data.processes import WorkerPool\n\n"
        "if __name__ == '__main__':\n"
        "    pool = WorkerPool(2)\n    list(pool.batches(pool.add(range(9), list), [[1], [2]]))\n"
        "    print(*pool.pids, flush=True)\n    time.sleep(100)\n"
    )
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2 and all(psutil.pid_exists(pid) for pid in pids)
    owner.kill()
    owner.wait()
    psutil.wait_procs(
        owned := [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20
    )
    assert not any(process.is_running() for process in owned)


def test_processes_read_what_this_one_has_already_read(world, stored: Layout, s3) -> None:
    """Open stores do not survive a fork: local files and S3 are read here first, and by loader
    processes after that.
    """
    recipe = world.recipe()
    layout = Layout(f"{s3.bucket}/storage")
    world.build_world(layout, num_train=4, num_val=1)
    clips = load_clips(layout, world.DATASET).clips["train"]
    FrameReader(load_clips(stored, world.DATASET).clips["train"][0].array_uri).read([0])
    samples = ClipDataset(clips, recipe.sampling, recipe.transforms, seed=1)
    here = list(Loader(samples, default_collate).epoch([[0, 1], [2, 3]]))
    # its environment is today's, with the server's address
    loader = Loader(samples, default_collate, workers=2)
    there = list(loader.epoch([[0, 1], [2, 3]]))
    loader.close()
    assert all(
        torch.equal(one["frames"], two["frames"]) for one, two in zip(here, there, strict=True)
    )
