"""A web server over a folder: `from web_fixtures import web_folder` in a conftest gives it to a
folder's tests.
"""

from __future__ import annotations

import functools
import io
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest


class Handler(SimpleHTTPRequestHandler):
    """A server of folders and files that can be told to answer with a status (0: as ever), or to
    keep its folder pages.
    """

    failures: list[int] = []
    pages = True
    link = ""  # how a folder page writes its links: `path` from the server's root, `name`, `host`

    def list_directory(self, path: str | os.PathLike[str]) -> io.BytesIO | None:
        """The folder's page."""
        if not self.link:
            return super().list_directory(path)
        names = [quote(f"{one.name}/" if one.is_dir() else one.name) for one in os.scandir(path)]
        below, host = self.path.strip("/"), self.headers["Host"]
        links = [
            self.link.format(path=f"{below}/{name}".lstrip("/"), name=name, host=host)
            for name in names
        ]
        page = "".join(f"<A class=x HREF='{link}'>x</A>" for link in links).encode()
        self.send_response(200)
        self.send_header("Content-type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        return io.BytesIO(page)

    def do_GET(self) -> None:  # noqa: N802
        if Handler.failures and (status := Handler.failures.pop()):
            self.send_error(status)
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
    Handler.failures, Handler.pages, Handler.link = [], True, ""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
