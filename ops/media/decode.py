"""Decoding a whole video, in order, into upright RGB frames: decord first, PyAV behind it.

decord is only ever read sequentially, and only where its frame count equals the container's: it returns wrong frames on sparse
access and on cuts with edit lists. Both may hang or abort on a damaged file, so callers run this in a process that can be killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from configs.schema import Frames
from ops.media.probe import Facts, inspect, video_stream

PIECE_BYTES = 48 * 2**20  # decoded frames in memory at a time
PIECE_FRAMES = 32
# decord can hang on MPEG-TS, and has no notion of packets that show nothing (VP8) or hold two frames (packed MPEG-4 in AVI).
NOT_FOR_DECORD_CONTAINERS = {"mpegts", "mpeg", "gif"}
NOT_FOR_DECORD_CODECS = {"av1", "vp8", "gif", "apng", "webp"}
# decord decodes ahead of its reader without a limit: with a slow reader the whole video lies in memory in the end.
DECORD_BYTES = 512 * 2**20
INCOMPLETE = 0.9  # a stream that yields fewer of its frames than this is refused


class DecodeError(ValueError):
    """A video that cannot be decoded whole; the message is the reason, fit for a table."""


@dataclass
class Decoding:
    """A decode under way. Iterating yields uint8 [n, H, W, 3] upright RGB; the other fields are complete after the last piece."""

    decoder: str
    decoder_version: str
    pieces: Iterator[np.ndarray]
    timestamps_s: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.pieces

    @property
    def num_frames(self) -> int:
        """Frames decoded so far."""
        return len(self.timestamps_s)


def decode(path: Path, facts: Facts | None = None, decoder: str | None = None, threads: int = 0) -> Decoding:
    """Starts decoding a local file with `decoder` ("decord", "pyav"; None takes the first of `decoders_for`).

    `threads` 0 leaves their number to the decoder. Raises DecodeError here or while iterating.
    """
    facts = facts or inspect(path)
    if facts.problem is not None:
        raise DecodeError(facts.problem)
    decoder = decoder or decoders_for(facts)[0]
    if decoder == "decord":
        return _start_decord(path, facts, threads)
    return _start_pyav(path, facts, threads)


def decoders_for(facts: Facts) -> list[str]:
    """Decoders to try on a file, in order: decord first where it is known to be right and its memory stays small."""
    wrong = set(facts.container.split(",")) & NOT_FOR_DECORD_CONTAINERS or facts.codec in NOT_FOR_DECORD_CODECS or facts.leading
    large = facts.num_frames * facts.height * facts.width * 3 > DECORD_BYTES
    return ["pyav"] if wrong or large else ["decord", "pyav"]


def mean_fps(facts: Facts, timestamps_s: list[float]) -> float:
    """Frames per second: the container's figure where the timestamps agree with it within 2%, else theirs (variable rate)."""
    nominal = float(facts.fps)
    if len(timestamps_s) < 2 or timestamps_s[-1] <= timestamps_s[0]:
        return nominal or 25.0
    measured = (len(timestamps_s) - 1) / (timestamps_s[-1] - timestamps_s[0])
    return nominal if nominal and abs(measured - nominal) <= 0.02 * nominal else measured


def resized(pieces: Iterator[np.ndarray], short_side: int | None) -> Iterator[np.ndarray]:
    """The frames with their shorter side at `short_side` pixels, aspect kept (bilinear, antialiased); None changes nothing."""
    for piece in pieces:
        height, width = piece.shape[1:3]
        if short_side is None or min(height, width) == short_side:
            yield piece
            continue
        scale = short_side / min(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # reducing_gap halves the cost of a large reduction for less than one grey level of difference
        yield np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)) for frame in piece])


def attributes(facts: Facts, decoding: Decoding, config: Frames, source_uri: str, source_sha256: str) -> dict[str, Any]:
    """What is stored beside the frames so that the array describes itself."""
    return {
        "fps": mean_fps(facts, decoding.timestamps_s),
        "timestamps_s": [round(time, 6) for time in decoding.timestamps_s],
        "source_uri": source_uri,
        "source_sha256": source_sha256,
        "source_size": [facts.height, facts.width],
        "rotation": facts.rotation,
        "decoder": decoding.decoder,
        "decoder_version": decoding.decoder_version,
        "resize": None if config.short_side is None else {"short_side": config.short_side, "filter": "bilinear, antialiased (Pillow)"},
        "colour": {
            "source_pixel_format": facts.pixel_format,
            "source_matrix": facts.colour_space,
            "source_range": facts.colour_range,
            "conversion": "swscale defaults to 8-bit full-range RGB",
        },
    }


