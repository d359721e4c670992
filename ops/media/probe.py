"""What a video file says about itself: container, codec, size, rate, rotation, and the time of every frame, without decoding it.

Works on PyAV alone. A damaged file can hang any demuxer, so callers run it in a process that can be killed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ops.media.containers import A_PICTURE, first_bytes, is_still, no_video, not_listed, open_film, signature
from ops.media.headers import HEAD_BYTES, Headers

av.logging.set_level(None)
# Containers whose header holds the duration, so that an early end can be seen.
WITH_DURATION = ("matroska", "webm", "avi", "flv")
PACKETS_TO_FIRST_FRAME = 300
# More pixels than any camera's 8K: such a frame alone takes hundreds of megabytes in a decoder.
MAX_PIXELS = 8192 * 4608
# ITU-T H.273 matrix coefficients, primaries, transfer functions and ranges, and field orders, by FFmpeg's numbers
SPACES = {0: "rgb", 1: "bt709", 2: "unspecified", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc", 10: "bt2020c"}
PRIMARIES = {1: "bt709", 2: "unspecified", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 12: "smpte432"}
TRANSFERS = {1: "bt709", 2: "unspecified", 6: "smpte170m", 13: "srgb", 14: "bt2020-10", 15: "bt2020-12", 16: "pq", 18: "hlg"}
RANGES = {1: "limited", 2: "full"}
FILM_BOXES = (b"moov", b"mdat", b"moof", b"mfra")
FIELD_ORDERS = {1: "progressive", 2: "top first", 3: "bottom first", 4: "bottom first", 5: "top first"}


@dataclass
class Facts:
    """What the container says. `problem` is the reason why the file cannot be used, None when nothing speaks against it.

    `width` and `height` are as coded, before `rotation` (degrees clockwise that make it upright) and whatever `pixel_aspect` (width to
    height of a pixel) says. `times_s` are the times of the packets that show a frame, ascending, from the start of the container, and
    `keys_s` those of the key frames among them. `leading` counts frames that a cut has made undecodable, `hidden` packets that an edit
    list hides, `num_videos` the video streams. `parameters_change` is True where key packets bring another frame size or format.
    `signature` is the container that the first bytes name beyond doubt, "" where they name none.
    """

    container: str = ""
    signature: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    rotation: int = 0
    fps: Fraction = field(default_factory=lambda: Fraction(0))
    num_frames_declared: int = 0
    duration_s: float = 0.0
    pixel_format: str = ""
    colour_space: str = ""
    colour_range: str = ""
    primaries: str = ""
    transfer: str = ""
    bits: int = 8
    field_order: str = "progressive"
    pixel_aspect: Fraction = field(default_factory=lambda: Fraction(1))
    num_videos: int = 1
    times_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    keys_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    leading: int = 0
    hidden: int = 0
    parameters_change: bool = False
    problem: str | None = None

    @property
    def num_frames(self) -> int:
        """Packets that show a frame."""
        return len(self.times_s)

    @property
    def interlaced(self) -> bool:
        """Frames of two fields; they are decoded as woven."""
        return self.field_order != "progressive"


def inspect(path: Path) -> Facts:
    """Facts of a local file. A file that is no usable video has a `problem`; raises OSError when it cannot be read at all."""
    head = first_bytes(path)
    problem = no_video(head)
    if problem is not None:
        return Facts(problem=problem)
    broken = broken_boxes(path)
    try:
        with open_film(path) as container:
            facts = _inspect(container, broken)
        facts.signature = signature(head)
        if broken and is_still(head):
            facts.problem = A_PICTURE
        if facts.problem is None:
            _first_frame(path, facts)
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        if broken:
            return Facts(problem=A_PICTURE if is_still(head) else f"truncated: {broken}")
        if isinstance(error, av.error.ArgumentError):
            return Facts(problem=not_listed(head))
        return Facts(problem=f"not a video file ({getattr(error, 'strerror', None) or error})")
    return facts


def broken_boxes(path: Path) -> str | None:
    """What is missing from an mp4 or mov file by its top-level boxes; None for a whole one or another format."""
    size, place = path.stat().st_size, 0
    kinds: list[bytes] = []
    with open(path, "rb") as file:
        while place + 8 <= size:
            file.seek(place)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if not kinds and kind != b"ftyp" and kind not in (b"moov", b"mdat", b"wide", b"free", b"skip"):
                return None
            kinds.append(kind)
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:  # up to the end of the file
                break
            if length < 8:
                return None
            place += length
    if place > size and kinds[-1] not in FILM_BOXES and b"moov" in kinds:
        return None  # what a camera or a tool has left behind the film: its first bytes are no size
    if place > size:
        index = "" if b"moov" in kinds else " and the index (moov) is missing"
        return f"the file ends {place - size} bytes early{index}"
    return None if b"moov" in kinds or not kinds else "the index (moov) is missing"


def _inspect(container: Any, broken: str | None) -> Facts:
    facts = Facts(container=container.format.name)
    if facts.container.endswith("_pipe"):
        facts.problem = A_PICTURE
        return facts
    stream = video_stream(container)
    if stream is None:
        facts.problem = "no video stream"
        return facts
    context = stream.codec_context
    if context is None:
        facts.problem = "no decoder for its codec"
        return facts
    facts.codec, facts.width, facts.height = context.codec.canonical_name, context.width, context.height
    facts.pixel_format, facts.num_videos = context.pix_fmt or "", sum(not _is_picture(one) for one in container.streams.video)
    facts.bits = max((component.bits for component in context.format.components), default=8) if context.format else 8
    facts.field_order = FIELD_ORDERS.get(int(context.field_order), "progressive")
    facts.pixel_aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
    facts.fps = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(0)
    facts.num_frames_declared = stream.frames
    start = (container.start_time or 0) / av.time_base
    end, error = _read_packets(container, stream, facts, start)
    length = container.duration / av.time_base if container.duration else None
    # a header's duration may count from zero where the times start later
    span = None if length is None else length - start if _duration_in_header(facts) and 0 < start < length else length
    facts.duration_s = float(stream.duration * stream.time_base) if stream.duration else (span or max(end, 0.0))
    facts.problem = _problem(facts, broken, error, span, end)
    return facts


def _problem(facts: Facts, broken: str | None, error: str | None, length: float | None, end: float) -> str | None:
    of = f"{facts.num_frames} of {facts.num_frames_declared} frames are there" if facts.num_frames < facts.num_frames_declared else ""
    if broken:
        return f"truncated: {of or broken}" if facts.num_frames else f"truncated: {broken}"
    if error:
        return f"corrupt: reading stops after {facts.num_frames} frames ({error})"
    if facts.num_frames == 0:
        return "no frames in the video stream"
    if _duration_in_header(facts) and length and end < length - max(0.5, 0.05 * length):
        return f"truncated: the data end at {end:.2f} s of {length:.2f} s"
    if facts.width <= 0 or facts.height <= 0:
        return "no frame size in the video stream"
    if facts.width * facts.height > MAX_PIXELS:
        return f"a frame of {facts.width}x{facts.height} is too large (at most {MAX_PIXELS / 1e6:.0f} million pixels)"
    return None


def _duration_in_header(facts: Facts) -> bool:
    return any(name in WITH_DURATION for name in facts.container.split(","))


def video_stream(container: Any) -> Any:
    """The stream a viewer would see, the same one in all our decoders; None where there is only sound or a cover picture."""
    best = container.streams.best("video")
    return None if best is None or _is_picture(best) else best


def _is_picture(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition).lower() or bool(int(stream.disposition) & 0x400)


def _read_packets(container: Any, stream: Any, facts: Facts, start: float) -> tuple[float, str | None]:
    """Fills what packets tell; returns the end of the last packet of any stream (seconds from the start), and an error."""
    times: list[float] = []
    keys: list[float] = []
    headers = Headers(facts.codec, stream.codec_context.extradata)
    end, error = 0.0, None
    try:
        for packet in container.demux():
            if packet.size == 0 or packet.is_corrupt:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            time = float(stamp * packet.time_base) - start if stamp is not None else None
            if time is not None:
                end = max(end, time + float((packet.duration or 0) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            if packet.is_keyframe and not headers.changed:
                headers.changed = packet.has_sidedata("new_extradata")
                headers.see(bytes(memoryview(packet)[:HEAD_BYTES]))
            if packet.is_discard:
                facts.hidden += 1
                continue
            if time is None:
                time = times[-1] + float(1 / facts.fps) if times and facts.fps else 0.0
            if packet.is_keyframe:
                keys.append(time)
            times.append(time)
    except av.error.FFmpegError as problem:
        error = problem.strerror or str(problem)
    facts.times_s, facts.keys_s, facts.parameters_change = np.sort(np.array(times)), np.sort(np.array(keys)), headers.changed
    if keys:
        facts.leading = int((facts.times_s < keys[0] - 1e-6).sum())
    return end, error


def _first_frame(path: Path, facts: Facts) -> None:
    """Rotation, colour and fields stand with the first decoded frame. The file is opened anew: not every container seeks back."""
    with open_film(path) as container:
        stream = video_stream(container)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        try:
            for count, packet in enumerate(container.demux(stream)):
                if packet.has_sidedata("encryption_info"):
                    facts.problem = "encrypted: its pictures need a key that the file does not hold"
                    return
                for frame in _decoded(packet):
                    _describe(frame, facts)
                    return
                if count > PACKETS_TO_FIRST_FRAME:
                    return
        except av.error.FFmpegError:  # the decoder finds out more
            return


def _decoded(packet: Any) -> list[Any]:
    try:
        return packet.decode()
    except MemoryError:
        raise
    except av.error.FFmpegError:
        return []


def _describe(frame: Any, facts: Facts) -> None:
    facts.rotation = -round(frame.rotation / 90) * 90 % 360
    facts.colour_space = SPACES.get(int(frame.colorspace), str(int(frame.colorspace)))
    facts.colour_range = RANGES.get(int(frame.color_range), "unspecified")
    facts.primaries = PRIMARIES.get(int(frame.color_primaries), str(int(frame.color_primaries)))
    facts.transfer = TRANSFERS.get(int(frame.color_trc), str(int(frame.color_trc)))
    if frame.interlaced_frame and not facts.interlaced:
        facts.field_order = "interlaced"
