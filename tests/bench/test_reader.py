"""Reading stored frames against decord's own exact access to the same mp4, on one machine in one
run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest

from ops.store.reader import FrameReader

FRAMES = 300  # of the clip
ROUNDS = 11


def compare(
    ours: Callable[[int], np.ndarray], theirs: Callable[[int], np.ndarray], name: str
) -> float:
    """Ratio of the median times, theirs to ours, taken in turns; both must give the same frames up
    to JPEG.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(ROUNDS):
        results = []
        for action, taken in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            results.append(action(round_))
            taken.append(time.perf_counter() - start)
        assert np.abs(results[0].astype(int) - results[1]).mean() < 4
    mine, other = (statistics.median(taken) for taken in times)
    print(
        f"{name}: ours {mine * 1e3:.2f} ms, decord {other * 1e3:.2f} ms, ratio {other / mine:.1f}"
    )
    return other / mine


def sparse(seed: int) -> list[int]:
    """Eight frames, one of each eighth of the video: the segment sampling of TSN."""
    step = FRAMES / 8
    return [int(k * step + np.random.default_rng(seed).uniform(0, step)) for k in range(8)]


def dense(seed: int) -> list[int]:
    """Thirty-two frames, two apart: a clip of the 3D families."""
    first = int(np.random.default_rng(seed).integers(0, FRAMES - 64))
    return list(range(first, first + 64, 2))


def wide(seed: int) -> list[int]:
    """Sixteen frames, four apart: the same stretch of video at half the rate."""
    first = int(np.random.default_rng(seed).integers(0, FRAMES - 64))
    return list(range(first, first + 64, 4))


@pytest.mark.bench
@pytest.mark.parametrize(
    "pick, floor",
    [(sparse, 20), (dense, 8), (wide, 10)],
    ids=["8 sparse", "32x2 dense", "16x4 dense"],
)
def test_reading_beats_decord(pick, floor, clip):
    from ops.media.decord_reader import decord

    path, uri = clip
    warm = FrameReader(uri)
    warm.read([0])

    def by_decord(seed: int) -> np.ndarray:
        return decord.VideoReader(str(path)).get_batch(pick(seed)).asnumpy()

    by_decord(0)
    cold = compare(
        lambda seed: FrameReader(uri).read(pick(seed)),
        by_decord,
        f"{pick.__name__}, opened each time",
    )
    compare(lambda seed: warm.read(pick(seed)), by_decord, f"{pick.__name__}, reader kept")
    assert cold >= floor
