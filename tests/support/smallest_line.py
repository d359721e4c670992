"""The smallest thing that needs all that a machine gives: a home, a decode worker, a local Ray, and
a loader process within its worker.

python smallest_line.py VIDEO [--mlflow]: prints one line of JSON, or the command's own line when it
cannot.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from pipelines.process import guarded


def decode(path: str, attempt: str) -> list[str]:
    """Runs in a decode worker: the film's size, and where this process took its code from."""
    import av

    import models
    import ops

    with av.open(path) as film:
        stream = film.streams.video[0]
        return [
            f"{stream.width}x{stream.height}",
            models.__file__ or "",
            ops.__file__ or "",
            av.__file__,
        ]


def train() -> list[str]:
    """Runs in a Ray worker, and in a loader process that it starts."""
    import configs
    import models
    import ops
    from ops.data.processes import WorkerPool

    pool = WorkerPool(1)
    try:
        batches = list(pool.batches(pool.add(range(9), sum), [[1, 2], [3, 4]]))
    finally:
        pool.close()
    return [str(batches), configs.__file__ or "", models.__file__ or "", ops.__file__ or ""]


def line() -> int:
    """The command."""
    import matplotlib.pyplot
    import ray

    import configs
    from configs.schema import Scale
    from ops.compute.cluster import connect
    from ops.compute.pool import Job, run_jobs
    from ops.tracking.connect import client

    decoded = [
        outcome
        for outcome in run_jobs(decode, [Job("film", sys.argv[1], 60.0)])
        if outcome is not None
    ]
    if "--mlflow" in sys.argv:  # seconds of migrations
        client(configs.settings().tracking_uri)
    connect(configs.settings(), Scale(num_workers=1, cpus_per_worker=1))
    trained = ray.get(ray.remote(train).remote(), timeout=60)
    session = Path(ray._private.worker._global_node.get_session_dir_path()).parent
    closed = [
        oct(folder.lstat().st_mode & 0o777) for folder in (session.parent, session.parent.parent)
    ]
    token = oct(os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o777)
    ray.shutdown()
    home = configs.settings().home
    print(
        json.dumps(
            {
                "decoded": decoded[0].value or decoded[0].failure,
                "trained": trained,
                "home": str(home),
                "HOME": os.path.expanduser("~"),
                "TMPDIR": tempfile.gettempdir(),
                "backend": matplotlib.pyplot.get_backend(),
                "closed": closed,
                "token": token,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(guarded(line))
