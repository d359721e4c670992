"""PyAV, whole or from a key frame on, into upright RGB frames, scaled as decord does it: the two
give the same bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from ops.media.colours import made_plain
from ops.media.containers import open_film
from ops.media.damage import Ear
from ops.media.decoding import DecodeError, Decoding, piece_frames, scaled_size
from ops.media.headers import Headers
from ops.media.orientation import NoQuarterTurn, Orientation, orientation_of
from ops.media.probe import MAX_PIXELS, NONE, WITHOUT_TIMES, Facts, video_stream
from ops.media.times import NEVER, rising

# pictures that end so long, and by such a share of the film, before the packets do are not all
# there
LOST_S, LOST = 1.0, 0.1
VERSION = f"{av.__version__} (ffmpeg {av.ffmpeg_version_info})"


def start(
    path: Path, facts: Facts, short_side: int | None, threads: int, ear: Ear | None = None
) -> Decoding:
    """Starts decoding. Raises DecodeError while iterating."""
    decoding = Decoding("pyav", VERSION, iter(()))
    decoding.pieces = _pieces(path, facts, short_side, decoding, threads, ear)
    return decoding


def _pieces(
    path: Path,
    facts: Facts,
    short_side: int | None,
    decoding: Decoding,
    threads: int,
    ear: Ear | None,
) -> Iterator[np.ndarray]:
    waiting: list[np.ndarray] = []
    damaged, step, laid = 0, 1, _Laid(decoding, facts.turning)
    with open_film(path) as container:
        for frame in frames(container, video(container, threads), ear, facts.begins_inside):
            if frame is None or frame.is_corrupt:
                damaged += 1
            if damaged or frame is None:  # refused already: only count what is left
                decoding.timestamps_s += [0.0] if frame is not None and not frame.is_corrupt else []
                continue
            if not decoding.num_frames:
                step = piece_frames(scaled_size((frame.height, frame.width), short_side))
            way = laid.check(frame)
            decoding.timestamps_s.append(time_of(frame, facts.start_s))
            waiting.append(upright(frame, short_side, way))
            if len(waiting) == step:
                yield stacked(waiting)
                waiting.clear()
    _check_whole(facts, decoding.timestamps_s, damaged)
    decoding.timestamps_s = _ordered(decoding.timestamps_s, facts)
    if waiting:
        yield stacked(waiting)


class _Laid:
    """Size and orientation of a film's pictures, which are to stay as they are."""

    def __init__(self, decoding: Decoding, turning: bool) -> None:
        self.decoding, self.turning = decoding, turning
        self.size: tuple[int, int] | None = None
        self.orientation = Orientation()

    def check(self, frame: Any) -> Orientation:
        """Takes the next frame; returns how all stand. Raises DecodeError where it is another size
        or stands otherwise than the first.

        A film is turned at a key frame, save by messages (`turning`): only there is a frame asked,
        since asking costs memory.
        """
        size = (frame.height, frame.width)
        asked = self.size is None or self.turning or frame.key_frame
        orientation = _orientation(frame) if asked else self.orientation
        if self.size is None:
            self.size, self.orientation = size, orientation
        if size != self.size:
            change = f"{self.size[1]}x{self.size[0]} to {size[1]}x{size[0]}"
            raise DecodeError(
                f"the frame size changes from {change} at frame {self.decoding.num_frames}"
            )
        if orientation != self.orientation:
            change = f"from {self.orientation} to {orientation} at frame {self.decoding.num_frames}"
            raise DecodeError(
                f"the orientation changes {change}: no way to lay the film is right for all of it"
            )
        return self.orientation


def _orientation(frame: Any) -> Orientation:
    try:
        return orientation_of(frame)
    except NoQuarterTurn as error:
        raise DecodeError(str(error)) from None


