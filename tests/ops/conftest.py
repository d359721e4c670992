"""What several folders share: the tiny stored dataset, an empty MLflow, and an S3 server that counts and can be told to fail."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from configs import Settings

REFUSED = b"<Error><Code>InvalidAccessKeyId</Code><Message>The access key does not exist in our records.</Message></Error>"
BROKEN = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


@dataclass
class Server:
    """A WSGI layer above moto. `requests` holds (method, path); `failures` answers so many requests with 500; `refuse` all with 403."""

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
    """The server with an empty bucket of this test (`s3.bucket`, an s3:// URI), and the environment that leads there."""
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


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """The module that makes the tiny stored dataset and its recipe."""
    spec = importlib.util.spec_from_file_location("tiny_world", Path(__file__).with_name("data") / "world.py")
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules[spec.name]


@pytest.fixture(scope="session")
def stored(world: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """A layout that holds the dataset; tests only read it."""
    from ops.store.layout import Layout

    layout = Layout(str(tmp_path_factory.mktemp("stored")))
    world.build_world(layout)
    return layout


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, migrated once."""
    from ops.tracking.connect import client

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client(f"sqlite:///{path}")
    return path


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Settings:
    """Settings of an MLflow that nothing was written to; its storage is the one of `layout`."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    return Settings(storage=str(tmp_path / "storage"), tracking_uri=f"sqlite:///{home}/mlflow.db", home=home)


@pytest.fixture(scope="session")
def people() -> ModuleType:
    """The module that makes the tiny dataset of people with parts, and its recipe."""
    spec = importlib.util.spec_from_file_location("tiny_people", Path(__file__).with_name("data") / "people.py")
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules[spec.name]


@pytest.fixture(scope="session")
def stored_people(people: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """A layout that holds the people; tests only read it."""
    from ops.store.layout import Layout

    layout = Layout(str(tmp_path_factory.mktemp("people")))
    people.build_people(layout)
    return layout
