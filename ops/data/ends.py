"""Where stored videos end: by the times of their frames, which are asked only of videos that a
row's time is near the end of.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ops.data.timeline import TimeError, shown_until, timestamps
from ops.store.reader import FrameReader, FrameReadError

READS_AT_ONCE = 16
APART = 1.03  # the ledger's rate is that of the frames' times to 2% (`ops.media.decode.mean_fps`)


def surely(num_frames: np.ndarray, fps: np.ndarray) -> np.ndarray:
    """Seconds float64 [V] up to which stored videos surely have frames, by the ledger's mean rates;
    0 where that is 0 or NaN.
    """
    known = fps > 0
    return np.where(known, (num_frames - 1) / np.where(known, fps, 1.0) / APART, 0.0)


def ends(uris: Iterable[str]) -> dict[str, float]:
    """Seconds at which the last frame of each stored video has been shown; infinity for an array
    that cannot be opened.

    Such an array is named when it is read. Raises StorageError for a store that fails.
    """
    wanted = sorted(set(uris))
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(READS_AT_ONCE, len(wanted))) as threads:
        return dict(zip(wanted, threads.map(_end, wanted), strict=True))


def _end(uri: str) -> float:
    try:
        return shown_until(timestamps(FrameReader(uri).attributes))
    except (FrameReadError, TimeError):
        return float("inf")
