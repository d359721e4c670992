"""A memory ceiling on worker processes, kept from outside: C code that allocates may hold the
interpreter's lock all the while.
"""

from __future__ import annotations

import resource
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil  # type: ignore[import-untyped]

CEILING_MB = 700
# memory can be filled at some GB/s: a worker oversteps by tens of megabytes before it is seen
LOOK_EVERY_S = 0.02
# times the ceiling: what one call could allocate between two looks. The kernel refuses more.
HARD_CEILING = 2
MB = 2**20


class MemoryWatch:
    """Kills the workers that have more than `ceiling_mb` of memory in use, and remembers which:
    `killed` are process ids.

    Workers enrol with the `sender` that they are started with; it is a pipe, so that nobody needs
    to know how the pool keeps them.
    """

    def __init__(self, ceiling_mb: int, context: Any) -> None:
        self.ceiling_mb = ceiling_mb
        self.killed: set[int] = set()
        self._receiver, self.sender = context.Pipe(duplex=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory watch", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends for good."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.sender.close()
        self._receiver.close()

    def _run(self) -> None:
        workers: dict[int, psutil.Process] = {}
        while not self._stop.wait(LOOK_EVERY_S):
            while self._receiver.poll():
                pid = int.from_bytes(self._receiver.recv_bytes(), "little")
                with suppress(psutil.NoSuchProcess):
                    workers[pid] = psutil.Process(pid)
            for pid, worker in list(workers.items()):
                if not self._look(worker):
                    del workers[pid]

    def _look(self, worker: psutil.Process) -> bool:
        """False where the worker is gone or was killed just now."""
        try:
            if worker.memory_info().rss <= self.ceiling_mb * MB:
                return True
            self.killed.add(worker.pid)  # before the kill: whoever hears of the death looks here
            worker.kill()
        except psutil.NoSuchProcess:
            pass
        return False


def enrol(sender: Connection, pid: int, ceiling_mb: int) -> None:
    """Puts this worker process under watch, and has the kernel refuse it memory far beyond the
    ceiling.
    """
    sender.send_bytes(pid.to_bytes(8, "little"))
    sender.close()
    limit = getattr(psutil.Process().memory_info(), "data", 0) + HARD_CEILING * ceiling_mb * MB
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(
        resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
