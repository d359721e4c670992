"""Text files line by line, and csv files as records, with bounds: no line can make the reader
swallow the next ones or exhaust memory.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from io import BytesIO

from ops.annotations.rows import Problem, shorten
from ops.annotations.vocabulary import AnnotationError

LINE_LIMIT = 1_000_000  # bytes; the longest line of any official file is below 10,000
LINES_OF_A_RECORD = 100  # that a quoted field may run over
UNCLOSED = "unexpected end of data"  # how csv calls a quote that is open at the end


def text_lines(data: bytes, file: str) -> Iterator[tuple[int, str | Problem]]:
    """(line number, text without its end), or (line number, problem) for a line that cannot be
    read. Blank lines are passed over.

    Lines end in LF or CRLF; in CR where the file holds no LF at all. Raises AnnotationError for an
    empty file and for one that is not UTF-8 text at all (UTF-16, compressed, binary).
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise AnnotationError(file, "(whole file)", "an empty file", "lines of text")
    if b"\0" in data[:4096] or data[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"):
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0\0" in (data[1:4:2], data[0:4:2])
        expected = "UTF-8 text (this looks like UTF-16: save it anew)" if utf16 else "UTF-8 text"
        raise AnnotationError(file, "encoding", f"bytes {data[:8].hex(' ')}", expected)
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    return _text_lines(BytesIO(data), file)


def records(
    data: bytes, file: str, delimiter: str = ","
) -> Iterator[tuple[int, list[str] | Problem]]:
    """(line number, fields), or (line number, problem) for a line that cannot be read. Blank lines
    are passed over.

    A quoted field may hold line ends: the record has the number of its first line. It must have as
    many fields as the first record, so that a stray quote does not swallow the rows below it.

    Args:
        data: content of the file.
        file: its name, for problems and errors.
        delimiter: between fields, one character.

    Raises:
        AnnotationError: as `text_lines` does.
    """
    return _records(text_lines(data, file), file, delimiter)


def _text_lines(stream: BytesIO, file: str) -> Iterator[tuple[int, str | Problem]]:
    line, found = 0, False
    while raw := stream.readline(LINE_LIMIT + 1):
        line += 1
        if len(raw) > LINE_LIMIT:
            size, found = _skip(raw, stream), True
            yield (
                line,
                Problem(
                    file,
                    line,
                    "(line)",
                    f"{size} bytes",
                    "long_line",
                    f"line longer than {LINE_LIMIT} bytes",
                ),
            )
            continue
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            shown, found = shorten(raw.decode("utf-8", "backslashreplace").rstrip("\r\n")), True
            yield line, Problem(file, line, "(line)", shown, "text", "not UTF-8 text")
            continue
        if text and not text.isspace():
            found = True
            if "\r" in text and '"' not in text:  # several rows, or two of one line's fields
                yield (
                    line,
                    Problem(
                        file,
                        line,
                        "(line)",
                        shorten(text),
                        "text",
                        "a carriage return within the line",
                    ),
                )
            else:
                yield line, text
    if not found:  # blanks beyond those of ASCII
        raise AnnotationError(file, "(whole file)", "an empty file", "lines of text")


def _records(
    lines: Iterator[tuple[int, str | Problem]], file: str, delimiter: str
) -> Iterator[tuple[int, list[str] | Problem]]:
    # lines that were looked at for the end of a quote; fields of the first record
    ahead, width = deque[tuple[int, str | Problem]](), 0
    while (item := ahead.popleft() if ahead else next(lines, None)) is not None:
        line, text = item
        if isinstance(text, Problem):
            yield line, text
            continue
        if '"' not in text:  # almost every line of the official files
            fields: list[str] | csv.Error = text.split(delimiter)
        else:
            fields = _fields([text], delimiter)
        if isinstance(fields, csv.Error) and str(fields) == UNCLOSED:
            taken, whole = _to_the_end(line, text, ahead, lines, delimiter)
            if isinstance(whole, list) and len(whole) == (width or len(whole)):
                fields = whole
            else:  # a stray quote must not swallow the rows below it
                ahead.extendleft(reversed(taken))
        if isinstance(fields, csv.Error):
            yield (
                line,
                Problem(file, line, "(line)", shorten(text), "text", f"broken quotes: {fields}"),
            )
        else:
            width = width or len(fields)
            yield line, fields


def _fields(lines: list[str], delimiter: str) -> list[str] | csv.Error:
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return error


def _to_the_end(
    line: int,
    text: str,
    ahead: deque[tuple[int, str | Problem]],
    lines: Iterator[tuple[int, str | Problem]],
    delimiter: str,
) -> tuple[list[tuple[int, str | Problem]], list[str] | csv.Error | None]:
    """The lines after one within which a quote is open, up to its end, and the record that they
    make; None or an error where none ends it.

    Of the lines that are looked at none is lost: those that make no record are the caller's to give
    back.
    """
    taken, parts, size, quotes = (
        list[tuple[int, str | Problem]](),
        [text],
        len(text),
        text.count('"'),
    )
    while len(taken) < LINES_OF_A_RECORD and size <= LINE_LIMIT:
        item = ahead.popleft() if ahead else next(lines, None)
        if item is None:
            break
        taken.append(item)
        number, more = item
        if isinstance(more, Problem):
            break
        parts[-1] += "\n" * (number - line)  # blank lines in between belong to the field
        parts.append(more)
        line, size, quotes = number, size + len(more), quotes + more.count('"')
        if quotes % 2 == 0:
            fields = _fields(parts, delimiter)
            if isinstance(fields, list) or str(fields) != UNCLOSED:
                return taken, fields
    return taken, None


def _skip(raw: bytes, stream: BytesIO) -> int:
    """Passes over the rest of a line; gives the line's length in bytes."""
    size = len(raw)
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(LINE_LIMIT)
        size += len(raw)
    return size
