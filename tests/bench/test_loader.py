"""Samples per second of the training loader against the same loader and transforms over decord on
the mp4, in one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import configs
import decord_clips
from configs.schema import RecognitionRecipe
from ops.data.loading import Loader, WorkerPool
from ops.tasks.recognition.clips import Clip, ClipDataset

FRAMES = 300  # of the clip
RECIPE = "tsn_r50_8f_k400_100e"  # eight segments of one frame, multi-scale crops of 224
BATCH, BATCHES = 4, 16
ROUNDS = 5
WORKERS = 2
FLOOR = 8


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    workers = WorkerPool(WORKERS)
    yield workers
    workers.close()


def epoch(
    samples: ClipDataset, loader: Loader, number: int, batches: int
) -> tuple[float, torch.Tensor]:
    """Seconds of an epoch without a model, and its first batch."""
    samples.set_epoch(number)
    start, first = time.perf_counter(), None
    for batch in loader.epoch([range(at * BATCH, (at + 1) * BATCH) for at in range(batches)]):
        first = batch.clone() if first is None else first
    assert first is not None
    return time.perf_counter() - start, first


@pytest.mark.bench
@pytest.mark.parametrize("kind", ["processes", "thread"])
def test_the_loader_beats_decord(clip: tuple[Path, str], kind: str, pool: WorkerPool) -> None:
    path, uri = clip
    recipe = configs.load(RECIPE)
    assert isinstance(recipe, RecognitionRecipe)
    rows = [
        Clip(f"clip{index}", f"video{index}", "train", "a", 0, "clips.csv:2", uri, FRAMES, "key")
        for index in range(BATCH * BATCHES)
    ]
    ours = ClipDataset(rows, recipe.sampling, recipe.transforms, seed=1)
    films = [row._replace(array_uri=str(path)) for row in rows]
    theirs = decord_clips.DecordClips(films, recipe.sampling, recipe.transforms, seed=1)
    workers = pool if kind == "processes" else 0
    loaders = [Loader(samples, decord_clips.collate, workers) for samples in (ours, theirs)]
    for samples, loader in zip((ours, theirs), loaders, strict=True):
        epoch(samples, loader, 0, 2)  # the processes start and import
    rates: tuple[list[float], list[float]] = ([], [])
    # of the slower one, or it would take all of the time; as many for each process
    few = BATCHES // 4
    for number in range(1, ROUNDS + 1):
        (mine, one), (other, two) = (
            epoch(ours, loaders[0], number, BATCHES),
            epoch(theirs, loaders[1], number, few),
        )
        assert one.shape == two.shape == (BATCH, 1, 3, 8, 224, 224)
        assert (one - two).abs().mean() * 57 < 4  # grey levels: the same views, up to JPEG
        rates[0].append(BATCH * BATCHES / mine)
        rates[1].append(BATCH * few / other)
    fast, slow = map(statistics.median, rates)
    print(
        f"loader, {kind}: ours {fast:.1f} samples/s, decord {slow:.1f} samples/s, ratio"
        f" {fast / slow:.1f}"
    )
    assert fast >= (FLOOR if kind == "processes" else 4) * slow
