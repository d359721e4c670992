"""Where jobs run: in this machine's worker processes, or as tasks on a Ray cluster, each with such
processes of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from configs.settings import variable
from ops.compute.pool import Job, Outcome, run_jobs
from ops.files.patience import STORE_TRIES, wait_for
from ops.files.storage import StorageError

Engine = Literal["auto", "local", "ray"]
Work = Callable[[Any, str], Any]
WINDOW = 4096  # jobs that the local pool knows at a time: a million would fill the memory


@dataclass(frozen=True)
class Answer:
    """A worker's function with a failing store as its value: that is not the fault of the video at
    hand.
    """

    function: Work

    def __call__(self, payload: Any, attempt: str) -> Any:
        """Runs in a worker."""
        try:
            return self.function(payload, attempt)
        except StorageError as error:
            return error


def run_anywhere(
    function: Work,
    jobs: Iterable[Job],
    workers: int | None = None,
    engine: Engine = "auto",
    ray_address: str | None = None,
) -> Generator[Outcome | None, None, None]:
    """`run_jobs` on the chosen engine; None comes now and then.

    A store that fails for a while is waited for, and the job comes again at the end. What else
    `function` raises ends the run and is raised here.

    Args:
        function: takes a job's (payload, attempt), in a worker.
        jobs: are taken from the iterable as places become free.
        workers: processes of the local pool; None is one for each CPU that this process may use.
        engine: "auto" is Ray where a cluster is named, else the local pool: to start a Ray of its
            own costs a machine ten seconds and gigabytes.
        ray_address: the cluster; None is RAY_ADDRESS of the environment.

    Raises:
        ValueError: the engine is unknown.
        StorageError: a store refuses, or goes on failing.
    """
    tries: Counter[Any] = Counter()
    while True:
        again: list[Job] = []
        with closing(_run(Answer(function), jobs, workers, engine, ray_address)) as outcomes:
            for outcome in outcomes:
                error = None if outcome is None else outcome.value
                if outcome is None or not isinstance(error, StorageError):
                    yield outcome
                    continue
                tries[outcome.job.key] += 1
                if not error.transient or tries[outcome.job.key] >= STORE_TRIES:
                    raise error
                wait_for(error.uri, error)
                again.append(outcome.job)
        if not again:
            return
        jobs = again


def _run(
    function: Work, jobs: Iterable[Job], workers: int | None, engine: Engine, address: str | None
) -> Generator[Outcome | None, None, None]:
    if engine not in ("auto", "local", "ray"):
        raise ValueError(f"engine: found {engine!r}; allowed: auto, local, ray")
    address = address or variable("RAY_ADDRESS")
    if engine == "ray" or (engine == "auto" and address):
        from ops.compute.ray_engine import run_on_ray

        with closing(run_on_ray(function, jobs, address)) as outcomes:
            yield from outcomes
        return
    for window in _windows(iter(jobs)):
        with closing(run_jobs(function, window, workers)) as outcomes:
            yield from outcomes


def _windows(jobs: Iterator[Job]) -> Iterator[list[Job]]:
    while window := list(islice(jobs, WINDOW)):
        yield window