def count_frames(path: Path) -> int:
    """Frames that PyAV decodes from a local file: the second decoder of a check. Raises DecodeError."""
    facts = inspect(path)
    decoding = decode(path, facts, "pyav")
    for _ in decoding:
        continue
    return decoding.num_frames


def _piece_frames(height: int, width: int) -> int:
    return max(1, min(PIECE_FRAMES, PIECE_BYTES // max(1, height * width * 3)))


# ---------------------------------------------------------------------------------------------------- decord


def _start_decord(path: Path, facts: Facts, threads: int) -> Decoding:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
    except (RuntimeError, decord.DECORDError) as error:
        raise DecodeError(f"decord: {_first_line(error)}") from error
    if len(reader) != facts.num_frames:
        raise DecodeError(f"decord: {len(reader)} frames where the container shows {facts.num_frames}")
    decoding = Decoding("decord", decord.__version__, iter(()))
    decoding.pieces = _decord_pieces(reader, facts, decoding, decord.DECORDError)
    return decoding


def _decord_pieces(reader: Any, facts: Facts, decoding: Decoding, failure: type[Exception]) -> Iterator[np.ndarray]:
    step = _piece_frames(facts.height, facts.width)
    for first in range(0, len(reader), step):
        last = min(first + step, len(reader))
        try:
            piece = reader.get_batch(list(range(first, last))).asnumpy()
        except (RuntimeError, failure) as error:
            raise DecodeError(f"decord: {_first_line(error)}") from error
        decoding.timestamps_s += facts.times_s[first:last].tolist()
        yield piece


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][-160:] if str(error).strip() else type(error).__name__


# ---------------------------------------------------------------------------------------------------- PyAV


def _start_pyav(path: Path, facts: Facts, threads: int) -> Decoding:
    decoding = Decoding("pyav", f"{av.__version__} (ffmpeg {av.ffmpeg_version_info})", iter(()))
    decoding.pieces = _pyav_pieces(path, facts, decoding, threads)
    return decoding


def _pyav_pieces(path: Path, facts: Facts, decoding: Decoding, threads: int) -> Iterator[np.ndarray]:
    waiting: list[np.ndarray] = []
    step, size, damaged = _piece_frames(facts.height, facts.width), None, 0
    with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
        start = (container.start_time or 0) / av.time_base
        for frame in _pyav_frames(container, threads):
            if frame is None or frame.is_corrupt:
                damaged += 1
            if damaged or frame is None:  # refused already: only count what is left
                decoding.timestamps_s += [0.0] if frame is not None and not frame.is_corrupt else []
                continue
            image = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
            if size is not None and image.shape != size:
                change = f"{size[1]}x{size[0]} to {image.shape[1]}x{image.shape[0]}"
                raise DecodeError(f"the frame size changes from {change} at frame {decoding.num_frames}")
            size = image.shape
            decoding.timestamps_s.append(_time_of(frame, start, decoding.timestamps_s, facts))
            waiting.append(image)
            if len(waiting) == step:
                yield np.stack(waiting)
                waiting.clear()
    _check_whole(facts, decoding.num_frames, damaged)
    decoding.timestamps_s.sort()
    if waiting:
        yield np.stack(waiting)


def _pyav_frames(container: Any, threads: int) -> Iterator[Any]:
    """Frames in the order of showing; None for a packet that could not be decoded."""
    stream = video_stream(container)
    if stream is None:
        raise DecodeError("no video stream")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the container breaks off
            yield None
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            yield None


def _time_of(frame: Any, start: float, before: list[float], facts: Facts) -> float:
    if frame.pts is not None:
        return float(frame.pts * frame.time_base) - start
    return before[-1] + float(1 / facts.fps) if before and facts.fps else 0.0


def _check_whole(facts: Facts, found: int, damaged: int) -> None:
    if found == 0:
        raise DecodeError("no frame can be decoded")
    if damaged:
        raise DecodeError(f"corrupt: {found} of {facts.num_frames} frames decode without damage")
    if found < INCOMPLETE * facts.num_frames and facts.codec not in NOT_FOR_DECORD_CODECS:
        raise DecodeError(f"incomplete: {found} of {facts.num_frames} frames decodable")
