"""Batches ahead of time: from a background thread, or from loader processes. Both give the same batches in the same order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

AHEAD = 3  # batches that a background thread prepares in advance


class _Plan(Sampler[list[int]]):
    """The batches of the coming epoch, as lists of indices."""

    def __init__(self) -> None:
        self.batches: Sequence[Sequence[int]] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return (list(batch) for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Loader:
    """Turns lists of indices into collated batches, epoch after epoch.

    `workers` 0 uses one thread: decoding and numpy release the interpreter lock, and nothing is started or copied. More
    start that many processes by forkserver (open stores do not survive a fork) and keep them until `close`.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any], workers: int = 0, pin_memory: bool = False) -> None:
        self.dataset, self.collate = dataset, collate
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        if workers:
            self._loader = DataLoader(
                dataset,
                batch_sampler=self._plan,
                collate_fn=collate,
                num_workers=workers,
                persistent_workers=True,
                multiprocessing_context="forkserver",
                pin_memory=pin_memory,
                generator=torch.Generator(),  # or every epoch would draw from the generator that dropout uses
            )

    def epoch(self, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        """Yield the batches in order. An error of a sample is raised here, at its batch."""
        if self._loader is None:
            yield from _from_thread(self.dataset, self.collate, batches)
        else:
            self._plan.batches = batches
            yield from self._loader

    def close(self) -> None:
        """End the loader processes."""
        self._loader = None


def _from_thread(dataset: Any, collate: Callable[[list[Any]], Any], batches: Sequence[Sequence[int]]) -> Iterator[Any]:
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(AHEAD)
    stop = threading.Event()

    def hand_over(batch: Any, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put((batch, error), timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        for batch in batches:
            if stop.is_set():
                return
            try:
                made = collate([dataset[index] for index in batch])
            except BaseException as error:  # noqa: BLE001 - it is raised again, by the consumer
                return hand_over(None, error)
            hand_over(made, None)

    thread = threading.Thread(target=produce, name="batches", daemon=True)
    thread.start()
    try:
        for _ in batches:
            batch, error = ready.get()
            if error is not None:
                raise error
            yield batch
    finally:
        stop.set()
        thread.join()
