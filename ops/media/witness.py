"""A stricter decode's word on a film whose usual decoders pass over damage: HEVC, VP8 and VP9.

A flipped bit throws an arithmetic decoder out of step, and what follows is another picture that
nothing in it gives away: the usual decoders of these three write nothing. What can tell is asked
here, in a second decode of the whole film:

- VP9: libvpx looks at the padding behind the coded pictures, and refuses.
- VP8: libvpx and FFmpeg's own decoder read on differently behind the end of the data: their
  pictures are no longer the same.
- HEVC whose rows have entry points (x265 writes them): from these, each row is decoded on its own,
  and is another picture where the row before did not end in its place. HEVC that carries MD5 sums
  of its pictures: FFmpeg compares them.

Of any other HEVC nobody can know. Where the library is not in this build of FFmpeg nothing is
asked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np

from ops.media.containers import open_film
from ops.media.decoding import DecodeError
from ops.media.headers import can_be_checked
from ops.media.probe import MAX_PIXELS, Facts, video_stream

LIBRARIES = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def tee(pieces: Iterator[np.ndarray], sums: list[int]) -> Iterator[np.ndarray]:
    """Passes the pieces on and appends every frame's checksum to `sums`."""
    for piece in pieces:
        sums += [zlib.crc32(np.ascontiguousarray(frame).data) for frame in piece]
        yield piece


def contradiction(path: Path, facts: Facts, sums: list[int], short_side: int | None) -> str:
    """What a stricter decode of a film contradicts, in words; "" for nothing.

    What the decoder writes besides goes to file descriptor 2, where it is heeded by whoever calls.

    Args:
        path: of the film, a local file.
        facts: of a probe of it.
        sums: checksums of the stored frames (`tee`), in order.
        short_side: pixels of the stored frames' shorter side; None is as coded.

    Raises:
        MemoryError: the kernel refuses memory.
    """
    if facts.codec not in (*LIBRARIES, "hevc") or LIBRARIES.get(facts.codec, "") not in (
        "",
        *av.codecs_available,
    ):
        return ""
    found = 0
    for frame in _frames(path, strict=True):
        if frame is None:
            # one that takes no frame does not know its kind
            return "" if not found else f"a second decoder fails after frame {found - 1}"
        if (
            facts.codec != "vp9"
            and found < len(sums)
            and _checksum(frame, short_side) != sums[found]
        ):
            return _first_other(path)
        found += 1  # noqa: SIM113
    return ""


def _checksum(frame: Any, short_side: int | None) -> int:
    from ops.media.pyav_reader import upright

    try:
        return zlib.crc32(np.ascontiguousarray(upright(frame, short_side)).data)
    except DecodeError:
        return -1


def _first_other(path: Path) -> str:
    """The first picture that the usual decode and the strict one do not share, as decoded, before
    any conversion; "" for none.
    """
    for number, (one, two) in enumerate(
        zip_longest(_frames(path, strict=False), _frames(path, strict=True))
    ):
        if one is None or two is None:
            return ""
        if (one.width, one.height, one.format.name) != (two.width, two.height, two.format.name):
            return ""
        deep = any(component.bits > 8 for component in one.format.components)
        if any(
            not np.array_equal(_rows(a, deep), _rows(b, deep))
            for a, b in zip(one.planes, two.planes, strict=True)
        ):
            return f"two ways to decode it do not give the same picture {number}"
    return ""


def _rows(plane: Any, deep: bool) -> np.ndarray:
    """A plane's bytes without the padding of its rows; samples are of two bytes where they are
    `deep`.
    """
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[
        : plane.height, : plane.width * (2 if deep else 1)
    ]


def _frames(path: Path, strict: bool) -> Iterator[Any]:
    """Pictures from the first key frame on, in the order of showing; None, at the end, for a packet
    that is refused.
    """
    with open_film(path) as container:
        stream = video_stream(container)
        context, begun = _context(stream, strict), False
        for packet in container.demux(stream):
            if not begun and packet.size:
                if not packet.is_keyframe:
                    continue
                begun = True
                if (
                    strict
                    and context.name == "hevc"
                    and not can_be_checked(bytes(packet), context.extradata)
                ):
                    return
            if packet.size == 0 and (packet.pts is not None or packet.dts is not None):
                continue
            try:
                yield from context.decode(packet if packet.size else None)
            except MemoryError:
                raise
            except av.error.FFmpegError:
                yield None
                return


def _context(stream: Any, strict: bool) -> Any:
    """A decoder of the stream's codec, the strict one or the usual one."""
    usual = stream.codec_context
    codec = usual.codec.canonical_name
    library = LIBRARIES.get(codec) if strict else None
    context = av.CodecContext.create(library or usual.codec.name, "r")
    context.extradata = usual.extradata
    context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "crccheck"}
    if strict and codec == "hevc":
        context.thread_type, context.thread_count = "SLICE", 2
    else:
        context.thread_count = 1
    return context
