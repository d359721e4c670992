"""Colour by the numbers of ITU-T H.273, as FFmpeg's headers carry them: names, and the matrix by
which a picture becomes RGB.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# matrix coefficients, primaries, transfer functions and ranges
SPACES = {
    0: "rgb",
    1: "bt709",
    2: "unspecified",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
PRIMARIES = {
    1: "bt709",
    2: "unspecified",
    5: "bt470bg",
    6: "smpte170m",
    9: "bt2020",
    12: "smpte432",
}
TRANSFERS = {
    1: "bt709",
    2: "unspecified",
    6: "smpte170m",
    13: "srgb",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "pq",
    18: "hlg",
}
RANGES = {1: "limited", 2: "full"}
DEFAULT = 2  # no matrix named: swscale takes BT.601's
PLAIN = {0, 1, 2, 4, 5, 6, 7, 9}  # swscale has a table for these
# BT.2020 with constant luminance differs from the other kind by a few levels, and is as a rule a
# slip for it
NEAREST = {10: 9}
# a matrix derived from the primaries is the one that belongs to them
BY_PRIMARIES = {1: 1, 5: 5, 6: 6, 9: 9}
# These are no linear matrix of R'G'B' that swscale knows: another matrix would give other colours
# altogether
WITHOUT_TABLE = {8, 11, 13, 14, 15, 16, 17}
# swscale makes these RGB as if their words were little-endian where it does not scale (QuickTime's
# raw pictures of 16 bits)
SWAPPED = {"rgb555be", "rgb565be", "bgr555be", "bgr565be"}


def matrix_of(space: int, primaries: int) -> int | None:
    """The matrix to convert a picture by whose header names `space`; None where there is no fit
    one. Reserved numbers say nothing.
    """
    if space in PLAIN:
        return space
    if space == 12:
        return BY_PRIMARIES.get(primaries)
    if space in WITHOUT_TABLE:
        return None
    return NEAREST.get(space, DEFAULT)


def made_plain(frame: Any) -> Any:
    """A PyAV frame whose format, matrix and range swscale takes rightly. Raises ValueError for a
    matrix without a table.
    """
    if frame.format.name in SWAPPED:
        return _swapped(frame)
    if int(frame.colorspace) not in PLAIN:
        matrix = matrix_of(int(frame.colorspace), int(frame.color_primaries))
        if matrix is None:
            raise ValueError(without_table(int(frame.colorspace)))
        frame.colorspace = matrix
    if int(frame.color_range) not in RANGES and int(frame.color_range):
        frame.color_range = 0
    return frame


def _swapped(frame: Any) -> Any:
    """The same picture with the bytes of its 16-bit words in the other order."""
    import av

    other = av.VideoFrame(frame.width, frame.height, frame.format.name.removesuffix("be") + "le")
    theirs, ours = frame.planes[0], other.planes[0]
    rows = np.frombuffer(bytes(theirs), np.uint8).reshape(-1, theirs.line_size)[
        : frame.height, : 2 * frame.width
    ]
    words = np.zeros((frame.height, ours.line_size), np.uint8)
    words[:, : 2 * frame.width] = rows.reshape(frame.height, -1, 2)[:, :, ::-1].reshape(
        frame.height, -1
    )
    ours.update(words.tobytes())
    return other


def without_table(space: int) -> str:
    """The reason for the table."""
    return (
        "its colours are by a matrix that has no conversion to RGB here"
        f" ({SPACES.get(space, space)}, {space} in ITU-T H.273)"
    )
