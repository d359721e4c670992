"""Csv files as records, one a line, with bounds: no line can make the reader swallow the next ones or exhaust memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import BytesIO

from ops.annotations.rows import Problem, shorten
from ops.annotations.vocabulary import AnnotationError

LINE_LIMIT = 1_000_000  # bytes; the longest line of any official file is below 1,000


def records(data: bytes, file: str) -> Iterator[tuple[int, list[str] | Problem]]:
    """(line number, fields), or (line number, problem) for a line that cannot be read. Blank lines carry nothing and are passed over.

    Raises AnnotationError for an empty file and for one that is not UTF-8 text at all (UTF-16, compressed, binary).
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise AnnotationError(file, "(whole file)", "an empty file", "csv rows")
    if b"\0" in data[:4096] or data[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"):
        raise AnnotationError(file, "encoding", f"bytes {data[:8].hex(' ')}", "UTF-8 text")
    return _records(BytesIO(data), file)


def _records(stream: BytesIO, file: str) -> Iterator[tuple[int, list[str] | Problem]]:
    line = 0
    while raw := stream.readline(LINE_LIMIT + 1):
        line += 1
        if len(raw) > LINE_LIMIT:
            size = _skip(raw, stream)
            yield line, Problem(file, line, "(line)", f"{size} bytes", f"line longer than {LINE_LIMIT} bytes")
            continue
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield line, Problem(file, line, "(line)", shorten(raw.decode("utf-8", "backslashreplace").rstrip("\r\n")), "not UTF-8 text")
            continue
        if '"' not in text:  # almost every line of the official files
            if text.strip():
                yield line, text.split(",")
            continue
        try:
            yield line, next(csv.reader([text], strict=True))
        except csv.Error as error:
            yield line, Problem(file, line, "(line)", shorten(text), f"broken quotes: {error}")


def _skip(raw: bytes, stream: BytesIO) -> int:
    """Passes over the rest of a line; gives the line's length in bytes."""
    size = len(raw)
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(LINE_LIMIT)
        size += len(raw)
    return size
