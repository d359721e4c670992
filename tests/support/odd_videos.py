"""Byte surgery on small videos: what muxers, recorders and `cat` leave, made on the spot."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

Matrix = tuple[int, int, int, int]


def with_matrix(source: Path, target: Path, matrix: Matrix, last: int = 1) -> Path:
    """An mp4 with a, b, c, d in its only track's display matrix."""
    data = bytearray(source.read_bytes())
    place, (a, b, c, d) = data.index(b"tkhd") + 44, matrix
    data[place : place + 36] = struct.pack(
        ">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, last << 30
    )
    target.write_bytes(data)
    return target


def remuxed(
    source: Path, target: Path, change: Callable[[int, av.Packet, av.VideoStream], list[av.Packet]]
) -> Path:
    """The packets that `change(number, packet, stream)` makes of each packet."""
    with av.open(str(source)) as one, av.open(str(target), "w") as two:
        stream = one.streams.video[0]
        copied = two.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in one.demux(stream) if packet.size):
            for piece in change(number, packet, stream):
                piece.stream = copied
                two.mux(piece)
    return target


def replaced(packet: av.Packet, data: bytes) -> av.Packet:
    """A packet with other data at the same time."""
    piece = av.Packet(data)
    piece.pts, piece.dts, piece.duration, piece.time_base, piece.is_keyframe = (
        packet.pts, packet.dts, packet.duration, packet.time_base, packet.is_keyframe,
    )  # fmt: skip
    return piece


def message(number: int, prefix: bytes) -> bytes:
    """An H.264 unit that holds a message alone: a user's text, or (47) "turn by half a circle"."""
    # no cancel, no flips, 0x8000 / 2^16 turns, once and on
    payload = b"0123456789abcdef" if number == 5 else bytes.fromhex("0800020c")
    unit = bytes([6, number, len(payload)]) + payload + b"\x80"
    return (prefix or struct.pack(">I", len(unit))) + unit


def lengthened(source: Path, target: Path, factor: int) -> Path:
    """An avi or mkv whose header claims `factor` times its length."""
    data = bytearray(source.read_bytes())
    if data[:4] == b"RIFF":
        for tag, offset in ((b"avih", 24), (b"strh", 40)):
            place = data.index(tag) + offset
            data[place : place + 4] = struct.pack(
                "<I", struct.unpack("<I", data[place : place + 4])[0] * factor
            )
    else:
        place = data.index(b"\x44\x89\x88") + 3
        data[place : place + 8] = struct.pack(
            ">d", struct.unpack(">d", data[place : place + 8])[0] * factor
        )
    target.write_bytes(data)
    return target


def with_media_scale(source: Path, target: Path, factor: int) -> Path:
    """An mp4 whose media header claims a `factor`-th of its length."""
    data = bytearray(source.read_bytes())
    place = data.index(b"mdhd") + 20
    data[place : place + 4] = struct.pack(
        ">I", struct.unpack(">I", data[place : place + 4])[0] // factor
    )
    target.write_bytes(data)
    return target