def video(container: Any, threads: int) -> Any:
    """The stream to decode. Raises DecodeError where there is none."""
    stream = video_stream(container)
    if stream is None:
        raise DecodeError("no video stream")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def frames(
    container: Any, stream: Any, ear: Ear | None = None, from_key: bool = False
) -> Iterator[Any]:
    """Frames in the order of showing; None for a packet that could not be decoded.

    Args:
        container: an open one of PyAV's.
        stream: its video stream.
        ear: is told of every packet before it is decoded, and of every frame.
        from_key: passes over the packets before the first key frame: what they refer to is not in
            the file.

    Raises:
        MemoryError: the kernel refuses memory; it says nothing about the file.
    """
    packets = container.demux(stream)
    headers = Headers(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
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
        if packet.size == 0 and (packet.pts is not None or packet.dts is not None):
            continue  # the picture before is shown on; the decoder would take it for the end
        if from_key and packet.size:
            if not packet.is_keyframe:
                continue
            from_key = False
            if ear is not None:
                ear.afresh()
        if ear is not None:
            ear.before(packet)
        try:
            for frame in packet.decode():
                if ear is not None:
                    ear.shown(frame)
                yield frame
        except MemoryError:  # PyAV's is an FFmpegError too; it says nothing about the file
            raise
        except av.error.FFmpegError:
            if headers.shows(memoryview(packet)):  # a message alone is no picture
                yield None


def upright(frame: Any, short_side: int | None, way: Orientation | None = None) -> np.ndarray:
    """A decoded frame as uint8 [H, W, 3]: scaled, converted by its own matrix and range, laid
    upright.

    Args:
        frame: PyAV's.
        short_side: pixels of the shorter side; None leaves the size.
        way: how the picture is laid; None is as its own display matrix says.

    Raises:
        DecodeError: the picture cannot be converted.
    """
    size, own = scaled_size((frame.height, frame.width), short_side), (frame.height, frame.width)
    way = _orientation(frame) if way is None else way
    try:
        plain = made_plain(frame)
        image = (
            plain.to_ndarray(format="rgb24", interpolation="BILINEAR", threads=1)
            if size == own
            else _scaled(plain, *size)
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError(
            f"a picture of {frame.format.name} cannot be made RGB:"
            f" {getattr(error, 'strerror', None) or error}"
        ) from error
    return way.apply(image)


def _scaled(frame: Any, height: int, width: int) -> np.ndarray:
    kind = (
        frame.width,
        frame.height,
        frame.format.name,
        int(frame.colorspace),
        int(frame.color_range),
    )
    graph = _scaler(
        kind, frame.time_base or Fraction(1, 1000), height, width, threading.get_ident()
    )
    try:
        graph.push(frame)
        return graph.pull().to_ndarray()
    except BaseException:  # a frame that stays in it would come out in the place of the next one
        _scaler.cache_clear()
        raise


@lru_cache(maxsize=4)
def _scaler(
    kind: tuple[int, int, str, int, int], time_base: Fraction, height: int, width: int, thread: int
) -> Any:
    """FFmpeg's `scale` filter (bicubic, antialiased) into RGB for frames of one `kind`: what decord
    scales with. One per thread.

    A call of swscale itself would take the colour samples of half the resolution to lie a little
    elsewhere. The rows of frames of two fields are scaled field by field.
    """
    graph = av.filter.Graph()
    graph.threads = 1
    last = graph.add_buffer(
        width=kind[0], height=kind[1], format=av.VideoFormat(kind[2]), time_base=time_base
    )
    for name, arguments in (
        ("scale", f"{width}:{height}:interl=-1"),
        ("format", "rgb24"),
        ("buffersink", None),
    ):
        filtered = graph.add(name, arguments)
        last.link_to(filtered)
        last = filtered
    graph.configure()
    return graph


def time_of(frame: Any, start: float) -> float:
    """Seconds from the film's start; NaN for a frame without a time."""
    return NONE if frame.pts is None else float(frame.pts * frame.time_base) - start


def stacked(images: list[np.ndarray]) -> np.ndarray:
    """[n, H, W, 3]; one frame, which may be a very large one, is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)


def _ordered(times: list[float], facts: Facts) -> list[float]:
    """The frames' times, rising; where the container has none of its own (AVI, bare streams), those
    of the packets.
    """
    own = np.array(times)
    if facts.begins_inside and np.isnan(own).any() and len(times) < facts.num_frames:
        return facts.times_s[-len(times) :].tolist()
    if (
        len(times) == facts.num_frames
        and not facts.clock
        and (np.isnan(own).any() or facts.container in WITHOUT_TIMES)
    ):
        return facts.times_s.tolist()
    return rising(own, facts.period_s, facts.leap_s if facts.clock else NEVER).times_s.tolist()


def _check_whole(facts: Facts, times: list[float], damaged: int) -> None:
    found = len(times)
    if damaged and found == 0:
        raise DecodeError(f"corrupt: none of {facts.num_frames} frames decodes without damage")
    if found == 0:
        raise DecodeError("no frame can be decoded")
    if damaged:
        raise DecodeError(
            f"corrupt: {max(0, min(found, facts.num_frames - damaged))} of {facts.num_frames}"
            " frames decode without damage"
        )
    length, last = float(facts.times_s[-1] - facts.times_s[0]), float(facts.times_s[-1])
    end = last if np.isnan(times).all() else float(np.nanmax(times))
    if not facts.clock and found < facts.num_frames and last - end > max(LOST_S, LOST * length):
        raise DecodeError(
            f"incomplete: the pictures end at {end:.2f} s of {last:.2f} s ({found} frames of"
            f" {facts.num_frames} packets)"
        )
