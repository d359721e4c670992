"""Text files line by line, and csv files as records, with bounds: no line can make the reader swallow the next ones or exhaust memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import BytesIO

from ops.annotations.rows import Problem, shorten
from ops.annotations.vocabulary import AnnotationError

LINE_LIMIT = 1_000_000  # bytes; the longest line of any official file is below 10,000


def text_lines(data: bytes, file: str) -> Iterator[tuple[int, str | Problem]]:
    """(line number, text without its end), or (line number, problem) for a line that cannot be read. Blank lines are passed over.

    Raises AnnotationError for an empty file and for one that is not UTF-8 text at all (UTF-16, compressed, binary).
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise AnnotationError(file, "(whole file)", "an empty file", "lines of text")
    if b"\0" in data[:4096] or data[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"):
        raise AnnotationError(file, "encoding", f"bytes {data[:8].hex(' ')}", "UTF-8 text")
    return _text_lines(BytesIO(data), file)


def records(data: bytes, file: str, delimiter: str = ",") -> Iterator[tuple[int, list[str] | Problem]]:
    """(line number, fields), or (line number, problem) for a line that cannot be read. Blank lines are passed over.

    Raises AnnotationError as `text_lines` does.
    """
    return _records(text_lines(data, file), file, delimiter)


def _text_lines(stream: BytesIO, file: str) -> Iterator[tuple[int, str | Problem]]:
    line, found = 0, False
    while raw := stream.readline(LINE_LIMIT + 1):
        line += 1
        if len(raw) > LINE_LIMIT:
            size, found = _skip(raw, stream), True
            yield line, Problem(file, line, "(line)", f"{size} bytes", "long_line", f"line longer than {LINE_LIMIT} bytes")
            continue
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            shown, found = shorten(raw.decode("utf-8", "backslashreplace").rstrip("\r\n")), True
            yield line, Problem(file, line, "(line)", shown, "text", "not UTF-8 text")
            continue
        if text and not text.isspace():
            found = True
            yield line, text
    if not found:  # blanks beyond those of ASCII
        raise AnnotationError(file, "(whole file)", "an empty file", "lines of text")


def _records(lines: Iterator[tuple[int, str | Problem]], file: str, delimiter: str) -> Iterator[tuple[int, list[str] | Problem]]:
    for line, text in lines:
        if isinstance(text, Problem):
            yield line, text
        elif '"' not in text:  # almost every line of the official files
            yield line, text.split(delimiter)
        else:
            try:
                yield line, next(csv.reader([text], delimiter=delimiter, strict=True))
            except csv.Error as error:
                yield line, Problem(file, line, "(line)", shorten(text), "text", f"broken quotes: {error}")


def _skip(raw: bytes, stream: BytesIO) -> int:
    """Passes over the rest of a line; gives the line's length in bytes."""
    size = len(raw)
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(LINE_LIMIT)
        size += len(raw)
    return size
