"""Loader processes: started by forkserver, kept for all epochs and data sets of a training, each
with a pipe of its own.

Nothing is shared between two of them, so one that is killed cannot leave a lock behind that the
others wait for: its pipe closes, and that is an error at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch

from configs.errors import KinographError
from ops.compute.environment import Context, ended, workers_context
from ops.data.buffers import Blocks, Mirror, Shared, receive_shared, serve_from
from ops.store.threads import decode_threads, set_decode_threads

AHEAD = 2  # batches that each process has in hand
END_S = 5.0  # a process that does not end by itself is killed
# by the server that processes are forked from: most of their start, and free of threads that matter
PRELOADED = ["torch"]
Collate = Callable[[list[Any]], Any]


class LoaderError(KinographError, RuntimeError):
    """Loader processes that cannot go on: says what happened and what to do."""


class WorkerPool:
    """So many loader processes, started with the first batch that is asked for.

    `add` gives a data set to all of them. A process computes on one thread and decodes on its share
    of this one's threads.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"loader processes: found {count}; allowed: a number from 1 on")
        self.count = count
        self._sources: list[tuple[Any, Collate]] = []
        self._shared: list[Shared] = []  # of the sources, those that a process was given
        self._workers: list[_Worker] = []
        self._run = 0

    def add(self, dataset: Any, collate: Collate) -> int:
        """Give the processes a data set, picklable as `collate` is, and return its number."""
        self._sources.append((dataset, collate))
        return len(self._sources) - 1

    def batches(self, source: int, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        """Yield the collated batches in order, made up to two per process ahead.

        An error of a sample is raised at its batch, with the process's own traceback as a note.
        Another iterator may be started at any time; it ends this one.

        Args:
            source: number of the data set, as `add` gave it.
            batches: indices of each batch's samples.

        Raises:
            LoaderError: a process died.
        """
        self._start()
        self._shared += [Shared(own) for own in self._sources[len(self._shared) : source + 1]]
        self._run += 1
        run, ready, sent = self._run, dict[int, tuple[Any, BaseException | None]](), 0
        for number in range(len(batches)):
            while True:
                while sent < len(batches) and (worker := self._idlest()).waiting < AHEAD:
                    self._guarded(
                        worker,
                        lambda w=worker, n=sent: w.ask(  # type: ignore[misc]
                            run, n, source, self._shared, list(batches[n])
                        ),
                    )
                    sent += 1
                if number in ready:
                    break
                self._collect(run, ready)
            batch, error = ready.pop(number)
            if error is not None:
                raise error
            yield batch
            del batch  # its memory is used again as soon as the consumer is done with it
            if run != self._run:
                raise LoaderError("another epoch was started before this one ended")

    def close(self) -> None:
        """End the processes."""
        workers, shared, self._workers, self._shared = self._workers, self._shared, [], []
        for own in shared:
            own.close()
        for worker in workers:
            worker.connection.close()  # which each takes as the end
        for worker in workers:
            worker.process.join(END_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    @property
    def pids(self) -> list[int]:
        """Process ids, none before the first batch."""
        return [worker.process.pid or 0 for worker in self._workers]

    # ----------------------------------------------------------------------------------------------
    # parts

    def _start(self) -> None:
        if self._workers:
            return
        context = workers_context(PRELOADED)
        share = max(1, decode_threads() // self.count)
        self._workers = [_Worker.start(context, share) for _ in range(self.count)]

    def _idlest(self) -> _Worker:
        return min(self._workers, key=lambda worker: worker.waiting)

    def _collect(self, run: int, ready: dict[int, tuple[Any, BaseException | None]]) -> None:
        """Wait for a process to answer, and take all answers that are there."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection)):
            worker = by_connection[connection]  # type: ignore[index]
            answer = self._guarded(worker, worker.answer)
            if answer[0] == run:
                ready[answer[1]] = answer[2:]

    def _guarded(self, worker: _Worker, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (EOFError, OSError) as error:
            reason = worker.obituary()
            self.close()
            raise LoaderError(reason) from error


@dataclass(eq=False)
class _Worker:
    """One process as the training process sees it."""

    process: Any
    connection: Connection
    context: Context
    mirror: Mirror = field(default_factory=Mirror)
    waiting: int = 0  # batches asked for and not answered
    sources: int = 0  # data sets that it has

    @classmethod
    def start(cls, context: Context, threads: int) -> _Worker:
        ours, theirs = context.Pipe()
        # the server that forks them has the environment of its own start, not today's
        process = context.Process(
            target=_serve, args=(theirs, dict(os.environ), threads), name="loader", daemon=True
        )
        process.start()
        theirs.close()  # theirs alone from here on: it closes when they die
        return cls(process, ours, context)

    def ask(
        self, run: int, number: int, source: int, shared: Sequence[Shared], indices: list[int]
    ) -> None:
        while self.sources <= source:
            shared[self.sources].send(self.connection, self.process.pid)
            self.sources += 1
        self.connection.send((run, number, source, indices, self.mirror.released()))
        self.waiting += 1

    def answer(self) -> tuple[int, int, Any, BaseException | None]:
        run, number, batch, error, told = self.mirror.receive(self.connection)
        self.waiting -= 1
        return run, number, batch, _error(error, told, self.process.pid) if told else None

    def obituary(self) -> str:
        self.process.join(END_S)
        code = self.process.exitcode
        if code is not None and code < 0:
            how = f"was killed by {ended(code)}"
        else:
            how = f"ended with {ended(code)}" if code is not None else "closed its pipe"
        told = f"loader process {self.process.pid} {how} and its batches are lost"
        if words := self.context.last_words():
            told += f"; the last lines of its standard error: {words}"
        if code == -signal.SIGKILL:  # as the kernel ends what is too large
            told += (
                "; when the machine ran out of memory, lower scale.loader_workers or"
                " training.batch_size"
            )
        return told


def _error(error: bytes | None, told: str, pid: int) -> BaseException:
    """The sample's own error with the process's traceback, or a LoaderError that tells of one that
    cannot travel.
    """
    found: BaseException | None = None
    if error is not None:
        # an error whose own class cannot be rebuilt here: its text is told all the same
        with contextlib.suppress(Exception):
            found = ForkingPickler.loads(error)
    found = found or LoaderError(f"loader process {pid} failed: {told.strip().splitlines()[-1]}")
    found.add_note(f"in loader process {pid}:\n{told}")
    return found


# --------------------------------------------------------------------------------------------------
# in the process


def _serve(connection: Connection, environment: Mapping[str, str], threads: int) -> None:
    """Load batches until the pipe closes."""
    # Ctrl-C is the training's to handle; the pipe closes with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    set_decode_threads(threads)
    blocks = Blocks()
    serve_from(blocks)
    sources: list[tuple[Any, Collate]] = []
    with contextlib.suppress(EOFError, ConnectionError):  # the training process is gone or done
        while True:
            asked = connection.recv()
            if len(asked) == 2:
                sources.append(receive_shared(connection, *asked))
                continue
            run, number, source, indices, released = asked
            blocks.release(released)
            dataset, collate = sources[source]
            blocks.send(connection, (run, number, *_load(dataset, collate, indices)))


def _load(dataset: Any, collate: Collate, indices: list[int]) -> tuple[Any, bytes | None, str]:
    """(batch, pickled error, traceback): the batch, or why there is none."""
    try:
        return collate([dataset[index] for index in indices]), None, ""
    except Exception as error:
        told = traceback.format_exc()
        try:
            return None, bytes(ForkingPickler.dumps(error)), told
        except Exception:
            return None, None, told
