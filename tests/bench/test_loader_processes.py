"""Our loader processes against torch's DataLoader, both with two, in one run: the same samples,
batches and order.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

import configs
import decord_clips
from configs.schema import Frames, RecognitionRecipe
from ops.data.buffers import stacked
from ops.data.loading import Loader, WorkerPool
from ops.store.frames import write_frames
from ops.store.reader import FrameReader
from ops.tasks.recognition.clips import Clip, ClipDataset

WORKERS, ROUNDS = 2, 9
FRAMES = 300  # of the clip


class Batches:
    """A batch sampler that is told its batches anew for every epoch."""

    def __init__(self) -> None:
        self.batches: Sequence[Sequence[int]] = ()

    def __iter__(self) -> Iterator[Sequence[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def consumed(batches: Iterable[Tensor], into: Tensor) -> tuple[float, Tensor]:
    """Seconds until every batch was copied to another place, as one is to a device, and the last
    one.
    """
    start = time.perf_counter()
    for batch in batches:
        into.copy_(batch)
    return time.perf_counter() - start, into.clone()


def compare(
    name: str,
    samples: Any,
    ours: Callable,
    theirs: Callable,
    batches: Sequence[Sequence[int]],
    shape: Sequence[int],
) -> float:
    """Median ratio of their seconds to ours over interleaved epochs."""
    pool, sampler, into = WorkerPool(WORKERS), Batches(), torch.empty(*shape)
    loader = Loader(samples, ours, pool)
    other = DataLoader(
        samples,
        batch_sampler=sampler,
        collate_fn=theirs,
        num_workers=WORKERS,
        persistent_workers=True,
        prefetch_factor=2,
        multiprocessing_context="forkserver",
        worker_init_fn=decord_clips.decodes_on_one_thread,
    )
    times: list[tuple[float, float]] = []
    used: list[float] = []
    try:
        for number in range(ROUNDS + 1):
            sampler.batches = batches
            mine, one = consumed(loader.epoch(batches), into)
            his, two = consumed(other, into)
            assert torch.equal(one, two)
            # processes start and import in the first epoch
            times += [(mine, his)] if number else []
            pids = (pool.pids, [worker.pid for worker in other._iterator._workers])  # type: ignore[union-attr]
            used = used or [_seconds(own) for own in pids]
        used = [_seconds(own) - before for own, before in zip(pids, used, strict=True)]
    finally:
        pool.close()
    ratio = statistics.median(his / mine for mine, his in times)
    a, b = (statistics.median(own) for own in zip(*times, strict=True))
    print(
        f"{name}: ours {a:.3f} s, DataLoader {b:.3f} s an epoch, ratio {ratio:.2f}; CPU"
        f" {used[1] / max(used[0], 0.01):.2f} times"
    )
    return ratio


def _seconds(pids: Sequence[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


@pytest.mark.bench
@pytest.mark.parametrize("side", [32, 112, 224])
def test_batches_of_float_clips(side: int) -> None:
    clips = [
        np.random.default_rng(seed).random((3, 8, side, side), np.float32) for seed in range(8)
    ]
    batches = [[(first + place) % 8 for place in range(8)] for first in range(40)]
    assert (
        compare(
            f"float32 clips of {side} x {side}",
            clips,
            stacked,
            default_collate,
            batches,
            (8, 3, 8, side, side),
        )
        > 1.5
    )


@pytest.mark.bench
# of small ones decoding is all the work
@pytest.mark.parametrize(("short_side", "crop", "floor"), [(72, 64, 0.7), (256, 224, 1.15)])
def test_batches_of_stored_frames(
    clip: tuple[Path, str], tmp_path: Path, short_side: int, crop: int, floor: float
) -> None:
    recipe = configs.load("tsn_r50_8f_k400_100e")
    assert isinstance(recipe, RecognitionRecipe)
    uri = clip[1]
    if short_side < 256:  # as small as the sample world's
        uri = str(tmp_path / "small.zarr")
        write_frames(
            uri,
            FrameReader(clip[1]).read(range(FRAMES))[:, : short_side * 3 : 3, : short_side * 4 : 3],
            Frames(),
            {},
        )
    rows = [
        Clip(f"clip{index}", f"video{index}", "train", "a", 0, "clips.csv:2", uri, FRAMES, "key")
        for index in range(64)
    ]
    transforms = recipe.transforms.model_copy(update={"short_side": short_side, "crop": crop})
    samples = ClipDataset(rows, recipe.sampling, transforms, seed=1)
    batches = [list(range(first, first + 8)) for first in range(0, 64, 8)] * (
        1 if crop == 224 else 4
    )
    found = compare(
        f"stored frames, crops of {crop}",
        samples,
        decord_clips.collate,
        decord_clips.torchs,
        batches,
        (8, 1, 3, 8, crop, crop),
    )
    assert found > floor
