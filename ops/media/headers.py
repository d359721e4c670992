"""Whether a stream's parameters (frame size, format) change on the way, from the headers inside its key packets; nothing is decoded.

Sources: ITU-T H.264 7.3.1 and H.265 7.3.1.2 (NAL units), ISO/IEC 14496-15 (length-prefixed NAL units), ISO/IEC 14496-2 6.2.3 (VOL).
"""

from __future__ import annotations

import re

HEAD_BYTES = 4096  # parameter sets stand at the front of a key packet
_START = re.compile(b"\x00\x00\x01")
_VOL = re.compile(b"\x00\x00\x01[\x20-\x2f].*?(?=\x00\x00\x01)", re.DOTALL)


class Headers:
    """Watches one stream. `changed` is True as soon as a key packet brings parameters that neither the container nor an earlier one had."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self.codec, self.known = codec, bytes(extradata or b"")
        self.changed = False

    def see(self, packet: bytes) -> None:
        """Takes the head of a key packet."""
        for found in parameters(self.codec, packet):
            if not self.known:
                self.known = found
            elif found not in self.known:
                self.changed = True


def parameters(codec: str, packet: bytes) -> list[bytes]:
    """Sequence parameter sets (H.264, HEVC) or video object layers (MPEG-4) in the head of a packet; empty for other codecs."""
    if codec == "mpeg4":
        return [match.group() for match in _VOL.finditer(packet)]
    if codec == "h264":
        return [unit for unit in _units(packet) if unit[0] & 0x1F == 7]
    if codec == "hevc":
        return [unit for unit in _units(packet) if unit[0] >> 1 & 0x3F == 33]
    return []


def _units(packet: bytes) -> list[bytes]:
    """NAL units of a packet, after start codes or lengths of four bytes; those that are cut off are left out."""
    if packet[:3] == b"\0\0\1" or packet[:4] == b"\0\0\0\1":
        places = [match.end() for match in _START.finditer(packet)]
        return [packet[one : two - 3].rstrip(b"\0") for one, two in zip(places, places[1:], strict=False) if two - 3 > one]
    units, place = [], 0
    while place + 5 <= len(packet):
        length = int.from_bytes(packet[place : place + 4], "big")
        if length == 0 or place + 4 + length > len(packet):
            break
        units.append(packet[place + 4 : place + 4 + length])
        place += 4 + length
    return units
