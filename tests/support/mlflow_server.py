"""An MLflow server as a process of its own, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTS_S = 120


@contextmanager
def mlflow_server(backend: str, folder: Path) -> Iterator[str]:
    """The address of a server on this backend store; artifacts go to `folder`/served."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", backend]
    command += ["--artifacts-destination", str(folder / "served")]
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, start_new_session=True
        )
    try:
        _wait(url, server, log)
        yield url
    finally:
        # asked politely, it waits for connections that the client keeps open
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until and server.poll() is None:
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=2).close()
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())
