"""The peer of decoding and storing, in a module that worker processes can import."""

from __future__ import annotations

import decord

from ops.media.decoding import scaled_size


def bare(payload: tuple[str, int | None], attempt: str) -> int:
    """Reads a video in order by decord, scaled by decord, and keeps nothing. Returns the frames read."""
    path, short_side = payload
    decord.logging.set_level(decord.logging.QUIET)
    probe = decord.VideoReader(path, num_threads=1)
    size = probe[0].shape[:2]
    del probe
    height, width = scaled_size(size, short_side)
    reader = decord.VideoReader(path, num_threads=1, **({} if (height, width) == size else {"height": height, "width": width}))
    for first in range(0, len(reader), 32):
        reader.get_batch(list(range(first, min(first + 32, len(reader))))).asnumpy()
    return len(reader)
