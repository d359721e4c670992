"""PyAV, whole or from a key frame on, into upright RGB frames, scaled as decord does it: the two give the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from ops.media.containers import open_film
from ops.media.decoding import DecodeError, Decoding, piece_frames, scaled_size
from ops.media.probe import MAX_PIXELS, Facts, video_stream

INCOMPLETE = 0.9  # a stream that yields fewer of its frames than this is refused
# Codecs with packets that show nothing, as a rule and not as a fault
HIDDEN_PACKETS = {"vp8", "vp9", "av1"}
VERSION = f"{av.__version__} (ffmpeg {av.ffmpeg_version_info})"


def start(path: Path, facts: Facts, short_side: int | None, threads: int) -> Decoding:
    """Starts decoding. Raises DecodeError while iterating."""
    decoding = Decoding("pyav", VERSION, iter(()))
    decoding.pieces = _pieces(path, facts, short_side, decoding, threads)
    return decoding


def _pieces(path: Path, facts: Facts, short_side: int | None, decoding: Decoding, threads: int) -> Iterator[np.ndarray]:
    waiting: list[np.ndarray] = []
    coded, damaged, step = None, 0, 1
    with open_film(path) as container:
        start = (container.start_time or 0) / av.time_base
        for frame in frames(container, video(container, threads)):
            if frame is None or frame.is_corrupt:
                damaged += 1
            if damaged or frame is None:  # refused already: only count what is left
                decoding.timestamps_s += [0.0] if frame is not None and not frame.is_corrupt else []
                continue
            size = (frame.height, frame.width)
            if coded is not None and size != coded:
                change = f"{coded[1]}x{coded[0]} to {size[1]}x{size[0]}"
                raise DecodeError(f"the frame size changes from {change} at frame {decoding.num_frames}")
            if coded is None:
                coded, step = size, piece_frames(scaled_size(size, short_side))
            decoding.timestamps_s.append(time_of(frame, start, decoding.timestamps_s, facts))
            waiting.append(upright(frame, short_side))
            if len(waiting) == step:
                yield stacked(waiting)
                waiting.clear()
    _check_whole(facts, decoding.num_frames, damaged)
    decoding.timestamps_s = _ordered(decoding.timestamps_s, facts)
    if waiting:
        yield stacked(waiting)


def video(container: Any, threads: int) -> Any:
    """The stream to decode. Raises DecodeError where there is none."""
    stream = video_stream(container)
    if stream is None:
        raise DecodeError("no video stream")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def frames(container: Any, stream: Any) -> Iterator[Any]:
    """Frames in the order of showing; None for a packet that could not be decoded. Raises MemoryError."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except MemoryError:
            raise
        except av.error.FFmpegError:  # the container breaks off
            yield None
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except MemoryError:  # PyAV's is an FFmpegError too; it says nothing about the file
            raise
        except av.error.FFmpegError:
            yield None


def upright(frame: Any, short_side: int | None) -> np.ndarray:
    """uint8 [H, W, 3] of a decoded frame: scaled, converted by its own matrix and range, turned by its own rotation."""
    size = scaled_size((frame.height, frame.width), short_side)
    if size == (frame.height, frame.width):
        image = frame.to_ndarray(format="rgb24", interpolation="BILINEAR", threads=1)
    else:
        image = _scaled(frame, *size)
    return np.rot90(image, k=round(frame.rotation / 90) % 4)


def _scaled(frame: Any, height: int, width: int) -> np.ndarray:
    kind = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range))
    graph = _scaler(kind, frame.time_base or Fraction(1, 1000), height, width, threading.get_ident())
    try:
        graph.push(frame)
        return graph.pull().to_ndarray()
    except BaseException:  # a frame that stays in it would come out in the place of the next one
        _scaler.cache_clear()
        raise


@lru_cache(maxsize=4)
def _scaler(kind: tuple[int, int, str, int, int], time_base: Fraction, height: int, width: int, thread: int) -> Any:
    """FFmpeg's `scale` filter (bicubic, antialiased) into RGB for frames of one `kind`: what decord scales with. One per thread.

    A call of swscale itself would take the colour samples of half the resolution to lie a little elsewhere. The rows of frames of two
    fields are scaled field by field.
    """
    graph = av.filter.Graph()
    graph.threads = 1
    last = graph.add_buffer(width=kind[0], height=kind[1], format=av.VideoFormat(kind[2]), time_base=time_base)
    for name, arguments in (("scale", f"{width}:{height}:interl=-1"), ("format", "rgb24"), ("buffersink", None)):
        filtered = graph.add(name, arguments)
        last.link_to(filtered)
        last = filtered
    graph.configure()
    return graph


def time_of(frame: Any, start: float, before: list[float], facts: Facts) -> float:
    """Seconds from the container's start; a frame without a time comes one period after the one before."""
    if frame.pts is not None:
        return float(frame.pts * frame.time_base) - start
    return before[-1] + float(1 / facts.fps) if before and facts.fps else 0.0


def stacked(images: list[np.ndarray]) -> np.ndarray:
    """[n, H, W, 3]; one frame, which may be a very large one, is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)


def _ordered(times: list[float], facts: Facts) -> list[float]:
    """The frames' times; where they do not rise (some AVI files have none of their own), those of the packets."""
    if len(times) == facts.num_frames and any(two <= one for one, two in zip(times, times[1:], strict=False)):
        return facts.times_s.tolist()
    return sorted(times)


def _check_whole(facts: Facts, found: int, damaged: int) -> None:
    if damaged and found == 0:
        raise DecodeError(f"corrupt: none of {facts.num_frames} frames decodes without damage")
    if found == 0:
        raise DecodeError("no frame can be decoded")
    if damaged:
        raise DecodeError(f"corrupt: {found} of {facts.num_frames} frames decode without damage")
    if found < INCOMPLETE * facts.num_frames and facts.codec not in HIDDEN_PACKETS:
        raise DecodeError(f"incomplete: {found} of {facts.num_frames} frames decodable")
