"""Jobs in processes that can be killed: each with a deadline, a memory ceiling, a second try, and a
true reason when both fail.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from pebble import ProcessExpired, ProcessPool

from configs.errors import KinographError
from ops.compute.environment import Context, workers_context
from ops.compute.memory_watch import CEILING_MB, MemoryWatch, enrol
from ops.store.threads import usable_cpus

# pools that may break as a whole (all workers killed while idle) before the run gives up
REBUILDS = 3
# decord is said to leak slowly; a new worker now and then costs milliseconds
TASKS_PER_WORKER = 256
# how the names of variables begin by which stores are reached and Kinograph is set
PASSED_ON = ("AWS_", "AZURE_", "GOOGLE_", "KINOGRAPH_")
# What the fork server imports once, so that a new worker starts in milliseconds. None of these
# starts a thread or an event loop.
PRELOAD = [
    "__main__",
    "ops.media.decord_reader",
    "ops.media.pyav_reader",
    "ops.media.audit",
    "ops.media.store_video",
    "ops.store.frames",
]


class PoolError(KinographError):
    """Worker processes that do not start, or die again and again: says how they ended."""


@dataclass(frozen=True)
class Job:
    """`function(payload, attempt)` runs in a worker; `attempt` is how the try before ended: "",
    "deadline", "memory", "signal 11".
    """

    key: Any
    payload: Any
    deadline_s: float


@dataclass(frozen=True)
class Outcome:
    """A job's value, or the reason why a worker could not finish it."""

    job: Job
    value: Any = None
    failure: str | None = None


def run_jobs(
    function: Callable[[Any, str], Any],
    jobs: Iterable[Job],
    workers: int | None = None,
    wake_s: float = 0.5,
    ceiling_mb: int = CEILING_MB,
) -> Generator[Outcome | None, None, None]:
    """Outcomes in the order of completion, and None while nothing ends, so that the caller can do
    other things.

    An exception of `function` ends the run and is raised here.

    Args:
        function: takes a job's (payload, attempt), in a worker.
        jobs: a worker that passes its job's deadline is killed and replaced; the job is tried once
            more.
        workers: processes, at most one a job; None is one for each CPU that this process may use.
        wake_s: seconds after which at the latest None comes.
        ceiling_mb: memory of one worker; beyond it, it fares as beyond its deadline.

    Raises:
        PoolError: the pool breaks again and again; says how its processes ended.
    """
    waiting = list(jobs)[::-1]
    if not waiting:
        return
    workers = max(1, min(workers or usable_cpus(), len(waiting)))
    again: list[tuple[Job, str]] = []  # jobs whose worker died with the pool
    context = workers_context(PRELOAD)
    for _ in range(REBUILDS):
        broken = yield from _run(function, waiting, again, workers, wake_s, ceiling_mb, context)
        if not broken:
            return
    raise PoolError(f"the worker pool broke {REBUILDS} times: {context.endings()}")


def _run(
    function: Callable,
    waiting: list[Job],
    again: list[tuple[Job, str]],
    workers: int,
    wake_s: float,
    ceiling_mb: int,
    context: Context,
) -> Generator[Outcome | None, None, bool]:
    """Works until nothing is left (False) or the pool breaks (True; what was under way is in
    `again`).
    """
    done: queue.Queue[tuple[Job, str, Future]] = queue.Queue()
    running: dict[Any, tuple[Job, str]] = {}
    watch = MemoryWatch(ceiling_mb, context)
    arguments = (inherited(), watch.sender, ceiling_mb)
    pool = ProcessPool(
        workers,
        max_tasks=TASKS_PER_WORKER,
        initializer=start_worker,
        initargs=arguments,
        context=context,
    )

    def start(job: Job, attempt: str) -> None:
        running[job.key] = (job, attempt)
        future = pool.schedule(function, args=(job.payload, attempt), timeout=job.deadline_s)
        future.add_done_callback(lambda finished: done.put((job, attempt, finished)))

    try:
        watch.start()
        while waiting or again or running:
            while (waiting or again) and len(running) < 2 * workers:
                start(*(again.pop() if again else (waiting.pop(), "")))
            try:
                job, attempt, future = done.get(timeout=wake_s)
            except queue.Empty:
                # a job that no worker had taken yet when the pool broke is never heard of again
                if not pool.active:
                    raise BrokenProcessPool from None
                yield None
                continue
            ended = _ending(future, watch.killed)
            del running[job.key]
            if ended is None:
                yield Outcome(job, future.result())
            elif attempt:
                yield Outcome(job, failure=_reason(ended, job, ceiling_mb))
            else:
                again.append((job, ended))
        return False
    except (BrokenProcessPool, RuntimeError) as error:
        if not isinstance(error, BrokenProcessPool) and pool.active:
            raise
        again += running.values()
        return True
    finally:
        pool.stop()
        pool.join()
        watch.stop()


def _ending(future: Future, overfull: set[int]) -> str | None:
    """How a try was cut short; None when the function returned. `overfull` workers were killed for
    their memory.

    Raises what the function raised.
    """
    error = future.exception()
    if error is None:
        return None
    if isinstance(error, MemoryError):  # the kernel refused it more
        return "memory"
    if isinstance(error, ProcessExpired):
        if error.pid in overfull:
            return "memory"
        return (
            f"signal {-error.exitcode}"
            if (error.exitcode or 0) < 0
            else f"exit code {error.exitcode}"
        )
    if isinstance(error, TimeoutError) and error.args and error.args[0] == "Task timeout":
        return "deadline"
    raise error


def _reason(ended: str, job: Job, ceiling_mb: int) -> str:
    if ended == "memory":
        return f"decoder used more than {ceiling_mb} MB"
    if ended == "deadline":
        return f"decoder did not finish within {job.deadline_s:.0f} s"
    return f"decoder process died ({ended})"


def inherited() -> dict[str, str]:
    """Environment that workers need and that the fork server, started once, may have from an
    earlier time.
    """
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


def start_worker(environment: Mapping[str, str], watch: Connection, ceiling_mb: int) -> None:
    """Prepares a worker: environment, no reaction to Ctrl-C (the parent's), a memory ceiling, and
    an end when the parent ends.
    """
    enrol(watch, os.getpid(), ceiling_mb)
    for name in inherited():
        del os.environ[name]
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """A worker must not go on writing after its parent was killed: the next run may already work on
    the same array.
    """
    connection.wait([sentinel])
    os._exit(1)


class Stderr:
    """What C libraries wrote to file descriptor 2 while it was caught."""

    def __init__(self, file: int) -> None:
        self._file = file

    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self._file).st_size

    def text(self, first: int = 0) -> str:
        """Some kilobytes of it, from byte `first` on."""
        return os.pread(self._file, 16384, first).decode(errors="replace")


def _nameless_file() -> int:
    """A file descriptor; in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@contextmanager
def quiet_stderr() -> Iterator[Stderr]:
    """Catches what C libraries write to file descriptor 2, for good. For worker processes: it
    affects the whole process.
    """
    kept, file = os.dup(2), _nameless_file()
    os.dup2(file, 2)
    try:
        yield Stderr(file)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(file)
