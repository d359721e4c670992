"""Boxes of an mp4, mov or AVIF file that FFmpeg does not tell of: which tracks are auxiliary, as
the alpha of other pictures is.

Sources: ISO/IEC 14496-12 8.3 and 8.4.3 (track references, handlers), the AV1 image file format 4.2
(auxiliary sequences).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LARGEST_INDEX = 64 * 2**20  # a moov box beyond is not read for this


def auxiliary_tracks(path: Path) -> set[int]:
    """Ids of the tracks that have an auxiliary handler, or refer to another track as its auxiliary.
    Empty for any other format.
    """
    found = set()
    with open(path, "rb") as file:
        index = _index(file, path.stat().st_size)
    for kind, track in boxes(index):
        if kind != b"trak":
            continue
        parts = dict(boxes(track))
        header, handler = (
            parts.get(b"tkhd", b""),
            dict(boxes(parts.get(b"mdia", b""))).get(b"hdlr", b""),
        )
        refers = any(kind == b"auxl" for kind, _ in boxes(parts.get(b"tref", b"")))
        if header and (handler[8:12] == b"auxv" or refers):
            place = 20 if header[0] == 1 else 12
            found.add(int.from_bytes(header[place : place + 4], "big"))
    return found


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the boxes that follow each other in `data`; one that is longer than what
    is left ends it.
    """
    place = 0
    while place + 8 <= len(data):
        length, kind, head = (
            int.from_bytes(data[place : place + 4], "big"),
            data[place + 4 : place + 8],
            8,
        )
        if length == 1:
            length, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        if length < head or place + length > len(data):
            return
        yield kind, data[place + head : place + length]
        place += length


def _index(file: BinaryIO, size: int) -> bytes:
    """What is in the moov box; nothing where there is none."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length, kind, start = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        if length < start:
            return b""
        if kind == b"moov":
            file.seek(place + start)
            return file.read(length - start) if length <= LARGEST_INDEX else b""
        place += length
    return b""
