"""Decoding on several threads of one process: image libraries release the interpreter lock, so
frames decode side by side.

A process uses as many threads as it may use CPUs. Whoever runs several processes on one machine
(loader processes, Ray workers) gives each its share with `set_decode_threads`; the environment
variable KINOGRAPH_DECODE_THREADS sets the number by hand.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from itertools import count
from pathlib import Path

from configs.errors import KinographError
from configs.settings import variable

VARIABLE = "KINOGRAPH_DECODE_THREADS"
# how Linux tells a container its share, new and old
GROUP_2, GROUP_1 = "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_"
MOST = 16  # one clip has no work for more
_chosen: int | None = None
_pool: ThreadPoolExecutor | None = None  # one thread less than wanted: the caller works too
_pool_threads = 0


def usable_cpus() -> int:
    """CPUs that this process may use at once: those that it may run on, and no more than its
    container's share of their time.
    """
    number = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(number, _share()))


@lru_cache(maxsize=1)
def _share() -> int:
    """CPUs' worth of time that the container grants, rounded up; very many where it grants all."""
    shares = [10**6]
    for quota, period in ((GROUP_2, None), (GROUP_1 + "quota_us", GROUP_1 + "period_us")):
        with suppress(OSError, ValueError):
            words = Path(quota).read_text().split() + (
                Path(period).read_text().split() if period else []
            )
            if int(words[0]) > 0:  # "max" and -1 are no limit
                shares.append(math.ceil(int(words[0]) / int(words[1])))
    return min(shares)


def decode_threads() -> int:
    """Threads that decode a clip: what was set, else the environment's number, else the usable
    CPUs. Raises KinographError.
    """
    return _chosen if _chosen is not None else threads_by_environment() or min(MOST, usable_cpus())


def threads_by_environment() -> int | None:
    """The environment's number, None where it has none. Raises KinographError."""
    text = variable(VARIABLE)
    if text is not None and (not text.isdigit() or int(text) < 1):
        raise KinographError(
            f"environment variable {VARIABLE}: found {text!r}; allowed: a number of threads from"
            " 1 on"
        )
    return None if text is None else int(text)


def set_decode_threads(threads: int | None) -> None:
    """Set the number for this process; None goes back to the environment's or the machine's."""
    global _chosen
    if threads is not None and threads < 1:
        raise ValueError(f"decode threads: found {threads}; allowed: a number from 1 on")
    _chosen = threads


def side_by_side(action: Callable[[int], None], number: int) -> None:
    """Run action(0) to action(number - 1) on the decode threads. The error of the lowest number is
    raised, after all threads have ended.
    """
    threads = min(decode_threads(), number)
    if threads <= 1:
        for index in range(number):
            action(index)
        return
    tickets = count()  # taking the next one is atomic, so a slow frame holds up nobody
    errors: list[tuple[int, Exception]] = []

    def work() -> None:
        while not errors and (index := next(tickets)) < number:
            try:
                action(index)
            except Exception as error:
                errors.append((index, error))

    pool = _threads(threads - 1)
    helpers = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    if errors:
        raise min(errors, key=lambda pair: pair[0])[1]


def _threads(wanted: int) -> ThreadPoolExecutor:
    global _pool, _pool_threads
    pool = _pool
    # a smaller one ends by itself when its last user lets go of it
    if pool is None or _pool_threads < wanted:
        pool = _pool = ThreadPoolExecutor(wanted, thread_name_prefix="decode")
        _pool_threads = wanted
    return pool


def _forget() -> None:
    """A forked child has the pool's memory and none of its threads."""
    global _pool, _pool_threads
    _pool, _pool_threads = None, 0


os.register_at_fork(after_in_child=_forget)
