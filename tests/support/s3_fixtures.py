"""An S3 server that counts and can be told to fail: `from s3_fixtures import s3, s3_server` in a
conftest gives it to a folder's tests.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import s3_on_disk

REFUSED = (
    b"<Error><Code>InvalidAccessKeyId</Code><Message>The access key does not exist in our"
    b" records.</Message></Error>"
)
BROKEN = (
    b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
)


@dataclass
class Server:
    """A WSGI layer above moto. `requests` holds (method, path); `failures` answers so many requests
    with 500; `refuse` all with 403.
    """

    application: object
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: int = 0
    refuse: bool = False
    bucket: str = ""

    def __call__(self, environ, start_response):
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if self.refuse:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else REFUSED]
        if self.failures > 0:
            self.failures -= 1
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else BROKEN]
        return self.application(environ, start_response)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[Server, str]]:
    moto_server = pytest.importorskip("moto.server")
    from werkzeug.serving import make_server

    server = Server(moto_server.DomainDispatcherApplication(moto_server.create_backend_app))
    http = make_server("127.0.0.1", 0, server, threaded=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield server, f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()


@pytest.fixture
def s3(s3_server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server with an empty bucket of this test (`s3.bucket`, an s3:// URI), and the environment
    that leads there.
    """
    import boto3

    server, url = s3_server
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server.failures, server.refuse = 0, False
    bucket = f"kinograph-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=bucket)
    server.bucket = f"s3://{bucket}"
    server.requests.clear()
    return server


class DiskServer:
    """The server of `s3_on_disk.py` in a process of its own; what it holds outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, s3_on_disk.__file__, str(self.folder), str(self.port)]
        )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def put(self, end: str) -> Counter[str]:
        """Keys that end so, and how often each was put."""
        log = self.folder / "log"
        return Counter(
            line
            for line in (log.read_text().splitlines() if log.exists() else [])
            if line.endswith(end)
        )


@pytest.fixture
def disk_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskServer]:
    """A server that can be killed and started again, with the bucket s3://data, and the environment
    that leads there.
    """
    running = DiskServer(tmp_path / "server")
    names = {
        "AWS_ENDPOINT_URL": running.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    yield running
    running.kill()


def once(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """A thread that acts when the condition holds."""

    def wait() -> None:
        until = time.monotonic() + 120
        while not condition() and time.monotonic() < until:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
