"""An S3 server that keeps its objects on disk, so that it can be killed and started again: `python
s3_on_disk.py FOLDER PORT`.

It knows what this project asks for: put (also only where nothing is), get with ranges, head,
delete, and lists. FOLDER/log has one line for every object that was put, in order.
"""

from __future__ import annotations

import email.utils
import hashlib
import os
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

FOLDER = Path()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        return

    def place(self) -> tuple[Path, str, dict[str, list[str]]]:
        """(file of the object, or folder of the bucket; key; query)."""
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        folder = FOLDER / bucket
        return (
            (folder / quote(key, safe="") if key else folder),
            key,
            parse_qs(parts.query, keep_blank_values=True),
        )

    def answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def error(self, status: int, code: str) -> None:
        self.answer(
            status,
            (
                b""
                if self.command == "HEAD"
                else f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            ),
        )

    def about(self, path: Path, data: bytes) -> dict[str, str]:
        modified = email.utils.formatdate(path.stat().st_mtime, usegmt=True)
        return {
            "ETag": f'"{hashlib.md5(data).hexdigest()}"',
            "Last-Modified": modified,
            "Accept-Ranges": "bytes",
        }

    def do_PUT(self) -> None:
        path, key, _ = self.place()
        data = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path.parent.mkdir(parents=True, exist_ok=True)
        if not key:
            path.mkdir(exist_ok=True)
            return self.answer(200)
        temporary = FOLDER / f"tmp-{uuid.uuid4().hex}"
        temporary.write_bytes(data)
        try:
            if self.headers.get("If-None-Match") == "*":
                os.link(temporary, path)
                temporary.unlink()
            else:
                temporary.replace(path)
        except FileExistsError:
            temporary.unlink()
            return self.error(412, "PreconditionFailed")
        with open(FOLDER / "log", "a") as log:
            log.write(f"{key}\n")
        self.answer(200, headers=self.about(path, data))

    def do_GET(self) -> None:
        path, key, query = self.place()
        if not key:
            return self.list(path, query)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return self.error(404, "NoSuchKey")
        headers, wanted = self.about(path, data), self.headers.get("Range")
        if wanted is None:
            return self.answer(200, data, headers)
        first, last = wanted.removeprefix("bytes=").split("-")
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last), len(data) - 1) if first and last else len(data) - 1
        self.answer(
            206,
            data[start : end + 1],
            {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"},
        )

    def do_HEAD(self) -> None:
        path, key, _ = self.place()
        if not key:
            return self.answer(200 if path.is_dir() else 404)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return self.error(404, "NoSuchKey")
        self.answer(200, headers=self.about(path, data), length=len(data))

    def list(self, folder: Path, query: dict[str, list[str]]) -> None:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        entries, shared = [], set()
        for name in sorted(unquote(name) for name in os.listdir(folder)) if folder.is_dir() else []:
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                shared.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            path = folder / quote(name, safe="")
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            entries.append(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size><ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            for name in sorted(shared)
        )
        head = f"<Name>b</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(entries) + len(shared)}</KeyCount><MaxKeys>1000</MaxKeys>"  # noqa: E501
        body = f"<ListBucketResult>{head}<IsTruncated>false</IsTruncated>{''.join(entries)}{common}</ListBucketResult>"  # noqa: E501
        self.answer(200, body.encode(), {"Content-Type": "application/xml"})

    def do_POST(self) -> None:
        folder, _, query = self.place()
        data = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if "delete" not in query:
            return self.error(400, "NotImplemented")
        for element in ElementTree.fromstring(data).iter():
            if element.tag.endswith("Key") and element.text:
                (folder / quote(element.text, safe="")).unlink(missing_ok=True)
        self.answer(200, b"<DeleteResult></DeleteResult>", {"Content-Type": "application/xml"})

    def do_DELETE(self) -> None:
        path, _, _ = self.place()
        path.unlink(missing_ok=True)
        self.answer(204)


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
