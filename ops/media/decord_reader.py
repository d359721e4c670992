"""decord, read sequentially. It scales while it decodes (swscale, bicubic), so that whole frames
never lie in memory as RGB.

Where it is not installed this module loads all the same, `MISSING` says why, and PyAV does all the
work.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av  # noqa: F401
import numpy as np

from ops.media.decoding import DecodeError, Decoding, piece_frames, scaled_size
from ops.media.probe import Facts

# In decord's messages: the time and the place in the sources of who built it; the condition that
# failed; the file as it was opened
_NOISE = [
    re.compile(r"(\[\d\d:\d\d:\d\d\] )?\S*/[\w./-]+\.(cc|h|cpp|c):\d+: "),
    re.compile(r"Check failed: .*? \([^()]* vs\. [^()]*\) (?=\S)"),
    re.compile(r"\[[^]]*/[^]]*\] "),
]


def _load() -> tuple[Any, str]:
    """The module decord, or None and why there is none.

    decord gives its libraries to the whole process (RTLD_GLOBAL). Its FFmpeg and PyAV's have the
    same names, so PyAV has to be loaded, and bound to its own, before: two decoders in one library
    would confirm each other's faults. decord also loads whatever CUDA libraries lie among the
    packages, gigabytes for nothing, since it decodes on the CPU here: they are hidden from it.
    """
    before = sys.modules.get("nvidia")
    sys.modules["nvidia"] = None  # type: ignore[assignment]
    try:
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == "decord"
        return (
            None,
            (
                "decord is not installed"
                if is_absent
                else f"decord does not load ({first_line(error)})"
            ),
        )
    finally:
        del sys.modules["nvidia"]
        if before is not None:
            sys.modules["nvidia"] = before
    return decord, ""


def first_line(error: Exception) -> str:
    """An error's last line, where decord puts the cause, without what says nothing to its reader;
    whole words.
    """
    text = str(error)
    for noise in _NOISE:
        text = noise.sub("", text)
    lines = text.strip().splitlines()
    return textwrap.shorten(lines[-1], 160, placeholder=" ...") if lines else type(error).__name__


decord, MISSING = _load()
VERSION = "" if decord is None else f"{decord.__version__}"
FAILURES: tuple[type[Exception], ...] = (
    (RuntimeError,) if decord is None else (RuntimeError, decord.DECORDError)
)


def start(
    path: Path, facts: Facts, short_side: int | None, threads: int, report_damage: bool
) -> Decoding:
    """Starts decoding.

    Args:
        path: of a local file.
        facts: of a probe of this file.
        short_side: pixels of the frames' shorter side; None leaves them as coded.
        threads: of the decoder; 0 leaves their number to it.
        report_damage: lets FFmpeg's errors through to file descriptor 2: decord conceals damage and
            says nothing else.

    Raises:
        DecodeError: decord cannot open the file or counts other frames than the container.
    """
    reader = opened(path, facts, short_side, threads, report_damage)
    if len(reader) != facts.num_frames:
        raise DecodeError(
            f"decord: {len(reader)} frames where the container shows {facts.num_frames}"
        )
    decoding = Decoding("decord", VERSION, iter(()))
    decoding.pieces = _pieces(reader, facts, short_side, decoding)
    return decoding


def opened(
    path: Path, facts: Facts, short_side: int | None, threads: int, report_damage: bool = False
) -> Any:
    """decord's reader of a file, scaled. Raises DecodeError."""
    if decord is None:
        raise DecodeError(MISSING)
    decord.logging.set_level(decord.logging.ERROR if report_damage else decord.logging.QUIET)
    shown = (facts.width, facts.height) if facts.rotation % 180 else (facts.height, facts.width)
    height, width = scaled_size(shown, short_side)
    scaled = {} if (height, width) == shown else {"height": height, "width": width}
    try:
        return decord.VideoReader(
            str(path.absolute()), ctx=decord.cpu(0), num_threads=threads, **scaled
        )
    except FAILURES as error:
        raise DecodeError(f"decord: {first_line(error)}") from error


def _pieces(
    reader: Any, facts: Facts, short_side: int | None, decoding: Decoding
) -> Iterator[np.ndarray]:
    step = piece_frames(scaled_size((facts.height, facts.width), short_side))
    for first in range(0, len(reader), step):
        last = min(first + step, len(reader))
        piece = batch(reader, first, last)
        decoding.timestamps_s += facts.times_s[first:last].tolist()
        yield piece


def batch(reader: Any, first: int, last: int) -> np.ndarray:
    """Frames first..last-1, uint8 [n, H, W, 3]; the frames before them have been read, and no
    others. Raises DecodeError.
    """
    images: list[np.ndarray] = []
    try:
        while len(images) < last - first:
            images.append(_image(reader.next()))
    except StopIteration:
        raise DecodeError(
            f"decord: the frames end at {first + len(images)} of {len(reader)}"
        ) from None
    except FAILURES as error:
        raise DecodeError(f"decord: {first_line(error)}") from error
    return np.stack(images)


def _image(array: Any) -> np.ndarray:
    """uint8 [H, W, 3] of decord's array, which has too many channels where its padded rows are a
    whole multiple of the width.

    That is the width 96, say, in rows of 384 bytes; which widths they are depends on the processor.
    `get_batch` fails there.
    """
    image = array.asnumpy()
    height, width, channels = image.shape
    return (
        image
        if channels == 3
        else image.reshape(height, width * channels)[:, : 3 * width].reshape(height, width, 3)
    )


def times(reader: Any) -> np.ndarray:
    """Float64 [frames]: the seconds at which decord's index shows each frame, from the first.
    Raises DecodeError.
    """
    try:
        shown = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)[:, 0]
    except FAILURES as error:
        raise DecodeError(f"decord: {first_line(error)}") from error
    return shown - shown[:1]
