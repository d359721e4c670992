"""Reading on several threads: the same pixels, the same errors, and a number of threads that
somebody decided.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from configs.errors import KinographError
from configs.schema import Frames
from ops.store import threads
from ops.store.frames import write_frames
from ops.store.reader import FrameReader, FrameReadError
from ops.store.threads import (
    VARIABLE,
    decode_threads,
    set_decode_threads,
    side_by_side,
    usable_cpus,
)


@pytest.fixture(autouse=True)
def nothing_set() -> Iterator[None]:
    """The number of threads as it is without anybody's wish."""
    set_decode_threads(None)
    yield
    set_decode_threads(None)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    frames = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8)
    write_frames(str(tmp_path / "a"), frames, Frames(frames_per_shard=8), {})
    return str(tmp_path / "a")


@pytest.mark.parametrize("number", [2, 5, 16])
def test_any_number_of_threads_gives_the_same_frames(uri: str, number: int) -> None:
    indices = [39, 0, 3, 3, 17, 8, *range(20, 35), 0]
    set_decode_threads(1)
    alone = FrameReader(uri).read(indices)
    set_decode_threads(number)
    reader = FrameReader(uri)
    for _ in range(20):
        assert np.array_equal(reader.read(indices), alone)


def test_readers_of_several_threads_share_the_decoding_ones(uri: str) -> None:
    set_decode_threads(3)
    expected = FrameReader(uri).read(range(40))
    found: list[bool] = []

    def read() -> None:
        found.append(
            all(np.array_equal(FrameReader(uri).read(range(40)), expected) for _ in range(10))
        )

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [True] * 4
    assert sum(thread.name.startswith("decode") for thread in threading.enumerate()) <= 15


def test_a_damaged_frame_is_named_on_several_threads_too(uri: str) -> None:
    set_decode_threads(4)
    shard = Path(uri, "c/2/0/0/0")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    for _ in range(5):
        with pytest.raises(
            FrameReadError, match="frame 16 cannot be read: the stored data is damaged"
        ):
            FrameReader(uri).read(range(40))
    FrameReader(uri).read([15, 17])


def test_the_first_error_is_raised_when_all_have_ended() -> None:
    set_decode_threads(4)
    running: set[int] = set()

    def action(index: int) -> None:
        running.add(index)
        time.sleep(0.01)
        running.discard(index)
        if index in (3, 4):
            raise ValueError(f"item {index}")

    with pytest.raises(ValueError, match="item 3"):
        side_by_side(action, 100)
    assert not running
    done: list[int] = []
    side_by_side(done.append, 100)
    assert sorted(done) == list(range(100))
    side_by_side(done.append, 0)


def test_work_goes_on_side_by_side() -> None:
    set_decode_threads(2)
    together = threading.Barrier(2, timeout=20)
    side_by_side(lambda index: together.wait() and None, 2)  # alone, one would wait for ever


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), ("9900000 100000", None)],
)
def test_a_container_uses_no_more_cpus_than_its_share_of_time(
    quota: str, cpus: int | None, tmp_path, monkeypatch
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(threads, "GROUP_2", str(tmp_path / "cpu.max"))
    monkeypatch.setattr(threads, "GROUP_1", "/nowhere/")
    threads._share.cache_clear()
    try:
        assert usable_cpus() == (cpus or len(os.sched_getaffinity(0)))
    finally:
        threads._share.cache_clear()


def test_the_number_is_the_callers_the_environments_or_the_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert decode_threads() == min(threads.MOST, usable_cpus()) and usable_cpus() == len(
        os.sched_getaffinity(0)
    )
    monkeypatch.setenv(VARIABLE, "3")
    assert decode_threads() == 3
    set_decode_threads(5)
    assert decode_threads() == 5
    set_decode_threads(None)
    monkeypatch.setenv(VARIABLE, "")  # as compose files pass on what is not set
    assert decode_threads() == min(threads.MOST, usable_cpus())
    for bad in ("0", "-1", "two"):
        monkeypatch.setenv(VARIABLE, bad)
        with pytest.raises(
            KinographError,
            match=f"{VARIABLE}: found '{bad}'; allowed: a number of threads from 1 on",
        ):
            decode_threads()
    with pytest.raises(ValueError, match="found 0"):
        set_decode_threads(0)
