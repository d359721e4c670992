"""Batches ahead of time: from a background thread, or from loader processes. Both give the same
batches in the same order.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ops.data.processes import Collate, LoaderError, WorkerPool

__all__ = ["AHEAD", "Loader", "LoaderError", "WorkerPool"]

AHEAD = 3  # batches that a background thread prepares in advance


class Loader:
    """Turns lists of indices into collated batches, epoch after epoch.

    Args:
        dataset: gives the sample of an index; picklable, as `collate` is, where there are
            processes.
        collate: makes a batch of a list of samples.
        workers: 0 uses one thread: decoding and numpy release the interpreter lock, and nothing is
            started or copied. A number starts that many processes by forkserver (open stores do not
            survive a fork) and keeps them until `close`. A WorkerPool is shared with other loaders
            and stays its owner's to close.
        pin_memory: copies every batch into page-locked memory, ahead of time too.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Collate,
        workers: int | WorkerPool = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset, self.collate, self.pin_memory = dataset, collate, pin_memory
        self._own = WorkerPool(workers) if isinstance(workers, int) and workers else None
        self._pool = workers if isinstance(workers, WorkerPool) else self._own
        self._source = self._pool.add(dataset, collate) if self._pool else None

    def epoch(self, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        """Yield the batches in order. An error of a sample is raised here, at its batch;
        LoaderError when a process died.
        """
        made = self._made(batches)
        if self.pin_memory:
            made = map(_pinned, made)
        return made if self._pool and not self.pin_memory else _ahead(made)

    def close(self) -> None:
        """End the loader's own processes."""
        if self._own is not None:
            self._own.close()

    def _made(self, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        if self._pool is not None and self._source is not None:
            return self._pool.batches(self._source, batches)
        return (self.collate([self.dataset[index] for index in batch]) for batch in batches)


def _ahead(source: Iterator[Any]) -> Iterator[Any]:
    """The source's items in order, made by a thread that ends with its consumer."""
    ready: queue.Queue[tuple[Any, BaseException | None, bool]] = queue.Queue(AHEAD)
    stop = threading.Event()

    def hand_over(batch: Any, error: BaseException | None, last: bool) -> None:
        while not stop.is_set():
            try:
                return ready.put((batch, error, last), timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for batch in source:
                hand_over(batch, None, False)
                del batch  # or its memory would be held while the next one is made
                if stop.is_set():
                    return None
        except BaseException as error:
            return hand_over(None, error, True)
        hand_over(None, None, True)

    thread = threading.Thread(target=produce, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            batch, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield batch
            del batch
    finally:
        stop.set()
        thread.join()


def _pinned(value: Any) -> Any:
    """The same nested dicts, lists and tuples with every tensor in page-locked memory."""
    if isinstance(value, Tensor):
        return value.pin_memory()
    if isinstance(value, dict):
        return {key: _pinned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_pinned(item) for item in value)
    return value
