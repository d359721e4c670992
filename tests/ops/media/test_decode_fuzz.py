"""Flipped, cut, spliced and repeated bytes of real files: every one is stored whole or refused for
a reason, within its deadline.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import made_videos as made
from configs.schema import Frames
from ops.compute.pool import run_jobs
from ops.media.store_video import store_video
from ops.store.reader import FrameReader

DEADLINE_S = 5.0
BATCH = 8  # files of one example: a pool of workers is not started for each
KINDS = [
    ("libx264", "mp4"),
    ("libx264", "mkv"),
    ("mpeg4", "avi"),
    ("libx264", "ts"),
    ("mpeg4", "mp4"),
    ("libx265", "mp4"),
    ("libvpx-vp9", "webm"),
]
PLACE = st.floats(0, 1, exclude_max=True)
CHANGE = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 4096)),
    st.tuples(st.just("end"), PLACE, st.just(0)),
    st.tuples(st.just("fill"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 2048)),
    st.tuples(st.just("splice"), PLACE, st.integers(0, 2**16)),
    st.tuples(st.just("number"), PLACE, st.sampled_from([0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1])),
)
FILE = st.tuples(st.integers(0, len(KINDS) - 1), st.lists(CHANGE, min_size=1, max_size=6))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> list[bytes]:
    """Small sound files of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    quiet = {
        "libx265": {"x265-params": "log-level=none:keyint=6"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }
    files = []
    for codec, ending in KINDS:
        options = {"g": "6", **quiet.get(codec, {})}
        path = folder / f"{codec}.{ending}"
        files.append(
            made.encoded(
                path, frames=made.numbered(18, 64, 96), codec=codec, options=options
            ).read_bytes()
        )
    return files


def changed(files: list[bytes], kind: int, changes: list[tuple[str, float, int]]) -> bytes:
    data = bytearray(files[kind])
    for what, place, value in changes:
        at = int(place * len(data))
        if what == "flip" and data:
            data[at] ^= 1 << value
        elif what == "cut":
            del data[at : at + value]
        elif what == "end":
            del data[at:]
        elif what == "fill":
            data[at : at + value] = b"\xff" * len(data[at : at + value])
        elif what == "repeat":
            data[at:at] = data[at : at + value]
        elif what == "splice":
            other = files[(kind + value) % len(files)]
            data[at:] = other[int(place * len(other)) :]
        elif what == "number":
            data[at : at + 4] = value.to_bytes(4, "big")
    return bytes(data)


def run(files: list[bytes], batch: list, folder: Path, seen: dict[str, int]) -> None:
    """Stores a batch in the pool and checks every outcome."""
    jobs, done = [], sum(seen.values())
    for number, (kind, changes) in enumerate(batch, done):
        path = folder / f"{number}.{KINDS[kind][1]}"
        path.write_bytes(changed(files, kind, changes))
        jobs.append(
            made.store_job(
                path,
                folder / f"{number}.zarr",
                Frames(short_side=48, frames_per_shard=8),
                DEADLINE_S,
            )
        )
    start = time.monotonic()
    outcomes = [outcome for outcome in run_jobs(store_video, jobs, 2) if outcome is not None]
    assert len(outcomes) == len(jobs)
    assert time.monotonic() - start < 2 * DEADLINE_S * len(jobs) + 10
    for outcome in outcomes:
        value, uri = outcome.value, outcome.job.payload.array_uri
        if outcome.failure is not None:
            assert outcome.failure.startswith("decoder "), outcome
            said = outcome.failure
        elif "num_frames" in value:
            reader = FrameReader(uri)
            times = reader.attributes["timestamps_s"]
            assert (
                len(reader) == value["num_frames"] == len(times)
                and times == sorted(times)
                and np.isfinite(times).all()
            )
            assert reader.read([0, len(reader) - 1]).shape == (
                2,
                value["height"],
                value["width"],
                3,
            )
            said = f"stored: {value['audit']}"
            assert value["audit"].startswith(("ok", "unconfirmed: ", "corrected: ")), value
        else:
            assert value["reason"], outcome
            assert not Path(uri).exists()
            said = value["reason"]
        seen[said.split(":")[0]] = seen.get(said.split(":")[0], 0) + 1


def test_any_damage_ends_in_a_row(sound, tmp_path):
    seen: dict[str, int] = {}

    @settings(
        max_examples=5,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(FILE, min_size=BATCH, max_size=BATCH))
    def check(batch):
        run(sound, batch, tmp_path, seen)

    check()
    print(seen)
    assert sum(seen.values()) >= BATCH


@pytest.mark.slow  # minutes, as KINOGRAPH_FUZZ_SECONDS says
@pytest.mark.timeout(3600)
def test_any_damage_ends_in_a_row_for_minutes(sound, tmp_path):
    seconds = float(os.environ.get("KINOGRAPH_FUZZ_SECONDS", "120"))
    end, seen, number = time.monotonic() + seconds, dict[str, int](), 0

    @settings(
        max_examples=4,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(FILE, min_size=BATCH, max_size=BATCH))
    def check(batch):
        run(sound, batch, tmp_path, seen)

    while time.monotonic() < end:
        seed(number)(check)()
        number += 1
    print(seen)
    assert seen
