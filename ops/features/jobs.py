"""One video's share of the work, and what comes of it. Nothing heavy is imported: jobs travel between processes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.schema import Features


@dataclass(frozen=True)
class Job:
    """A video whose features are to be made: `array_uri` is where they go."""

    video_id: str
    features: Features
    attributes: dict[str, Any]
    sha256: str
    key: str
    array_uri: str


@dataclass(frozen=True)
class ExtractJob(Job):
    """From stored frames; `sha256` is their ledger key."""

    frames_uri: str


@dataclass(frozen=True)
class Outcome:
    """What the ledger says of a video: stored (`reason` empty) or refused. `unchanged` leaves the ledger's row as it is."""

    num_steps: int = 0
    channels: int = 0
    bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
    sha256: str | None = None  # where the job did not know them
    key: str | None = None
    unchanged: bool = False


def stored(array: np.ndarray, size: int, start: float) -> Outcome:
    """The features [T, C] lie in the store, `size` bytes; `start` is on the monotonic clock."""
    return Outcome(array.shape[0], array.shape[1], size, time.monotonic() - start)


def refused(reason: str, start: float) -> Outcome:
    """No features, and why."""
    return Outcome(reason=reason, seconds=time.monotonic() - start)
