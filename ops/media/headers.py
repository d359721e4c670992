"""What a stream's packets say before anything is decoded: whether its parameters (frame size, format) change on the way, which packets hold
a picture, and whether messages turn the picture.

Sources: ITU-T H.264 7.3.1 and H.265 7.3.1.2 (NAL units), ISO/IEC 14496-15 (length-prefixed NAL units), ISO/IEC 14496-2 6.2.3 (VOL) and
6.2.5 (VOP), ISO/IEC 13818-2 6.2.3 (picture header), RFC 6386 9.1 (VP8), the VP9 bitstream specification 6.2 (frame header),
ITU-T H.264 D.1 (supplemental enhancement information), Theora specification 6.1.
"""

from __future__ import annotations

import re

HEAD_BYTES = 4096  # parameter sets stand at the front of a key packet
DISPLAY_ORIENTATION = 47  # the message that turns a picture
# NAL unit types, by codec
SLICES = {"h264": range(1, 6), "hevc": range(32)}
ALONE = {"h264": (5,), "hevc": range(16, 24)}  # slices of pictures that need no other
MESSAGES, PARAMETERS = {"h264": 6, "hevc": 39}, {"h264": 7, "hevc": 33}
_START = re.compile(b"\x00\x00\x01")
_ESCAPED = re.compile(b"\x00\x00\x03")
# start code of a picture, byte behind it, shift and mask of its coding type, and the type that needs no other
_PICTURE = {
    "mpeg4": (re.compile(b"\x00\x00\x01\xb6"), 0, 6, 3, 0),
    "mpeg2video": (re.compile(b"\x00\x00\x01\x00"), 1, 3, 7, 1),
    "mpeg1video": (re.compile(b"\x00\x00\x01\x00"), 1, 3, 7, 1),
}
_VOL = re.compile(b"\x00\x00\x01[\x20-\x2f].*?(?=\x00\x00\x01)", re.DOTALL)


class Headers:
    """Watches one stream. `changed` is True as soon as a key packet brings parameters that neither the container nor an earlier one had,
    `turning` as soon as a message says how to lay the picture.
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
        """Whether a packet holds a picture or a part of one, and not messages and parameters alone."""
        if self.codec == "theora":  # chained streams repeat their headers
            return not packet[0] & 0x80
        if self.codec not in SLICES:
            return True
        at = self.prefix or (4 if packet[:4] == b"\0\0\0\1" else 3)
        if len(packet) <= at or _kind(self.codec, packet[at]) in SLICES[self.codec]:
            return True
        whole = len(packet) <= HEAD_BYTES
        units = _units(bytes(packet[:HEAD_BYTES]) + (b"\0\0\1" if whole and not self.prefix else b""), self.prefix)
        messages = [unit for unit in units if _kind(self.codec, unit[0]) == MESSAGES[self.codec]]
        self.turning = self.turning or any(DISPLAY_ORIENTATION in _payloads(self.codec, unit) for unit in messages)
        return not whole or not units or any(_kind(self.codec, unit[0]) in SLICES[self.codec] for unit in units)


def needs_others(codec: str, packet: bytes, prefix: int | None = None) -> bool:
    """Whether a packet's first picture is one that is known to need an earlier one; False where its head does not tell."""
    if codec in SLICES:
        kinds = [_kind(codec, unit[0]) for unit in _units(packet + b"\0\0\1", prefix) if _kind(codec, unit[0]) in SLICES[codec]]
        return bool(kinds) and (kinds[0] not in ALONE[codec])
    if codec == "vp8":
        return bool(packet[:1]) and bool(packet[0] & 1)
    if codec == "vp9":  # marker, profile, "an earlier frame is shown" and "not a key frame", from the highest bit
        return bool(packet[:1]) and packet[0] >> 6 == 2 and packet[0] & 0x30 != 0x30 and bool(packet[0] & 0x0C)
    if codec in _PICTURE:
        pattern, place, shift, mask, alone = _PICTURE[codec]
        found = pattern.search(packet)
        return found is not None and len(packet) > found.end() + place and packet[found.end() + place] >> shift & mask != alone
    return False


def length_prefix(codec: str, extradata: bytes) -> int | None:
    """Bytes of the lengths before NAL units by the container's record; 0 for start codes, None where it does not say."""
    if not extradata or codec not in SLICES:
        return None
    if extradata[0] != 1 or extradata[:3] == b"\0\0\1" or extradata[:4] == b"\0\0\0\1":
        return 0
    place = 4 if codec == "h264" else 21
    return (extradata[place] & 3) + 1 if len(extradata) > place else None


def parameters(codec: str, packet: bytes, prefix: int | None = None) -> list[bytes]:
    """Sequence parameter sets (H.264, HEVC) or video object layers (MPEG-4) in the head of a packet; empty for other codecs."""
    if codec == "mpeg4":
        return [match.group() for match in _VOL.finditer(packet)]
    if codec not in SLICES:
        return []
    return [unit for unit in _units(packet, prefix) if _kind(codec, unit[0]) == PARAMETERS[codec]]


def _kind(codec: str, byte: int) -> int:
    """A NAL unit's type, by its first byte."""
    return byte & 0x1F if codec == "h264" else byte >> 1 & 0x3F


def _units(packet: bytes, prefix: int | None) -> list[bytes]:
    """NAL units of a packet, after start codes or lengths; those that are cut off are left out."""
    if not prefix and (packet[:3] == b"\0\0\1" or packet[:4] == b"\0\0\0\1"):
        places = [match.end() for match in _START.finditer(packet)]
        found = [packet[one : two - 3].rstrip(b"\0") for one, two in zip(places, places[1:], strict=False)]
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