def transport_packets_lost(source: Path, target: Path, at: float, count: int = 3) -> Path:
    """A transport stream without `count` packets."""
    data = source.read_bytes()
    first = int(len(data) // 188 * at) * 188
    target.write_bytes(data[:first] + data[first + 188 * count :])
    return target


def cut_in_last_packet(source: Path, target: Path) -> Path:
    """A file that ends in the middle of its last picture."""
    with av.open(str(source)) as opened:
        place, size = max(
            (packet.pos, packet.size) for packet in opened.demux(video=0) if packet.size
        )
    target.write_bytes(source.read_bytes()[: place + size * 2 // 5])
    return target


def exif_pictures(target: Path, images: np.ndarray, orientations: list[int]) -> Path:
    """Motion JPEG whose pictures say by EXIF how they lie."""
    pieces = []
    for image, orientation in zip(images, orientations, strict=True):
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x112] = orientation
        Image.fromarray(image).save(file, "JPEG", exif=exif, quality=92)
        pieces.append(file.getvalue())
    with av.open(str(target), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuvj420p"
        for number, piece in enumerate(pieces):
            packet = av.Packet(piece)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            output.mux(packet)
    return target


def two_tracks(target: Path, film: np.ndarray, alpha: np.ndarray, alpha_first: bool) -> Path:
    """An mp4 of a film and its alpha, which is finer coded; the alpha's handler is that of an
    auxiliary track.
    """
    with av.open(str(target), "w") as output:
        tracks = []
        for images, quality in sorted(
            [(film, "30"), (alpha, "10")], key=lambda track: track[1], reverse=not alpha_first
        ):
            stream = output.add_stream(
                "libx264", rate=25, options={"crf": quality, "preset": "ultrafast"}
            )
            stream.height, stream.width, stream.pix_fmt = *film.shape[1:3], "yuv420p"
            tracks.append((stream, images))
        for number in range(len(film)):
            for stream, images in tracks:
                output.mux(
                    stream.encode(av.VideoFrame.from_ndarray(images[number], format="rgb24"))
                )
        for stream, _ in tracks:
            output.mux(stream.encode())
    data = target.read_bytes()
    spots = [
        place
        for place in range(len(data))
        if data[place : place + 4] == b"hdlr" and data[place + 12 : place + 16] == b"vide"
    ]
    spot = spots[0 if alpha_first else 1] + 12
    target.write_bytes(data[:spot] + b"auxv" + data[spot + 4 :])
    return target


def field_pictures(target: Path, frames: np.ndarray) -> Path:
    """Bare H.264 of field pictures, one field a unit, all in I_PCM macroblocks, of brightness uint8
    [T, H, W] (multiples of 32 and 16).
    """
    high, wide = frames.shape[1] // 16, frames.shape[2] // 16
    sps = (
        _Bits()
        .u(8, 77)
        .u(8, 0)
        .u(8, 30)
        .ue(0, 4, 0, 4, 2)
        .u(1, 0)
        .ue(wide - 1, high // 2 - 1)
        .u(1, 0)
        .u(1, 0)
        .u(1, 1)
        .u(1, 0)
        .u(1, 1)
    )
    sps.u(4, 0).u(1, 1).u(32, 1).u(32, 50).u(1, 1).u(2, 0).u(1, 1).u(1, 0).u(1, 1)
    pps = _Bits().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).se(0, 0, 0).u(1, 1).u(2, 0).u(1, 1)
    stream = b""
    for t, image in enumerate(frames):
        stream += _unit(9, 0, b"\xf0") + (
            _unit(7, 3, sps.data()) + _unit(8, 3, pps.data()) if t == 0 else b""
        )
        for parity in (0, 1):
            first = t == 0 and parity == 0
            bits = _Bits().ue(0, 7, 0).u(8, t).u(1, 1).u(1, parity)
            if first:
                bits.ue(0)
            bits.u(8, 2 * t + parity).u(1, 0)
            if first:
                bits.u(1, 0)
            bits.se(0).ue(1)
            for row in range(high // 2):
                for column in range(wide):
                    block = image[parity::2][
                        row * 16 : row * 16 + 16, column * 16 : column * 16 + 16
                    ]
                    bits.ue(25).align().raw(block.tobytes() + b"\x80" * 128)
            stream += _unit(5 if first else 1, 2, bits.u(1, 1).data())
    target.write_bytes(stream)
    return target


class _Bits:
    """Writes bits, and Exp-Golomb codes of them."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def u(self, width: int, value: int) -> _Bits:
        self.bits += [value >> (width - 1 - place) & 1 for place in range(width)]
        return self

    def ue(self, *values: int) -> _Bits:
        for value in values:
            self.u(2 * (value + 1).bit_length() - 1, value + 1)
        return self

    def se(self, *values: int) -> _Bits:
        return self.ue(*(2 * value - 1 if value > 0 else -2 * value for value in values))

    def align(self) -> _Bits:
        self.bits += [0] * (-len(self.bits) % 8)
        return self

    def raw(self, data: bytes) -> _Bits:
        self.bits += np.unpackbits(np.frombuffer(data, np.uint8)).tolist()
        return self

    def data(self) -> bytes:
        return np.packbits(np.array(self.align().bits, np.uint8)).tobytes()


def _unit(kind: int, importance: int, payload: bytes) -> bytes:
    out, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([importance << 5 | kind]) + bytes(out)
