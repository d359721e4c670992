"""What decoders write about damage, apart from what they write about other things.

Decoders conceal: a picture with lost parts is given out like any other, and an error in FFmpeg's
log is often the only sign of it. So both FFmpegs (PyAV's and decord's) write their errors to file
descriptor 2 while a video is stored, where the worker catches them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import av

# Errors by FFmpeg's log level that tell of no damage to a picture: packets that hold messages or
# headers alone, features that are passed over, timestamps, tables that a container may lack, other
# streams.
HARMLESS = (
    "missing picture in access unit",
    "no frame!",
    "non monoton",
    "non-monoton",
    "invalid timestamp",
    "is not implemented",
    "not supported",
    "unsupported",
    "sei type",
    "chapter track",
    "timescale not set",
    "could not find codec parameters",
    "deprecated pixel format",
    "skipping nal unit",
    "skipping invalid undecodable nalu",
    "multi-layer",
    "vps 0 does not exist",
    "truncating packet",
    "edit list",
    "no accelerated colorspace",
    "icc profile",
    "exif",
    "unknown profile",
    "update your ffmpeg",
    "sample in our collection",
    "upload a sample",
    "if you want to help",
    "last message repeated",
    "a non-intra slice in an idr nal unit",
    "header packet passed to frame decoder",
    "overread vui",
    "overread end of vui",
    "packet mismatch",
    "truncated vui",
)
_LINE = re.compile(r"^\[(?P<who>[\w,.\- ]+?) @ 0x[0-9a-f]+\] (?P<what>.*)$")
_PLACE = re.compile(r"\bat (?:pos )?(0x[0-9a-f]+|\d+)\b")
# decord's own prefix: a time, and a path of the machine that built it
OWN = re.compile(r"^\[\d\d:\d\d:\d\d\] \S+?:\d+: ")
OPENED = re.compile(r"^\[/.*\](?=[A-Z])")  # and the path of the file
ELSEWHERE = ("sws", "Parsed_", "graph", "auto_")  # converters and filters, behind the decoder
LONGEST = 120


def damage_in(text: str, demuxer: str, reach: int, only: bool = False) -> str:
    """The first line of a log that tells of damage to pictures, without addresses and paths; "" for
    none.

    Args:
        text: the log, of many lines.
        demuxer: FFmpeg's name of the one that read the container.
        reach: byte where the last packet ends; what the demuxer says of places behind it is no
            damage: cameras append trailers.
        only: asks for the demuxer's lines alone.
    """
    for who, said in _said(text):
        places = [int(place, 0) for place in _PLACE.findall(said)] if who == demuxer else []
        if (who == demuxer or not only) and not (places and min(places) >= reach):
            return said
    return ""


def _said(text: str) -> Iterator[tuple[str, str]]:
    """(who says it, what) of the lines that are not harmless."""
    for line in text.splitlines():
        line = OPENED.sub("", OWN.sub("", line).strip())
        found = _LINE.match(line)
        said = found["what"].strip() if found else line
        if found and found["who"].startswith(ELSEWHERE):
            continue
        if said and not any(word in said.lower() for word in HARMLESS):
            yield (
                found["who"] if found else "",
                said if len(said) <= LONGEST else f"{said[:LONGEST].rsplit(' ', 1)[0]} ...",
            )


class Ear:
    """Where in a log the words on a film's own pictures begin. `size` is how long the log is;
    packets are told before they are decoded.

    What is said of packets before the first picture that comes out is said of pictures that nobody
    is shown.
    """

    def __init__(self, size: Callable[[], int]) -> None:
        self.begin, self._size = size(), size
        self._packets: list[tuple[int, int]] | None = []

    def afresh(self) -> None:
        """Forgets what was said: the packets before the next one are passed over."""
        self.begin, self._packets = self._size(), []

    def before(self, packet: Any) -> None:
        """Takes the next packet."""
        if self._packets is not None and packet.pts is not None:
            self._packets.append((packet.pts, self._size()))

    def shown(self, frame: Any) -> None:
        """Takes the next picture."""
        if self._packets is None:
            return
        first = (
            None
            if frame.pts is None
            else next((said for pts, said in self._packets if pts >= frame.pts), None)
        )
        self.begin, self._packets = max(self.begin, first or 0), None


@contextmanager
def outspoken() -> Iterator[None]:
    """PyAV's FFmpeg writes its errors to file descriptor 2 meanwhile, from all its threads."""
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.ERROR)
    try:
        yield
    finally:
        av.logging.set_level(None)
