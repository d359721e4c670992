"""What a video file says about itself: container, codec, size, rate, orientation, and the time of
every frame, without decoding it.

Works on PyAV alone. A damaged file can hang any demuxer, so callers run it in a process that can be
killed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ops.compute.pool import Stderr
from ops.media.boxes import auxiliary_tracks
from ops.media.colours import (
    DEFAULT,
    PLAIN,
    PRIMARIES,
    RANGES,
    SPACES,
    TRANSFERS,
    matrix_of,
    without_table,
)
from ops.media.containers import (
    A_PICTURE,
    first_bytes,
    is_still,
    no_video,
    not_listed,
    open_film,
    signature,
)
from ops.media.damage import damage_in, outspoken
from ops.media.headers import HEAD_BYTES, Headers, needs_others
from ops.media.orientation import NoQuarterTurn, Orientation, orientation_of
from ops.media.times import NEVER, packets_in_order
from ops.media.whole import Ending, ending, joined_behind, wrong_sum

av.logging.set_level(None)
# Containers whose header holds the duration, so that an early end can be seen.
WITH_DURATION = ("matroska", "webm", "avi", "flv", "asf", "rm", "ivf")
ANY_CLOCK, LEAP_S = ("mpegts", "mpeg"), 10.0
# Containers that number pictures in the order of decoding: the time of showing is a guess, too late
# by what B-frames need
WITHOUT_TIMES = ("avi", "h264", "hevc", "mpegvideo", "m4v", "vc1", "cavsvideo")
PACKETS_TO_FIRST_FRAME = 300
# More pixels than any camera's 8K: such a frame alone takes hundreds of megabytes in a decoder.
MAX_PIXELS = 8192 * 4608
NONE = float("nan")
# between the last packet and an index behind the pictures lie at most a few headers, and other
# streams
INDEX_BYTES = 4096
NEAR_JOIN = 2  # packets: a parser hands a mark on a little later
GAP = 3  # times what a picture is usually shown
LONGEST_FRAME_S = 10.0  # a last frame that is said to last longer is an error of the muxer's
# field orders, by FFmpeg's numbers
FIELD_ORDERS = {
    1: "progressive",
    2: "top first",
    3: "bottom first",
    4: "bottom first",
    5: "top first",
}


@dataclass
class Facts:
    """What the container says. `problem` is the reason why the file cannot be used, None when
    nothing speaks against it.

    `width` and `height` are as coded, before `orientation` makes the picture upright and whatever
    `pixel_aspect` (width to height of a pixel) says. `times_s` are the times of the packets that
    show a frame, ascending, from `start_s` on the container's clock, and `keys_s` those of the key
    frames among them; `clock` says what had to be put right of them. `leading` counts frames that a
    cut has made undecodable, `begins_inside` is True where the first packet needs one that is not
    there, `hidden` counts packets that an edit list hides, `damaged` those that the demuxer marks,
    `reach` is the byte where the last packet ends, `num_videos` counts the video streams. `matrix`
    is what makes the colours RGB, `odd_colours` says that the file names one that had to be read as
    another. `parameters_change` is True where key packets bring another frame size or format,
    `turning` where messages turn the picture. `signature` is the container that the first bytes
    name beyond doubt, or "".
    """

    container: str = ""
    signature: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    orientation: Orientation = Orientation()
    fps: Fraction = field(default_factory=lambda: Fraction(0))
    num_frames_declared: int = 0
    duration_s: float = 0.0
    pixel_format: str = ""
    colour_space: str = ""
    matrix: str = ""
    odd_colours: bool = False
    colour_range: str = ""
    primaries: str = ""
    transfer: str = ""
    bits: int = 8
    field_order: str = "progressive"
    pixel_aspect: Fraction = field(default_factory=lambda: Fraction(1))
    num_videos: int = 1
    times_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    keys_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    start_s: float = 0.0
    clock: str = ""
    leading: int = 0
    begins_inside: bool = False
    hidden: int = 0
    damaged: int = 0
    reach: int = 0
    parameters_change: bool = False
    turning: bool = False
    problem: str | None = None

    @property
    def num_frames(self) -> int:
        """Packets that show a frame."""
        return len(self.times_s)

    @property
    def period_s(self) -> float:
        """How long the rate shows a frame."""
        return float(1 / self.fps) if self.fps else 0.0

    @property
    def leap_s(self) -> float:
        """A step of the clock that is a new clock and no pause: transport and program streams have
        any clock, as FFmpeg reckons.
        """
        return LEAP_S if self.container in ANY_CLOCK else NEVER

    @property
    def rotation(self) -> int:
        """Degrees clockwise that make the picture upright (one that is mirrored left to right
        first, where `orientation` says so).
        """
        return self.orientation.rotation

    @property
    def interlaced(self) -> bool:
        """Frames of two fields; they are decoded as woven."""
        return self.field_order != "progressive"


def inspect(path: Path) -> Facts:
    """Facts of a local file. A file that is no usable video has a `problem`; raises OSError when it
    cannot be read at all.
    """
    head = first_bytes(path)
    problem = no_video(head)
    if problem is not None:
        return Facts(problem=problem)
    end = ending(path)
    try:
        with open_film(path) as container:
            facts = _inspect(container, end)
        facts.signature = signature(head)
        if end.cut and is_still(head):
            facts.problem = A_PICTURE
        if facts.problem is None and (wrong := wrong_sum(path)):
            facts.problem = f"corrupt: {wrong}"
        if facts.problem is None:
            _first_frame(path, facts)
    except MemoryError:
        raise
    except (av.error.FFmpegError, UnicodeError) as error:
        if end.cut:
            return Facts(problem=A_PICTURE if is_still(head) else f"truncated: {end.cut}")
        if isinstance(error, av.error.ArgumentError):
            return Facts(problem=not_listed(head))
        return Facts(problem=f"not a video file ({getattr(error, 'strerror', None) or error})")
    return facts


def inspect_aloud(path: Path, errors: Stderr) -> Facts:
    """As `inspect`, heeding also what the demuxer writes about damage; `errors` catches file
    descriptor 2.
    """
    said = errors.size()
    with outspoken():
        facts = inspect(path)
    # a parser speaks of the packets that nobody is shown; the decoder will of the others
    if facts.begins_inside:
        return facts
    if facts.problem is None and (
        damage := damage_in(errors.text(said), facts.container, facts.reach, only=True)
    ):
        facts.problem = f"corrupt: the container is damaged ({damage})"
    return facts


def _inspect(container: Any, ended: Ending) -> Facts:
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
    facts.codec, facts.width, facts.height = (
        context.codec.canonical_name,
        context.width,
        context.height,
    )
    facts.pixel_format, facts.num_videos = (
        context.pix_fmt or "",
        sum(not _is_picture(one) for one in container.streams.video),
    )
    facts.bits = (
        max((component.bits for component in context.format.components), default=8)
        if context.format
        else 8
    )
    facts.field_order = FIELD_ORDERS.get(int(context.field_order), "progressive")
    facts.pixel_aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
    facts.fps = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(0)
    facts.num_frames_declared = stream.frames
    facts.start_s = (container.start_time or 0) / av.time_base
    packets = _Packets(facts, stream)
    packets.read(container)
    packets.settle(facts)
    length = container.duration / av.time_base if container.duration else None
    # a header's duration may count from zero where the times start later
    late = (
        facts.start_s
        if length and _duration_in_header(facts, ended) and 0 < facts.start_s < length
        else 0.0
    )
    span = None if length is None else length - late
    claimed = float(stream.duration * stream.time_base) if stream.duration else span
    facts.duration_s = _duration(facts, claimed, packets.shown_until)
    facts.reach = packets.reach
    facts.problem = _problem(facts, ended, packets, span)
    if (
        facts.problem is None
        and packets.reach
        and joined_behind(Path(container.name), packets.reach)
    ):
        facts.problem = (
            f"several films behind each other in one file: only {facts.duration_s:.2f} s can be"
            " read; join them by a muxer"
        )
    return facts


def _duration(facts: Facts, claimed: float | None, end: float) -> float:
    """The end of the frames that are there; a header's figure where it is the same to half a
    frame.
    """
    steps = np.diff(facts.times_s)
    near = claimed is not None and abs(claimed - end) <= max(
        float(np.median(steps)) / 2 if len(steps) else 0.0, 0.001
    )
    return float(claimed) if near and claimed is not None else max(end, 0.0)


def _problem(facts: Facts, ended: Ending, packets: _Packets, length: float | None) -> str | None:
    there = facts.num_frames - facts.damaged
    of = (
        f"{there} of {facts.num_frames_declared} frames are there"
        if there < facts.num_frames_declared
        else ""
    )
    if ended.cut:
        return f"truncated: {of or ended.cut}" if facts.num_frames else f"truncated: {ended.cut}"
    if packets.error:
        return f"corrupt: reading stops after {facts.num_frames} frames ({packets.error})"
    if facts.damaged:
        return (
            f"corrupt: {facts.damaged} of {facts.num_frames} packets are damaged or incomplete, as"
            " the container shows"
        )
    if facts.num_frames == 0:
        return "no frames in the video stream"
    whole = ended.whole and packets.reach >= ended.media - INDEX_BYTES
    if (
        _duration_in_header(facts, ended)
        and not whole
        and length
        and packets.end < length - max(0.5, 0.05 * length)
    ):
        return f"truncated: the data end at {packets.end:.2f} s of {length:.2f} s"
    if ended.lost and (lack := _longest_gap(facts.times_s)):
        return (
            f"incomplete: by their numbers {ended.lost} fragments are missing between others, and"
            f" {lack:.2f} s of pictures"
        )
    if facts.width <= 0 or facts.height <= 0:
        return "no frame size in the video stream"
    if facts.width * facts.height > MAX_PIXELS:
        return (
            f"a frame of {facts.width}x{facts.height} is too large (at most {MAX_PIXELS / 1e6:.0f}"
            " million pixels)"
        )
    return None


def _longest_gap(times: np.ndarray) -> float:
    """Seconds that a film without a picture lasts longest, beyond what its pictures are usually
    shown; 0 where they follow each other.
    """
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    return float(steps.max()) - usual if len(steps) and steps.max() > GAP * usual else 0.0


def _duration_in_header(facts: Facts, ended: Ending) -> bool:
    return ended.fragments or any(name in WITH_DURATION for name in facts.container.split(","))


def video_stream(container: Any) -> Any:
    """The stream a viewer would see, the same one in all our decoders; None where there is only
    sound or a cover picture.
    """
    best = container.streams.best("video")
    if best is None or _is_picture(best):
        return None
    # the alpha of a film comes as a stream of its own, beside the pictures that it belongs to
    if len(container.streams.video) > 1:
        auxiliary = (
            auxiliary_tracks(Path(container.name))
            if "mov" in container.format.name.split(",")
            else set()
        )
        films = [
            one
            for one in container.streams.video
            if not _is_picture(one) and one.id not in auxiliary and one.codec_context
        ]
        if best.id in auxiliary and films:
            return films[0]
        if _is_grey(best):
            return next(
                (one for one in films if not _is_grey(one) and _size(one) == _size(best)), best
            )
    return best


def _is_picture(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition).lower() or bool(
        int(stream.disposition) & 0x400
    )


def _is_grey(stream: Any) -> bool:
    return stream.codec_context is not None and (stream.codec_context.pix_fmt or "").startswith(
        "gray"
    )


def _size(stream: Any) -> tuple[int, int]:
    return stream.codec_context.width, stream.codec_context.height


class _Packets:
    """What the packets tell. `end` is that of the last packet of any stream, `shown_until` that of
    the film's pictures (seconds from the start), `reach` where in the file the last packet ends,
    `error` why reading stops.
    """

    def __init__(self, facts: Facts, stream: Any) -> None:
        self.stream, self.start, self.hidden = stream, facts.start_s, 0
        self.headers = Headers(facts.codec, stream.codec_context.extradata)
        self.end, self.shown_until, self.reach = 0.0, 0.0, 0
        self.error: str | None = None
        # pts and dts of packets that show a picture, NaN for none, and how long they say
        self.shown: list[float] = []
        self.decoded: list[float] = []
        self.lasts: list[float] = []
        # ends of packets without data: the picture before is shown on
        self.repeats: list[float] = []
        self.keys: list[int] = []
        self.damaged: list[int] = []
        self.inside = False

    def read(self, container: Any) -> None:
        """Goes through the file. Raises MemoryError."""
        try:
            for packet in container.demux():
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None and packet.size == 0:
                    continue  # the end
                self.reach = max(self.reach, (packet.pos or 0) + packet.size)
                base, last = packet.time_base, packet.duration or 0
                if stamp is not None:
                    self.end = max(self.end, float((stamp + last) * base) - self.start)
                if packet.stream_index == self.stream.index:
                    self._take(packet, base, last)
        except MemoryError:
            raise
        except av.error.FFmpegError as problem:
            self.error = problem.strerror or str(problem)

    def _take(self, packet: Any, base: Any, last: int) -> None:
        if packet.size == 0:
            self.repeats.append(
                float(((packet.pts if packet.pts is not None else packet.dts) + last) * base)
                - self.start
            )
            return
        data = memoryview(packet)
        if packet.is_keyframe and not self.headers.changed:
            self.headers.changed = packet.has_sidedata("new_extradata")
            self.headers.see(bytes(data[:HEAD_BYTES]))
        if packet.is_corrupt or self.headers.impossible(data):
            self.damaged.append(len(self.shown))
        if not self.headers.shows(data):
            return
        if packet.is_discard:
            self.hidden += 1
            return
        if not self.shown:
            self.inside = not packet.is_keyframe and needs_others(
                self.headers.codec, bytes(data), self.headers.prefix
            )
        if packet.is_keyframe:
            self.keys.append(len(self.shown))
        self.shown.append(NONE if packet.pts is None else float(packet.pts * base) - self.start)
        self.decoded.append(NONE if packet.dts is None else float(packet.dts * base) - self.start)
        self.lasts.append(float(last * base))

    def settle(self, facts: Facts) -> None:
        """Fills the facts' times, in the order of showing."""
        facts.hidden, facts.parameters_change, facts.turning = (
            self.hidden,
            self.headers.changed,
            self.headers.turning,
        )
        shown, decoded = np.array(self.shown), np.array(self.decoded)
        if not len(shown):
            facts.damaged = len(self.damaged)
            return
        # a bare stream knows only how long each lasts
        if np.isnan(shown).all() and np.isnan(decoded).all() and min(self.lasts) > 0:
            decoded = np.cumsum(self.lasts) - self.lasts[0]
            shown = decoded
        order, (times, facts.clock) = packets_in_order(shown, decoded, facts.period_s, facts.leap_s)
        if (
            facts.container in WITHOUT_TIMES
            and not np.isnan(shown).any()
            and not np.isnan(decoded).any()
        ):
            late = max(float(shown.min() - decoded.min()), 0.0)
            times, facts.start_s = times - late, facts.start_s + late
        place = np.argsort(order)  # of each packet in the order of showing
        facts.times_s, facts.keys_s = (
            times,
            np.sort(times[place[self.keys]]) if self.keys else np.zeros(0),
        )
        facts.begins_inside = self.inside and bool(self.keys)
        if self.keys:
            facts.leading = int((times < times[place[self.keys[0]]] - 1e-6).sum())
        # where parts were joined a count of the container's jumps too: that alone is no damage;
        # what the decoder says of it counts
        steps = np.diff(decoded)
        joins = (
            np.flatnonzero((steps < 0) | (steps > facts.leap_s))
            if facts.clock
            else np.zeros(0, int)
        )
        facts.damaged = sum(
            not (np.abs(joins - number) <= NEAR_JOIN).any() for number in self.damaged
        )
        last = self.lasts[order[-1]]
        usual = float(np.median(np.diff(times))) if len(times) > 1 else facts.period_s
        self.shown_until = float(times[-1]) + (last if 0 < last <= LONGEST_FRAME_S else usual)
        if self.repeats and not facts.clock:
            self.shown_until = max(self.shown_until, max(self.repeats))


def _first_frame(path: Path, facts: Facts) -> None:
    """Rotation, colour and fields stand with the first decoded frame. The file is opened anew: not
    every container seeks back.
    """
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
    try:
        facts.orientation = orientation_of(frame)
    except NoQuarterTurn as error:
        facts.problem = str(error)
    space, primaries = int(frame.colorspace), int(frame.color_primaries)
    matrix = matrix_of(space, primaries)
    if matrix is None:
        facts.problem = without_table(space)
    facts.colour_space = SPACES.get(space, str(space))
    facts.matrix = SPACES.get(DEFAULT if matrix is None else matrix, str(matrix))
    facts.odd_colours = space not in PLAIN
    facts.colour_range = RANGES.get(int(frame.color_range), "unspecified")
    facts.primaries = PRIMARIES.get(primaries, str(primaries))
    facts.transfer = TRANSFERS.get(int(frame.color_trc), str(int(frame.color_trc)))
    if frame.interlaced_frame and not facts.interlaced:
        facts.field_order = "interlaced"
