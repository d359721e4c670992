"""An S3 server that counts and can be told to fail: `from s3_fixtures import s3, s3_server` in a conftest gives it to a folder's tests."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

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
