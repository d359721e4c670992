"""Extraction over a Ray cluster: one actor per GPU (or CPU) holds the models, a few videos are in
flight, results come as they are done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from configs.schema import Scale
from configs.settings import Settings
from ops.compute.pool import PoolError
from ops.features.extract import Extractor
from ops.features.jobs import ExtractJob, FeaturesOutcome
from ops.features.network import Source

IN_FLIGHT = 2  # videos per actor: one at work, one waiting
CPUS_BESIDE_GPU = 2


def extract_on_ray(
    sources: Sequence[Source], jobs: Sequence[ExtractJob], settings: Settings
) -> Iterator[tuple[ExtractJob, FeaturesOutcome]]:
    """The jobs on as many actors as the cluster has GPUs, or else CPUs, in the order in which they
    finish.

    An actor that dies is replaced; the videos it had are tried once more, each alone, and then
    refused with the reason.

    Args:
        sources: the models; their weights travel once, through Ray's object store.
        jobs: every actor writes the arrays itself, so their storage must be one that all nodes
            reach.
        settings: name the Ray cluster.

    Raises:
        ConfigError: the cluster is not there.
        PoolError: no actor starts.
        StorageError: a store fails.
    """
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    from ops.compute.cluster import connect

    connect(settings, Scale(num_workers=1, cpus_per_worker=1))
    team = Team(ray, sources, len(jobs))
    waiting, again, running = (
        deque(jobs),
        deque[ExtractJob](),
        dict[Any, tuple[ExtractJob, int, Any, bool]](),
    )
    try:
        team.start()
        while waiting or again or running:
            while (again and team.idle()) or (waiting and not again and team.free()):
                alone = bool(again)
                job = again.popleft() if alone else waiting.popleft()
                task, at = team.give(job, alone)
                running[task] = (job, at, team.actors[at], alone)
            task = ray.wait(list(running), num_returns=1)[0][0]
            job, at, actor, alone = running.pop(task)
            team.load[at] -= IN_FLIGHT if alone else 1
            try:
                yield job, ray.get(task)
            except RayActorError as error:
                team.replace(at, actor)
                if alone:
                    yield (
                        job,
                        FeaturesOutcome(
                            reason=f"the worker died twice on it: {_first_line(error)}"
                        ),
                    )
                else:
                    again.append(job)
            except RayTaskError as error:
                raise error.cause from error
    finally:
        team.end()


class Team:
    """Actors and how many videos each has. A video that is given `alone` fills its actor."""

    def __init__(self, ray: Any, sources: Sequence[Source], wanted: int) -> None:
        found = ray.cluster_resources()
        gpus = int(found.get("GPU", 0))
        self.cpus = CPUS_BESIDE_GPU if gpus else 1
        self.ray = ray
        self.kind = ray.remote(
            num_cpus=self.cpus, num_gpus=1 if gpus else 0, max_restarts=0, max_task_retries=0
        )(Extractor)
        self.weights = ray.put(list(sources))
        self.load = [0] * max(1, min(wanted, gpus or int(found.get("CPU", 1))))
        self.actors: list[Any] = []

    def start(self) -> None:
        """Starts all and waits for the first. Raises PoolError where it cannot load the models."""
        self.actors = [self._new() for _ in self.load]
        try:
            self.ray.get(self.actors[0].ready.remote())
        except self.ray.exceptions.RayActorError as error:
            raise PoolError(
                f"a worker with the models does not start: {_first_line(error)}"
            ) from error

    def idle(self) -> bool:
        """Whether an actor has nothing to do."""
        return min(self.load) == 0

    def free(self) -> bool:
        """Whether an actor can take one more video."""
        return min(self.load) < IN_FLIGHT

    def give(self, job: ExtractJob, alone: bool) -> tuple[Any, int]:
        """Hands the video to the actor that has least to do; (task, the actor's place)."""
        at = self.load.index(min(self.load))
        self.load[at] += IN_FLIGHT if alone else 1
        return self.actors[at].store.remote(job), at

    def replace(self, at: int, dead: Any) -> None:
        """A new actor for one that died. Every video that fell with it says so; only the first time
        counts.
        """
        if self.actors[at] is dead:
            self.ray.kill(dead)
            self.actors[at] = self._new()

    def end(self) -> None:
        """Ends all actors."""
        for actor in self.actors:
            self.ray.kill(actor)

    def _new(self) -> Any:
        return self.kind.remote(self.weights, self.cpus)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
