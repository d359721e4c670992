"""The peer of decoding and storing, in a module that worker processes can import."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ops.media.decoding import scaled_size
from ops.media.decord_reader import decord
from ops.store.jpeg import encode


def encoded(payload: tuple[str, int | None], attempt: str) -> int:
    """As `bare`, and every frame as a JPEG that is thrown away: what no store of JPEG frames can be
    faster than.
    """
    return _read(payload, lambda frame: encode(frame, 95))


def bare(payload: tuple[str, int | None], attempt: str) -> int:
    """Reads a video in order by decord, scaled by decord, and keeps nothing. Returns the frames
    read.
    """
    return _read(payload, lambda frame: None)


def _read(payload: tuple[str, int | None], use: Callable[[np.ndarray], object]) -> int:
    path, short_side = payload
    decord.logging.set_level(decord.logging.QUIET)
    probe = decord.VideoReader(path, num_threads=1)
    size = probe[0].shape[:2]
    del probe
    height, width = scaled_size(size, short_side)
    reader = decord.VideoReader(
        path,
        num_threads=1,
        **({} if (height, width) == size else {"height": height, "width": width}),
    )
    for first in range(0, len(reader), 32):
        for frame in reader.get_batch(list(range(first, min(first + 32, len(reader))))).asnumpy():
            use(frame)
    return len(reader)
