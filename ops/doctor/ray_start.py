"""Does Ray start here (or answer, where a cluster is named), compute something, and stop."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from configs.schema import Scale
from configs.settings import Settings
from ops.doctor.finding import Finding, good, wrong

BYTES = 2**20  # more than Ray passes in a message: through its object store
WAIT_S = 60.0


def check(settings: Settings) -> Iterator[Finding]:
    """Connect as a training does, run one task, and let go."""
    import ray

    from ops.compute.cluster import connect

    connect(settings, Scale(num_workers=1, cpus_per_worker=1))
    try:
        sent = np.arange(BYTES, dtype=np.uint8)
        total, version, host = ray.get(
            ray.remote(num_cpus=1)(_task).remote(ray.put(sent)), timeout=WAIT_S
        )
        found, nodes = ray.cluster_resources(), [node for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()
    place = f"cluster at {settings.ray_address}" if settings.ray_address else "local"
    sizes = (
        f"{len(nodes)} node{'s' * (len(nodes) != 1)}, {found.get('CPU', 0):g} CPUs,"
        f" {found.get('GPU', 0):g} GPUs"
    )
    text = f"{place}: {sizes}; a task ran on {host}"
    if total != int(sent.sum(dtype=np.int64)):
        yield wrong("Ray", f"{text}, and added {BYTES} bytes wrongly", "look at the nodes' memory")
    elif version != list(sys.version_info[:2]):
        yield wrong(
            "Ray", f"{text} with Python {version}", "give the nodes the Python of this machine"
        )
    else:
        yield good("Ray", f"{text}, and stopped")


def _task(received: np.ndarray) -> tuple[int, list[int], str]:
    import socket
    import sys

    return int(received.sum(dtype="int64")), list(sys.version_info[:2]), socket.gethostname()
