"""A hand that kills the pool's workers while they write."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import psutil


def _forked(process: psutil.Process) -> bool:
    try:
        return "multiprocessing.forkserver" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def kill_writers(target: Path, times: int, stop: threading.Event, killed: list[int]) -> None:
    """Kills pool workers, `times` of them, each while it has written a part of an array below
    `target`.
    """
    last = 0
    while not stop.is_set() and len(killed) < times:
        time.sleep(0.002)
        halves = [
            shard
            for shard in target.glob("*.zarr/c/*/0/0/0")
            if not (shard.parents[4] / "zarr.json").exists()
        ]
        try:
            if not any(shard.stat().st_mtime_ns > last for shard in halves):
                continue
        except FileNotFoundError:
            continue
        us = os.getpid()
        workers = [
            child
            for child in psutil.Process().children(recursive=True)
            # Of a fork server, as the pool's are; a Ray that another test has left is none of it.
            if child.ppid() != us and child.pid not in killed and _forked(child)
        ]
        for worker in workers:
            killed.append(worker.pid)
            worker.kill()
            worker.wait(10)
        last = time.time_ns()
