"""Whether a file reaches as far as its own structure says: boxes, chunks and elements that name
their size, and an index at the end.

A header's length in seconds is only a claim; these sizes are what a file that was cut short cannot
have right. Sources: ISO/IEC 14496-12 4.2 and 8.8, RFC 9559 (Matroska), RFC 8794 (EBML), Microsoft's
AVI RIFF reference with OpenDML 1.02, ASF specification 3.2.

Files are read piece by piece and never mapped: what is mapped counts as memory of the worker, which
is ended for too much of it, and a file that gets shorter meanwhile would end it too.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEAD = 65536
PIECE = 2**20  # bytes that are read at a time
FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof")
FILM_BOXES = (b"moov", b"mdat", b"moof", b"mfra")
MATROSKA_INDEX = 4 * 2**20  # so far from the end at most is it looked for
SEGMENT, CLUSTER, CHECKSUM = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xbf\x84"
MEDIA = 0.8  # share of a file up to which its pictures reach, where the index does not say it
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


MIN_PART, SMALLEST_PART, HEAD_OF_A_FILE = 256, 0.02, 80
# how files of these formats begin, and what stands in their first bytes too
STARTS = [
    (b"\x1a\x45\xdf\xa3", b"matroska"), (b"\x1a\x45\xdf\xa3", b"webm"),
    (b"FLV\x01", b"\0\0\0\x09\0\0\0\0"), (b"ftyp", b"isom"), (b"ftyp", b"mp4"),
]  # fmt: skip


class Ending(NamedTuple):
    """`cut` is what is missing at the end, in words, or None. `whole` is True where the structure
    proves that nothing is, `fragments` for an mp4 in fragments, whose index does not say how many
    there are, `media` about the byte where the pictures end then. `lost` counts the fragments that
    are missing between others, by the numbers that they have.
    """

    cut: str | None = None
    whole: bool = False
    fragments: bool = False
    media: int = 0
    lost: int = 0


def ending(path: Path) -> Ending:
    """Of a local file in mp4 or mov, Matroska, AVI, Ogg or ASF; of any other format nothing is
    known.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska(path, head, size)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _avi(path, size)
    if head[:4] == b"OggS":
        return _ogg(path, size)
    if ASF_FILE in head:
        place = head.index(ASF_FILE) + 40
        claimed = int.from_bytes(head[place : place + 8], "little")
        return Ending(whole=0 < claimed <= size, media=int(MEDIA * size))
    return _boxes(path, size)


def joined_behind(path: Path, reach: int) -> bool:
    """Whether another film of the same format begins behind byte `reach`, up to which a demuxer has
    read: parts joined by `cat`.
    """
    size = path.stat().st_size
    if size - reach <= max(MIN_PART, size * SMALLEST_PART):
        return False
    with open(path, "rb") as file:
        begin = file.read(HEAD_OF_A_FILE)
        for head, further in STARTS:
            if head in begin and any(
                further in at for at in _found(file, head, max(reach, HEAD_OF_A_FILE))
            ):
                return True
    return False


def _found(file: BinaryIO, word: bytes, first: int) -> Iterator[bytes]:
    """HEAD_OF_A_FILE bytes from each place of `word` on, from byte `first` to the end."""
    file.seek(first)
    data = b""
    while piece := file.read(PIECE):
        data += piece
        end = len(data) - HEAD_OF_A_FILE if len(piece) == PIECE else len(data)
        place = data.find(word)
        while 0 <= place < end:
            yield data[place : place + HEAD_OF_A_FILE]
            place = data.find(word, place + 1)
        data = data[max(end, 0) :]


def _boxes(path: Path, size: int) -> Ending:
    """By the top-level boxes of an mp4 or mov file."""
    place, kinds, numbers = 0, list[bytes](), list[int]()
    with open(path, "rb") as file:
        while place + 8 <= size:
            file.seek(place)
            head = file.read(24)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if kind == b"moof" and head[12:16] == b"mfhd":
                numbers.append(int.from_bytes(head[20:24], "big"))
            if not kinds and kind not in FIRST_BOXES:
                return Ending()
            kinds.append(kind)
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:  # up to the end of the file
                length = size - place
            if length < 8:
                return Ending()
            place += length
    if place > size and kinds[-1] not in FILM_BOXES and b"moov" in kinds:
        # what is left behind a film: no size is there
        return Ending(None, b"moof" not in kinds, b"moof" in kinds, int(MEDIA * size))
    if place > size:
        index = "" if b"moov" in kinds else " and the index (moov) is missing"
        return Ending(f"the file ends {place - size} bytes early{index}")
    if b"moov" not in kinds and kinds:
        return Ending("the index (moov) is missing")
    fragments = b"moof" in kinds
    return Ending(
        None,
        bool(kinds) and (not fragments or b"mfra" in kinds),
        fragments,
        int(MEDIA * size),
        _missing(numbers),
    )


