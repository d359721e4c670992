"""What a stream's packets say before anything is decoded: whether its parameters (frame size,
format) change on the way, which packets hold a picture, and whether messages turn the picture.

Sources: ITU-T H.264 7.3.1 and H.265 7.3.1.2 (NAL units), ISO/IEC 14496-15 (length-prefixed NAL
units), ISO/IEC 14496-2 6.2.3 (VOL) and 6.2.5 (VOP), ISO/IEC 13818-2 6.2.3 (picture header), RFC
6386 9.1 (VP8), the VP9 bitstream specification 6.2 (frame header), ITU-T H.264 D.1 (supplemental
enhancement information), Theora specification 6.1.
"""

from __future__ import annotations

import itertools
import re

HOLE = bytes(16)
HEAD_BYTES = 4096  # parameter sets stand at the front of a key packet
DISPLAY_ORIENTATION = 47  # the message that turns a picture
# NAL unit types, by codec
SLICES = {"h264": range(1, 6), "hevc": range(32)}
ALONE = {"h264": (5,), "hevc": range(16, 24)}  # slices of pictures that need no other
MESSAGES, PARAMETERS = {"h264": 6, "hevc": 39}, {"h264": 7, "hevc": 33}
PICTURE_PARAMETERS, SUFFIX_MESSAGES, PICTURE_SUMS = 34, 40, 132  # of HEVC
_START = re.compile(b"\x00\x00\x01")
_ESCAPED = re.compile(b"\x00\x00\x03")
# start code of a picture, byte behind it, shift and mask of its coding type, and the type that
# needs no other
_PICTURE = {
    "mpeg4": (re.compile(b"\x00\x00\x01\xb6"), 0, 6, 3, 0),
    "mpeg2video": (re.compile(b"\x00\x00\x01\x00"), 1, 3, 7, 1),
    "mpeg1video": (re.compile(b"\x00\x00\x01\x00"), 1, 3, 7, 1),
}
_VOL = re.compile(b"\x00\x00\x01[\x20-\x2f].*?(?=\x00\x00\x01)", re.DOTALL)


