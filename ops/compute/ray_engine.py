"""Jobs as tasks on a Ray cluster: every task takes a few of them through worker processes of its
own node.

A decoder that hangs or fills the memory is killed by the pool inside the task, as on one machine;
Ray looks after workers and nodes that die. The driver holds a bounded number of tasks in flight,
somewhat more than the cluster can run, so that Ray's autoscaler sees what is wanted; results stream
back, and the driver alone writes the ledger.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    WorkerCrashedError,
)

import configs
from configs.schema import Scale
from ops.compute.cluster import connect
from ops.compute.memory_watch import CEILING_MB
from ops.compute.pool import Job, Outcome, run_jobs

BATCH = 4  # jobs of a task: what is repeated when its node dies
OWN_MB = 300  # the task's own process and its fork server, beside the one worker and its ceiling
TASK_RETRIES = 1  # by Ray, after a worker or a node has died
LONE_TRIES = 2  # of a job in a task of its own, each with Ray's retries, before the job is to blame
TASKS_PER_CPU = 2  # one runs, one waits: what the autoscaler sees
LEAST_IN_FLIGHT = 8  # a cluster that has scaled down to nothing must still see demand
LOOK_EVERY_S = 5.0  # at the cluster's size
DIED = (WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)
Result = list[tuple[int, Any, str | None]]


def run_on_ray(
    function: Callable[[Any, str], Any],
    jobs: Iterable[Job],
    address: str | None = None,
    wake_s: float = 0.5,
) -> Generator[Outcome | None, None, None]:
    """Outcomes in the order of completion; None at least every `wake_s` seconds. Jobs are taken
    from the iterable as tasks are started.

    `address` is that of a cluster (the code travels with the job, storage and videos must be
    reachable from every node); None starts Ray on this machine. A job whose worker or node dies
    again and again, when it is alone in its task, comes back with that as its failure. An exception
    of `function` ends the run and is raised here. Raises ConfigError for a cluster that is not
    there.
    """
    settings = configs.settings().model_copy(update={"ray_address": address})
    connect(settings, Scale(num_workers=1, cpus_per_worker=1))
    yield from _Tasks(function, jobs).run(wake_s)


def work_batch(function: Callable[[Any, str], Any], jobs: list[Job]) -> Result:
    """(place in `jobs`, value, failure) of each. Runs as a Ray task; the jobs run one after another
    in a process that can be killed.
    """
    places = {job.key: place for place, job in enumerate(jobs)}
    return [
        (places[outcome.job.key], outcome.value, outcome.failure)
        for outcome in run_jobs(function, jobs, 1)
        if outcome is not None
    ]


class _Tasks:
    """The tasks in flight of one run."""

    def __init__(self, function: Callable[[Any, str], Any], jobs: Iterable[Job]) -> None:
        self._function = ray.put(function)
        self._jobs = iter(jobs)
        # jobs of a task that died: each comes again in a task of its own
        self._alone: deque[Job] = deque()
        self._deaths: Counter[Any] = Counter()
        self._running: dict[Any, list[Job]] = {}
        self._limit, self._looked = 0, -LOOK_EVERY_S
        self._task = ray.remote(work_batch).options(
            num_cpus=1,
            memory=(CEILING_MB + OWN_MB) * 2**20,
            max_retries=TASK_RETRIES,
            name="kinograph decode",
        )

    def run(self, wake_s: float) -> Generator[Outcome | None, None, None]:
        try:
            while self._start() or self._running:
                ended, _ = ray.wait(list(self._running), num_returns=1, timeout=wake_s)
                for reference in ended:
                    yield from self._take(reference)
                if not ended:
                    yield None
        finally:
            self._cancel()

    def _start(self) -> bool:
        """Fills the places in flight; False where nothing was left to start."""
        started = False
        while len(self._running) < self._places():
            batch = [self._alone.popleft()] if self._alone else list(islice(self._jobs, BATCH))
            if not batch:
                break
            self._running[self._task.remote(self._function, batch)] = batch
            started = True
        return started

    def _places(self) -> int:
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_S:
            self._limit = max(
                LEAST_IN_FLIGHT, int(TASKS_PER_CPU * ray.cluster_resources().get("CPU", 0))
            )
            self._looked = now
        return self._limit

    def _take(self, reference: Any) -> Iterator[Outcome]:
        batch = self._running.pop(reference)
        try:
            results: Result = ray.get(reference)
        except DIED as error:
            yield from self._after_death(batch, error)
            return
        for place, value, failure in results:
            yield Outcome(batch[place], value, failure)

    def _after_death(self, batch: list[Job], error: RayError) -> Iterator[Outcome]:
        if len(batch) == 1:
            self._deaths[batch[0].key] += 1
            if self._deaths[batch[0].key] >= LONE_TRIES:
                times = LONE_TRIES * (1 + TASK_RETRIES)
                yield Outcome(
                    batch[0],
                    failure=(
                        f"decoder took its worker or node down {times} times"
                        f" ({type(error).__name__})"
                    ),
                )
                return
        self._alone += batch

    def _cancel(self) -> None:
        """Ends what still runs, and waits for it: nobody may write an array that the caller is
        about to remove.
        """
        left = list(self._running)
        for reference in left:
            with suppress(RayError, ValueError):
                ray.cancel(reference, force=True)
        if left:
            ray.wait(left, num_returns=len(left), timeout=10)