def _missing(numbers: list[int]) -> int:
    """How many numbers are left out between fragments; some muxers count by more than one, or share
    the count with other files.
    """
    steps = [two - one for one, two in itertools.pairwise(numbers)]
    usual = max(1, min(steps)) if len(steps) > 1 else 1
    return sum(step // usual - 1 for step in steps if step > usual)


def _ogg(path: Path, size: int) -> Ending:
    """By the last page, whose table of segments says how long it is."""
    with open(path, "rb") as file:
        file.seek(max(0, size - HEAD))
        tail = file.read()
    place = tail.rfind(b"OggS")
    count = tail[place + 26] if 0 <= place < len(tail) - 26 else 0
    if place < 0 or place + 27 + count > len(tail):
        return Ending("the file ends within a page") if place >= 0 else Ending()
    short = place + 27 + count + sum(tail[place + 27 : place + 27 + count]) - len(tail)
    return Ending(f"the file ends {short} bytes early") if short > 0 else Ending()


def _matroska(path: Path, head: bytes, size: int) -> Ending:
    """By the size of the segment, which a recorder that was broken off leaves open, and the index
    behind the pictures.
    """
    length, place = _vint(head, 4)
    place += length or 0
    if length is None or head[place : place + 4] != b"\x18\x53\x80\x67":
        return Ending()
    length, place = _vint(head, place + 4)
    if length is None or place + length > size:
        return Ending()
    first = max(0, size - MATROSKA_INDEX)
    with open(path, "rb") as file:
        file.seek(first)
        index = file.read().rfind(b"\x1c\x53\xbb\x6b")
    return Ending(whole=index >= 0, media=first + index if index >= 0 else -1)


def wrong_sum(path: Path) -> str:
    """Which cluster of a Matroska file does not have the sum that stands in it (FFmpeg's muxer
    writes one), in words; "" for none.
    """
    size, place = path.stat().st_size, 0
    with open(path, "rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return ""
        while place + 8 <= size:
            file.seek(place)
            head = file.read(24)
            kind = head[: max(9 - head[0].bit_length(), 1)]
            length, inside = _vint(head, len(kind))
            if kind == SEGMENT:
                place += inside
                continue
            if length is None or not head[0] or place + inside + length > size:
                return ""  # no further element can be found by its length; a cut shows elsewhere
            if (
                kind == CLUSTER
                and head[inside : inside + 2] == CHECKSUM
                and len(head) >= inside + 6
            ):
                file.seek(place + inside + 6)
                if _sum(file, length - 6) != int.from_bytes(
                    head[inside + 2 : inside + 6], "little"
                ):
                    return (
                        f"the cluster at byte {place} does not have the sum (CRC-32) that stands"
                        " in it"
                    )
            place += inside + length
    return ""


def _sum(file: BinaryIO, left: int) -> int:
    """CRC-32 of the next `left` bytes."""
    found = 0
    while left > 0 and (piece := file.read(min(PIECE, left))):
        found, left = zlib.crc32(piece, found), left - len(piece)
    return found


def _vint(data: bytes, place: int) -> tuple[int | None, int]:
    """(value, place after it) of an EBML size; None for one that says "unknown"."""
    if place >= len(data) or not data[place]:
        return None, place + 1
    width = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value, place + width


def _avi(path: Path, size: int) -> Ending:
    """By the sizes of the RIFF chunks, and whether an index stands in one of them."""
    place, index = 0, 0
    with open(path, "rb") as file:
        while place + 12 <= size:
            file.seek(place)
            kind, length, form = struct.unpack("<4sI4s", file.read(12))
            if kind != b"RIFF" or form not in (b"AVI ", b"AVIX"):
                break  # what a tool has left behind
            # a last odd chunk may lack its padding byte
            if length < 4 or place + 8 + length > size + 1:
                return Ending()
            inner, end = place + 12, place + 8 + length
            while inner + 8 <= end:
                file.seek(inner)
                kind, length = struct.unpack("<4sI", file.read(8))
                index = inner if kind == b"idx1" else index
                inner += 8 + length + length % 2
            place = end + end % 2
    return Ending(whole=index > 0, media=index)
