"""A web server over a folder: `from web_fixtures import web_folder` in a conftest gives it to a
folder's tests.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Handler(SimpleHTTPRequestHandler):
    """A server of folders and files that can be told to answer with a status, or to keep its folder
    pages.
    """

    failures: list[int] = []
    pages = True

    def do_GET(self) -> None:  # noqa: N802
        if Handler.failures:
            self.send_error(Handler.failures.pop())
        elif self.path.endswith("/") and not Handler.pages:
            self.send_error(404)
        else:
            super().do_GET()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def web_folder(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a server."""
    folder = tmp_path / "web"
    folder.mkdir()
    Handler.failures, Handler.pages = [], True
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