class Headers:
    """Watches one stream. `changed` is True as soon as a key packet brings parameters that neither
    the container nor an earlier one had, `turning` as soon as a message says how to lay the
    picture.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self.codec, self.known = codec, bytes(extradata or b"")
        self.changed = self.turning = False
        self.prefix = length_prefix(codec, self.known)

    def see(self, packet: bytes) -> None:
        """Takes the head of a key packet."""
        for found in parameters(self.codec, packet, self.prefix):
            if not self.known:
                self.known = found
            elif found not in self.known:
                self.changed = True

    def shows(self, packet: memoryview) -> bool:
        """Whether a packet holds a picture or a part of one, and not messages and parameters
        alone.
        """
        if self.codec == "theora":  # chained streams repeat their headers
            return not packet[0] & 0x80
        if self.codec not in SLICES:
            return True
        at = self.prefix or (4 if packet[:4] == b"\0\0\0\1" else 3)
        if len(packet) <= at or _kind(self.codec, packet[at]) in SLICES[self.codec]:
            return True
        whole = len(packet) <= HEAD_BYTES
        units = _units(
            bytes(packet[:HEAD_BYTES]) + (b"\0\0\1" if whole and not self.prefix else b""),
            self.prefix,
        )
        messages = [unit for unit in units if _kind(self.codec, unit[0]) == MESSAGES[self.codec]]
        self.turning = self.turning or any(
            DISPLAY_ORIENTATION in _payloads(self.codec, unit) for unit in messages
        )
        return (
            not whole
            or not units
            or any(_kind(self.codec, unit[0]) in SLICES[self.codec] for unit in units)
        )

    def impossible(self, packet: memoryview) -> bool:
        """Whether zeros stand within a coded picture where the format forbids more than two
        (7.4.1.1 of both): a hole in the file.

        Behind start codes FFmpeg finds such a hole itself, as the end of a unit.
        """
        if not self.prefix or HOLE not in (data := bytes(packet)):
            return False
        slices = [
            unit
            for unit in _units(data, self.prefix)
            if _kind(self.codec, unit[0]) in SLICES[self.codec]
        ]
        return any(HOLE in unit.rstrip(b"\0") for unit in slices)


def needs_others(codec: str, packet: bytes, prefix: int | None = None) -> bool:
    """Whether a packet's first picture is one that is known to need an earlier one; False where its
    head does not tell.
    """
    if codec in SLICES:
        kinds = [
            _kind(codec, unit[0])
            for unit in _units(packet + b"\0\0\1", prefix)
            if _kind(codec, unit[0]) in SLICES[codec]
        ]
        return bool(kinds) and (kinds[0] not in ALONE[codec])
    if codec == "vp8":
        return bool(packet[:1]) and bool(packet[0] & 1)
    # marker, profile, "an earlier frame is shown" and "not a key frame", from the highest bit
    if codec == "vp9":
        return (
            bool(packet[:1])
            and packet[0] >> 6 == 2
            and packet[0] & 0x30 != 0x30
            and bool(packet[0] & 0x0C)
        )
    if codec in _PICTURE:
        pattern, place, shift, mask, alone = _PICTURE[codec]
        found = pattern.search(packet)
        return (
            found is not None
            and len(packet) > found.end() + place
            and packet[found.end() + place] >> shift & mask != alone
        )
    return False


def length_prefix(codec: str, extradata: bytes) -> int | None:
    """Bytes of the lengths before NAL units by the container's record; 0 for start codes, None
    where it does not say.
    """
    if not extradata or codec not in SLICES:
        return None
    if extradata[0] != 1 or extradata[:3] == b"\0\0\1" or extradata[:4] == b"\0\0\0\1":
        return 0
    place = 4 if codec == "h264" else 21
    return (extradata[place] & 3) + 1 if len(extradata) > place else None


def parameters(codec: str, packet: bytes, prefix: int | None = None) -> list[bytes]:
    """Sequence parameter sets (H.264, HEVC) or video object layers (MPEG-4) in the head of a
    packet; empty for other codecs.
    """
    if codec == "mpeg4":
        return [match.group() for match in _VOL.finditer(packet)]
    if codec not in SLICES:
        return []
    return [unit for unit in _units(packet, prefix) if _kind(codec, unit[0]) == PARAMETERS[codec]]


def can_be_checked(packet: bytes, extradata: bytes | None) -> bool:
    """Whether an HEVC stream with this first key packet says more than its pictures: entry points
    of rows, or sums of the pictures.
    """
    prefix = length_prefix("hevc", bytes(extradata or b""))
    units = [
        *_record(bytes(extradata or b"")),
        *_units(packet if prefix else packet + b"\0\0\1", prefix),
    ]
    sums = any(
        PICTURE_SUMS in _payloads("hevc", unit)
        for unit in units
        if _kind("hevc", unit[0]) == SUFFIX_MESSAGES
    )
    return sums or any(
        _has_entry_points(unit) for unit in units if _kind("hevc", unit[0]) == PICTURE_PARAMETERS
    )


def _record(extradata: bytes) -> list[bytes]:
    """Parameter sets in the record of an mp4 or Matroska file (hvcC), or after start codes."""
    if length_prefix("hevc", extradata) in (0, None):
        return _units(extradata + b"\0\0\1", 0)
    units, place = list[bytes](), 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        count, place = int.from_bytes(extradata[place + 1 : place + 3], "big"), place + 3
        for _ in range(count):
            length = int.from_bytes(extradata[place : place + 2], "big")
            units.append(extradata[place + 2 : place + 2 + length])
            place += 2 + length
            if place >= len(extradata):
                break
    return [unit for unit in units if unit]


def _has_entry_points(unit: bytes) -> bool:
    """`entropy_coding_sync_enabled_flag` of an HEVC picture parameter set (7.3.2.3.1)."""
    bits = "".join(f"{byte:08b}" for byte in _ESCAPED.sub(b"\0\0", unit)[2:])
    place = 0

    def number() -> int:  # Exp-Golomb
        nonlocal place
        zeros = len(bits[place:]) - len(bits[place:].lstrip("0"))
        value = int(bits[place + zeros : place + 2 * zeros + 1] or "1", 2) - 1
        place += 2 * zeros + 1
        return value

    def flags(count: int) -> str:
        nonlocal place
        place += count
        return bits[place - count : place]

    number(), number()  # its own and the sequence's id
    flags(7)
    for _ in range(3):  # reference pictures, twice, and the first quantiser
        number()
    if flags(3)[-1:] == "1":
        number()
    number(), number()  # quantisers of the colours
    return flags(6)[-1:] == "1"


def _kind(codec: str, byte: int) -> int:
    """A NAL unit's type, by its first byte."""
    return byte & 0x1F if codec == "h264" else byte >> 1 & 0x3F


def _units(packet: bytes, prefix: int | None) -> list[bytes]:
    """NAL units of a packet, after start codes or lengths; those that are cut off are left out."""
    if not prefix and (packet[:3] == b"\0\0\1" or packet[:4] == b"\0\0\0\1"):
        places = [match.end() for match in _START.finditer(packet)]
        found = [packet[one : two - 3].rstrip(b"\0") for one, two in itertools.pairwise(places)]
        return [unit for unit in found if unit]
    units, place, prefix = [], 0, prefix or 4
    while place + prefix < len(packet):
        length = int.from_bytes(packet[place : place + prefix], "big")
        if length == 0 or place + prefix + length > len(packet):
            break
        units.append(packet[place + prefix : place + prefix + length])
        place += prefix + length
    return units


def _payloads(codec: str, unit: bytes) -> set[int]:
    """Types of the messages in a unit of supplemental enhancement information."""
    body, place, found = _ESCAPED.sub(b"\0\0", unit), 1 if codec == "h264" else 2, set[int]()
    while place + 2 <= len(body) and body[place:] != b"\x80":
        kind = size = 0
        while place < len(body) and body[place] == 0xFF:
            kind, place = kind + 255, place + 1
        kind, place = kind + (body[place] if place < len(body) else 0), place + 1
        while place < len(body) and body[place] == 0xFF:
            size, place = size + 255, place + 1
        size, place = size + (body[place] if place < len(body) else 0), place + 1
        found.add(kind)
        place += size
    return found
