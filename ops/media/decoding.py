"""A decode under way, whichever decoder does it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from configs.errors import KinographError

PIECE_BYTES = 32 * 2**20  # decoded frames in memory at a time
PIECE_FRAMES = 32
HERE = Path(__file__).parents[1]
LONGEST = 300  # letters of an error's text in a row
Size = tuple[int, int]  # height, width


class DecodeError(KinographError, ValueError):
    """A video that cannot be decoded whole; the message is the reason, fit for a table."""


def unforeseen(error: BaseException) -> str:
    """An error that nobody reckoned with, for a video's row: its kind, its text, and the line of
    this code that it came from.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.line]
    own = next(
        (frame for frame in reversed(frames) if Path(frame.filename).is_relative_to(HERE)), None
    )
    text = " ".join(str(error).split())[:LONGEST]
    return f"unforeseen {type(error).__name__}: {text}" + (
        f" ({Path(own.filename).name}:{own.lineno})" if own else ""
    )


@dataclass
class Decoding:
    """A decode under way. Iterating yields uint8 [n, H, W, 3] upright RGB; the other fields are
    complete after the last piece.
    """

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


def scaled_size(size: Size, short_side: int | None) -> Size:
    """(height, width) with the shorter one at `short_side` pixels, aspect kept; None changes
    nothing.
    """
    if short_side is None or min(size) == short_side:
        return size
    scale = short_side / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def piece_frames(size: Size) -> int:
    """How many frames of this size make one piece."""
    return max(1, min(PIECE_FRAMES, PIECE_BYTES // max(1, size[0] * size[1] * 3)))
