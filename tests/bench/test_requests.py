"""How many requests a clip costs on S3, counted by the server, against Zarr's own slice of the same
array.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
import zarr

from configs.schema import Frames
from ops.files.objects import bucket_store
from ops.store.frames import write_frames
from ops.store.reader import FrameReader

COLD, WARM = 4, 2  # requests at most


@pytest.fixture
def uri(s3) -> str:
    """Four shards of small noisy frames, stored with a dataset's usual settings."""
    place = f"{s3.bucket}/frames/video.zarr"
    noise = np.random.default_rng(0).integers(0, 256, (256, 64, 80, 3), dtype=np.uint8)
    write_frames(place, noise, Frames(), {"fps": 30.0})
    s3.requests.clear()
    return place


def counted(s3, action) -> tuple[int, np.ndarray]:
    s3.requests.clear()
    frames = action()
    return len(s3.requests), frames


def zarrs_own(uri: str) -> zarr.Array:
    store, key = bucket_store(uri)
    return zarr.open_array(zarr.storage.ObjectStore(store, read_only=True), path=key, mode="r")


def test_a_dense_clip_costs_few_requests(s3, uri: str) -> None:
    array = zarrs_own(uri)
    for first in (0, 30, 64, 100, 193):  # within a shard and over two
        clip = slice(first, first + 63, 2)
        reader = FrameReader(uri)
        cold, _ = counted(s3, lambda reader=reader, clip=clip: reader.read(range(256)[clip]))
        warm, ours = counted(s3, lambda reader=reader, clip=clip: reader.read(range(256)[clip]))
        own, theirs = counted(s3, lambda clip=clip: array[clip])
        print(
            f"32x2 from frame {first}: ours {cold} requests cold, {warm} warm; zarr's own slice"
            f" {own}"
        )
        assert cold <= COLD and warm <= WARM and own >= 32
        assert np.array_equal(ours, theirs)


@pytest.mark.bench
def test_fewer_requests_are_less_time(s3, uri: str) -> None:
    array, reader = zarrs_own(uri), FrameReader(uri)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(9):
        for action, taken in zip(
            (lambda: reader.read(range(30, 93, 2)), lambda: array[30:93:2]), times, strict=True
        ):
            start = time.perf_counter()
            action()
            taken.append(time.perf_counter() - start)
    mine, own = (statistics.median(taken) for taken in times)
    print(
        f"32x2 over S3: ours {mine * 1e3:.1f} ms, zarr's own slice {own * 1e3:.1f} ms, ratio"
        f" {own / mine:.1f}"
    )
    assert own > mine
