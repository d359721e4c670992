"""Decoding a whole video, in order, into upright RGB frames: decord first, PyAV behind it.

decord is only ever read sequentially, and only where it is known to be right: it returns wrong
frames on sparse access and on cuts with edit lists, conceals a change of the frame size, and picks
its demuxer by itself. Where both are right they give the same bytes. Both may hang or abort on a
damaged file, so callers run this in a process that can be killed. docs/decoders.md has the
evidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.schema import Frames
from ops.media.damage import Ear
from ops.media.decoding import DecodeError, Decoding, scaled_size
from ops.media.probe import Facts, inspect

__all__ = [
    "DecodeError",
    "Decoding",
    "attributes",
    "count_frames",
    "decode",
    "decoders_for",
    "mean_fps",
    "unsound",
]

# decord can hang on MPEG-TS; packets of these others do not match frames one to one
NOT_FOR_DECORD_CONTAINERS = {"mpegts", "mpeg", "gif"}
# What decord is checked for, and what can be watched for a change of the frame size without
# decoding it
DECORD_CODECS = {"h264", "hevc", "mpeg4", "msmpeg4v3"}
# What it is checked for on the first frames, as the second decoder: a change of the frame size
# shows in PyAV, the first
CONFIRMED_CODECS = DECORD_CODECS | {"av1", "vp9"}
DECORD_FORMATS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}
# decord decodes ahead of its reader without a limit: with a slow reader the whole video lies in
# memory in the end.
DECORD_BYTES = 256 * 2**20
DECORD_PIXELS = 4096 * 2304  # beyond, its frame buffers alone come near the memory ceiling
SCALED_BY = "bicubic, antialiased (swscale)"
# swscale's choice where a file names no matrix; the range is then the limited one, save for the
# "yuvj" formats
DEFAULT_MATRIX = "smpte170m"


def decode(
    path: Path,
    facts: Facts | None = None,
    decoder: str | None = None,
    threads: int = 0,
    *,
    short_side: int | None = None,
    ear: Ear | None = None,
) -> Decoding:
    """Starts decoding a local file.

    Args:
        path: of the file.
        facts: of a probe of this file; None probes it.
        decoder: "decord" or "pyav"; None takes the first of `decoders_for`.
        threads: of the decoder; 0 leaves their number to it.
        short_side: pixels of the frames' shorter side; None leaves them as coded.
        ear: hears what FFmpeg says: decord's writes its errors to file descriptor 2 then (PyAV's:
            `damage.outspoken`).

    Raises:
        DecodeError: here or while iterating.
    """
    facts = facts or inspect(path)
    if facts.problem is not None:
        raise DecodeError(facts.problem)
    if (decoder or decoders_for(facts, short_side)[0]) == "decord":
        from ops.media import decord_reader

        return decord_reader.start(path, facts, short_side, threads, ear is not None)
    from ops.media import pyav_reader

    return pyav_reader.start(path, facts, short_side, threads, ear)


def decoders_for(facts: Facts, short_side: int | None = None) -> list[str]:
    """Decoders to try on a file, in order: decord first where it is known to be right and its
    memory stays small.
    """
    height, width = scaled_size((facts.height, facts.width), short_side)
    large = facts.num_frames * height * width * 3 > DECORD_BYTES
    return ["pyav"] if large or _not_for_decord(facts, short_side) else ["decord", "pyav"]


def _not_for_decord(facts: Facts, short_side: int | None) -> str:
    """Why decord's frames of this file could be others than PyAV's; "" where nothing speaks against
    it.
    """
    reasons = {
        "decord converts interlaced frames as progressive": facts.interlaced,
        f"decord would not tell of a change of the frame size in {facts.codec}": (
            facts.codec not in DECORD_CODECS
        ),
        f"decord converts {facts.pixel_format or 'unknown'} in another way": (
            facts.pixel_format not in DECORD_FORMATS
        ),
    }
    return unsound(facts, short_side) or next(
        (reason for reason, holds in reasons.items() if holds), ""
    )


def unsound(facts: Facts, short_side: int | None = None) -> str:
    """Why decord cannot be asked about this file at all; "" where it can."""
    from ops.media.decord_reader import MISSING

    if MISSING:
        return MISSING
    if set(facts.container.split(",")) & NOT_FOR_DECORD_CONTAINERS:
        return f"decord is not sound on {facts.container}"
    if facts.codec not in CONFIRMED_CODECS:
        return f"decord is not checked on {facts.codec}"
    reasons = {
        "decord picks its demuxer by itself, and the first bytes leave it a choice": (
            not facts.signature
        ),
        "decord does not heed the edit list": facts.hidden or facts.leading,
        "decord may choose another of several video streams": facts.num_videos > 1,
        "decord conceals changes of the frame size": facts.parameters_change,
        "decord turns before it scales": facts.rotation and short_side is not None,
        "decord does not mirror": facts.orientation.mirrored,
        "decord does not heed messages that turn the picture": facts.turning,
        "decord does not know its colour matrix": facts.odd_colours,
        f"decord goes by the container's times ({facts.clock})": facts.clock,
        "decord goes by the container's times, and frames share one": bool(
            (facts.times_s[1:] <= facts.times_s[:-1]).any()
        ),
        "the frames are too large for decord's buffers": facts.height * facts.width > DECORD_PIXELS,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def mean_fps(facts: Facts, timestamps_s: list[float]) -> float:
    """Frames per second: the container's figure where the timestamps agree with it within 2%, else
    theirs (variable rate).
    """
    nominal = float(facts.fps)
    if len(timestamps_s) < 2 or timestamps_s[-1] <= timestamps_s[0]:
        return nominal or 25.0
    measured = (len(timestamps_s) - 1) / (timestamps_s[-1] - timestamps_s[0])
    return nominal if nominal and abs(measured - nominal) <= 0.02 * nominal else measured


def attributes(
    facts: Facts, decoding: Decoding, config: Frames, source_uri: str, source_sha256: str
) -> dict[str, Any]:
    """What is stored beside the frames so that the array describes itself.

    Args:
        facts: of the source.
        decoding: at its end, with all its timestamps.
        config: by which the frames were scaled.
        source_uri: where the video file lay.
        source_sha256: of its content, hexadecimal.
    """
    return {
        "fps": mean_fps(facts, decoding.timestamps_s),
        "timestamps_s": [round(time, 6) for time in decoding.timestamps_s],
        "source_uri": source_uri,
        "source_sha256": source_sha256,
        "source_size": [facts.height, facts.width],
        "rotation": facts.rotation,
        "mirrored": facts.orientation.mirrored,
        "pixel_aspect": [facts.pixel_aspect.numerator, facts.pixel_aspect.denominator],
        "field_order": facts.field_order,
        "decoder": decoding.decoder,
        "decoder_version": decoding.decoder_version,
        "resize": (
            None
            if config.short_side is None
            else {"short_side": config.short_side, "filter": SCALED_BY}
        ),
        "colour": colour(facts),
    }


def colour(facts: Facts) -> dict[str, Any]:
    """What the source says of its colours, and the matrix and range by which both decoders made
    them RGB.
    """
    matrix = facts.matrix if facts.matrix not in ("", "unspecified") else DEFAULT_MATRIX
    is_rgb = facts.colour_space == "rgb" or facts.pixel_format.startswith(
        ("rgb", "bgr", "gbr", "pal", "argb", "abgr")
    )
    full = is_rgb or facts.colour_range == "full" or facts.pixel_format.startswith("yuvj")
    return {
        "source_pixel_format": facts.pixel_format,
        "source_matrix": facts.colour_space,
        "source_range": facts.colour_range,
        "source_primaries": facts.primaries,
        "source_transfer": facts.transfer,
        "matrix": "rgb" if is_rgb else matrix,
        "range": "full" if full else "limited",
        "conversion": (
            "swscale to 8-bit full-range RGB; primaries and transfer function are kept as they are"
        ),
    }


def count_frames(path: Path) -> int:
    """Frames that PyAV decodes from a local file: the second decoder of a check. Raises
    DecodeError.
    """
    decoding = decode(path, None, "pyav")
    for _ in decoding:
        continue
    return decoding.num_frames
