"""Decoding as Ray tasks on a cluster of several nodes: the store is the one that a single machine
makes, also when nodes die.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.schema import Dataset, Frames
from ops.compute.engine import run_anywhere
from ops.compute.pool import Job, Outcome
from ops.files.storage import list_files
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.store.layout import Layout
from ops.store.reader import read_manifest

VIDEOS = 24
KILLER = """
import os, signal, time
import psutil

def act(payload, attempt):
    if payload == "worker":
        os.kill(os.getpid(), signal.SIGKILL)
    if payload == "task":  # the process of the Ray task, above this worker and its fork server
        os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
        time.sleep(60)
    return payload.upper()
"""


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ValueError, match="engine: found 'spark'; allowed: auto, local, ray"):
        next(run_anywhere(print, [Job(1, 1, 1.0)], engine="spark"))  # type: ignore[arg-type]


def test_a_cluster_that_is_not_there_is_a_mistake_of_the_configuration(
    dataset, layout, videos, make_video, monkeypatch
) -> None:
    from configs.schema import ConfigError

    make_video(videos / "a.mp4", 5)
    ingest(dataset, layout, workers=1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match="RAY_ADDRESS"):
        materialize(dataset, layout)


@pytest.fixture(scope="module")
def killer(tmp_path_factory) -> Path:
    """Folder of a module whose function kills."""
    folder = tmp_path_factory.mktemp("killer")
    (folder / "ray_test_function.py").write_text(KILLER)
    return folder


@pytest.fixture(scope="module")
def nodes(killer) -> Iterator[Any]:
    """A head without CPUs for tasks, and two nodes with two each."""
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    with environment(
        PYTHONPATH=str(killer),
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_health_check_period_ms="500",
    ):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
        try:
            cluster.workers = [cluster.add_node(num_cpus=2, **small) for _ in range(2)]
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@pytest.fixture
def world(tmp_path, videos, make_video) -> Dataset:
    for index in range(VIDEOS):
        make_video(videos / f"v{index:02d}.mp4", 40 + index, size=(120, 160))
    (videos / "text.mp4").write_text("no video")
    frames = Frames(codec="lossless", frames_per_shard=8)
    return Dataset(
        name="world", title="t", licence="none", root=str(tmp_path / "world"), frames=frames
    )


def ledger(dataset: Dataset, layout: Layout) -> list[dict]:
    return [
        {name: row[name] for name in row if name not in ("seconds", "array_uri")}
        for row in read_manifest(layout, dataset).to_pylist()
    ]


def contents(layout: Layout) -> dict[str, bytes]:
    arrays = [info for info in list_files(f"{layout.root}/frames") if "/arrays/" in info.path_below]
    return {info.path_below: Path(info.uri).read_bytes() for info in arrays}


def during(first: Path, act: Callable[[], None]) -> threading.Thread:
    """Acts once, when some arrays have been begun."""

    def wait() -> None:
        until = time.monotonic() + 120
        while len(list(first.glob("**/*.zarr"))) < 5 and time.monotonic() < until:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.slow  # a cluster of three nodes
def test_nodes_and_workers_may_die_and_the_store_is_that_of_one_machine(
    nodes, world, layout, tmp_path
) -> None:
    alone = Layout(str(tmp_path / "alone"))
    for each in (layout, alone):
        ingest(world, each, workers=2)
    materialize(world, alone, workers=2)

    def kill() -> None:
        workers = [
            p
            for p in psutil.process_iter(["cmdline"])
            if "ray::kinograph decode" in " ".join(p.info["cmdline"] or [])
        ]
        if workers:
            workers[0].send_signal(signal.SIGKILL)
        time.sleep(0.5)
        nodes.remove_node(nodes.workers.pop(), allow_graceful=False)

    reaper = during(Path(layout.root) / "frames", kill)
    report = materialize(world, layout, engine="ray", ray_address=nodes.address)
    reaper.join()
    assert len(nodes.workers) == 1
    assert (report.planned, report.done, report.quarantined) == (VIDEOS, VIDEOS, 1)
    assert ledger(world, layout) == ledger(world, alone)
    assert contents(layout) == contents(alone)
    again = materialize(world, layout, ray_address=nodes.address)
    assert (again.planned, again.reused) == (0, VIDEOS + 1)


@pytest.mark.slow
def test_only_the_job_that_kills_is_to_blame(nodes, killer, monkeypatch) -> None:
    monkeypatch.syspath_prepend(killer)
    function = importlib.import_module("ray_test_function").act
    jobs = (
        Job(name, name.rstrip("0123456789"), 30.0)
        for name in ("a1", "worker1", "task1", "b2", "c3", "d4", "e5", "f6", "g7", "h8")
    )
    found: dict[str, Outcome] = {}
    for outcome in run_anywhere(function, jobs, engine="ray", ray_address=nodes.address):
        if outcome is not None:
            found[outcome.job.key] = outcome
    assert {key: outcome.failure for key, outcome in found.items() if outcome.failure}.keys() == {
        "worker1",
        "task1",
    }
    assert (
        found["task1"].failure
        == "decoder took its worker or node down 4 times (WorkerCrashedError)"
    )
    assert (
        found["worker1"].failure == "decoder process died (signal 9)"
        and found["a1"].value == "A"
        and len(found) == 10
    )
