"""Samples per second of the training loader against the same loader and transforms over decord on the mp4, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import configs
from configs.schema import RecognitionRecipe
from ops.data.clips import Clip, ClipDataset
from ops.data.loading import Loader

FRAMES = 300  # of the clip
RECIPE = "tsn_r50_8f_k400_100e"  # eight segments of one frame, multi-scale crops of 224
BATCHES = [range(first, first + 4) for first in (0, 4)]
ROUNDS = 7


class DecordClips(ClipDataset):
    """The same samples, read from the mp4 as decord users do: opened for each sample, one exact batch."""

    path = ""

    def _reader(self, uri: str) -> Any:
        return self

    def read(self, indices: Sequence[int]) -> np.ndarray:
        import decord

        return decord.VideoReader(self.path).get_batch(list(indices)).asnumpy()


def collate(items: list[dict[str, Any]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([item["frames"] for item in items]))


def epoch(samples: ClipDataset, number: int) -> tuple[float, torch.Tensor]:
    """Seconds of an epoch without a model, and its clips."""
    samples.set_epoch(number)
    start = time.perf_counter()
    clips = torch.cat(list(Loader(samples, collate).epoch(BATCHES)))
    return time.perf_counter() - start, clips


@pytest.mark.bench
def test_the_loader_beats_decord(clip: tuple[Path, str]) -> None:
    path, uri = clip
    recipe = configs.load(RECIPE)
    assert isinstance(recipe, RecognitionRecipe)
    count = sum(len(batch) for batch in BATCHES)
    rows = [Clip(f"clip{index}", f"video{index}", "train", "a", 0, "clips.csv:2", uri, FRAMES, "key") for index in range(count)]
    ours, theirs = (kind(rows, recipe.sampling, recipe.transforms, seed=1) for kind in (ClipDataset, DecordClips))
    theirs.path = str(path)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        (mine, one), (other, two) = epoch(ours, number), epoch(theirs, number)
        assert one.shape == two.shape == (count, 1, 3, 8, 224, 224)
        assert (one - two).abs().mean() * 57 < 4  # grey levels: the same views, up to JPEG
        times[0].append(mine)
        times[1].append(other)
    fast, slow = (count / statistics.median(taken) for taken in times)
    print(f"loader: ours {fast:.1f} samples/s, decord {slow:.1f} samples/s, ratio {fast / slow:.1f}")
    assert fast >= 4 * slow
