"""How a decoded picture is to be laid so that it stands upright: a display matrix, not an angle.

A matrix a, b, c, d maps a coded point (x, y) to (a x + c y, b x + d y) on the screen (ISO/IEC
14496-12 6.2.2). Quarter turns and mirrors are the eight ways to lay a picture; FFmpeg's player and
its command-line program show a film by the same rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type

_REFORMATTER = av.video.reformatter.VideoReformatter()
NEAR = 1.0  # degrees: so far from a quarter turn still is one, as for ffmpeg
QUARTERS = {
    (False, False, False): 0,
    (True, True, False): 90,
    (False, True, True): 180,
    (True, False, True): 270,
}


class NoQuarterTurn(ValueError):
    """A display matrix that turns by an angle between the quarters: the picture would get black
    corners.
    """


@dataclass(frozen=True)
class Orientation:
    """Rows and columns change places first (`transposed`), then left and right (`flip_x`), then top
    and bottom (`flip_y`).
    """

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether writing in the coded picture reads the wrong way round."""
        return self.transposed ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees clockwise that make it upright, of a picture that is mirrored left to right first
        where it is `mirrored`.
        """
        own = (
            self.transposed,
            self.flip_x ^ (self.mirrored and not self.transposed),
            self.flip_y ^ (self.mirrored and self.transposed),
        )
        return QUARTERS[own]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """A view of an image [H, W, 3] (or [W, H, 3] where transposed) that stands upright."""
        image = image.swapaxes(0, 1) if self.transposed else image
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def __str__(self) -> str:
        return f"{'mirrored, ' if self.mirrored else ''}{self.rotation} degrees"


def orientation_of(frame: Any) -> Orientation:
    """Of a PyAV frame: its display matrix (the container's, a message's in the stream, EXIF's).
    Raises NoQuarterTurn.
    """
    for data in _small(frame).side_data:
        if data.type is Type.DISPLAYMATRIX:
            return of_matrix(np.frombuffer(bytes(data), np.int32))
    return Orientation()


def _small(frame: Any) -> Any:
    """A copy of few pixels with the same side data. PyAV never frees a frame that was asked for its
    side data, nor its pixels.
    """
    try:
        return _REFORMATTER.reformat(
            frame, width=16, height=16, format="gray", interpolation="POINT", threads=1
        )
    except MemoryError:
        raise
    # colours that cannot be converted as they are: the frame itself, then
    except (av.error.FFmpegError, ValueError):
        return frame


def _unnamed(cls: Any, value: int) -> Any:
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


# PyAV raises for a frame with side data of a kind that it has no name for (EXIF is 31), whichever
# kind is asked for
Type._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]


def of_matrix(matrix: np.ndarray) -> Orientation:
    """Of nine numbers a, b, u, c, d, v, x, y, w in FFmpeg's order. Zeros, which map nowhere, leave
    the picture as it is.

    Raises NoQuarterTurn.
    """
    a, b, c, d = (float(matrix[place]) for place in (0, 1, 3, 4))
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return Orientation()
    angle = math.degrees(math.atan2(b / down, a / across)) % 360
    if abs(angle - 90 * round(angle / 90)) > NEAR:
        raise NoQuarterTurn(
            f"its display matrix turns the picture by {angle:.0f} degrees; only quarter turns and"
            " mirrors can be stored"
        )
    if round(angle / 90) % 2:
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)
