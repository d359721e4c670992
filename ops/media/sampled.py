"""Chosen frames of a video file, decoded in order; only these are kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ops.media.decode import DecodeError, decode, decoders_for
from ops.media.probe import Facts, inspect

Choice = Callable[[int, list[float]], np.ndarray]


def sampled_frames(
    path: Path, choose: Choice, *, short_side: int | None = None, on_clock: bool = False
) -> np.ndarray:
    """Chosen frames uint8 [n, H, W, 3] of a local file, in the order of the choice.

    Args:
        path: of the file.
        choose: takes (num_frames, timestamps_s) and names indices, int [n]; repeats are allowed.
            Where a stream yields another number of frames than its packets promise, it is asked
            again.
        short_side: pixels of the frames' shorter side; None leaves them as coded.
        on_clock: the choice needs timestamps: a pass over the video of its own, since the places
            have to be known before frames are kept; else they are an empty list.

    Raises:
        DecodeError: no decoder can read the file.
    """
    facts = inspect(path)
    if facts.problem is not None:
        raise DecodeError(facts.problem)
    last: DecodeError | None = None
    for decoder in decoders_for(facts, short_side):
        try:
            times = _timestamps(path, facts, decoder) if on_clock else []
            expected = len(times) or facts.num_frames
            indices = choose(expected, times)
            kept, found = _keep(_pieces(path, facts, decoder, short_side), indices)
            if found != expected:
                indices = choose(found, times)
                kept, _ = _keep(_pieces(path, facts, decoder, short_side), indices)
            return np.stack([kept[index] for index in indices.tolist()])
        except DecodeError as error:
            last = error
    raise last or DecodeError("no decoder")


def _pieces(path: Path, facts: Facts, decoder: str, short_side: int | None) -> Iterator[np.ndarray]:
    return decode(path, facts, decoder, short_side=short_side).pieces


def _timestamps(path: Path, facts: Facts, decoder: str) -> list[float]:
    decoding = decode(path, facts, decoder)
    for _ in decoding:
        continue
    return decoding.timestamps_s


def _keep(pieces: Iterator[np.ndarray], indices: np.ndarray) -> tuple[dict[int, np.ndarray], int]:
    """The frames with these indices, and how many frames there are."""
    wanted, found = set(indices.tolist()), 0
    kept: dict[int, np.ndarray] = {}
    for piece in pieces:
        kept |= {found + at: frame.copy() for at, frame in enumerate(piece) if found + at in wanted}
        found += len(piece)
    return kept, found
