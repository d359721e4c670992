"""decord, read sequentially. It scales while it decodes (swscale, bilinear), so that whole frames never lie in memory as RGB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import decord
import numpy as np

from ops.media.decoding import DecodeError, Decoding, piece_frames, scaled_size
from ops.media.probe import Facts

FAILURES = (RuntimeError, decord.DECORDError)


def start(path: Path, facts: Facts, short_side: int | None, threads: int, report_damage: bool) -> Decoding:
    """Starts decoding. `report_damage` lets FFmpeg's errors through to file descriptor 2: decord conceals damage and says nothing else.

    Raises DecodeError where decord cannot open the file or counts other frames than the container.
    """
    reader = opened(path, facts, short_side, threads, report_damage)
    if len(reader) != facts.num_frames:
        raise DecodeError(f"decord: {len(reader)} frames where the container shows {facts.num_frames}")
    decoding = Decoding("decord", decord.__version__, iter(()))
    decoding.pieces = _pieces(reader, facts, short_side, decoding)
    return decoding


def opened(path: Path, facts: Facts, short_side: int | None, threads: int, report_damage: bool = False) -> Any:
    """decord's reader of a file, scaled. Raises DecodeError."""
    decord.logging.set_level(decord.logging.ERROR if report_damage else decord.logging.QUIET)
    shown = (facts.width, facts.height) if facts.rotation % 180 else (facts.height, facts.width)
    height, width = scaled_size(shown, short_side)
    scaled = {} if (height, width) == shown else {"height": height, "width": width}
    try:
        return decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads, **scaled)
    except FAILURES as error:
        raise DecodeError(f"decord: {first_line(error)}") from error


def _pieces(reader: Any, facts: Facts, short_side: int | None, decoding: Decoding) -> Iterator[np.ndarray]:
    step = piece_frames(scaled_size((facts.height, facts.width), short_side))
    for first in range(0, len(reader), step):
        last = min(first + step, len(reader))
        piece = batch(reader, first, last)
        decoding.timestamps_s += facts.times_s[first:last].tolist()
        yield piece


def batch(reader: Any, first: int, last: int) -> np.ndarray:
    """Frames first..last-1, uint8 [n, H, W, 3]; only right where the frames before were read before. Raises DecodeError."""
    try:
        return reader.get_batch(list(range(first, last))).asnumpy()
    except FAILURES as error:
        raise DecodeError(f"decord: {first_line(error)}") from error


def times(reader: Any) -> np.ndarray:
    """Float64 [frames]: the seconds at which decord's index shows each frame, from the first. Raises DecodeError."""
    try:
        shown = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)[:, 0]
    except FAILURES as error:
        raise DecodeError(f"decord: {first_line(error)}") from error
    return shown - shown[:1]


def first_line(error: Exception) -> str:
    """The end of an error's last line: decord puts the cause there."""
    return str(error).strip().splitlines()[-1][-160:] if str(error).strip() else type(error).__name__
