"""One video's share of the work, and what comes of it. Nothing heavy is imported: jobs travel
between processes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.schema import Features


@dataclass(frozen=True)
class FeaturesJob:
    """A video whose features are to be made: `array_uri` is where they go."""

    video_id: str
    features: Features
    attributes: dict[str, Any]
    sha256: str
    key: str
    array_uri: str


@dataclass(frozen=True)
class ExtractJob(FeaturesJob):
    """From stored frames; `sha256` is their ledger key."""

    frames_uri: str


@dataclass(frozen=True)
class FeaturesOutcome:
    """What the ledger says of a video: stored (`reason` empty) or refused. `unchanged` leaves the
    ledger's row as it is.
    """

    num_steps: int = 0
    channels: int = 0
    bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
    sha256: str | None = None  # where the job did not know them
    key: str | None = None
    unchanged: bool = False


def stored(array: np.ndarray, size: int, start: float) -> FeaturesOutcome:
    """The features [T, C] lie in the store, `size` bytes; `start` is on the monotonic clock."""
    return FeaturesOutcome(array.shape[0], array.shape[1], size, time.monotonic() - start)


def refused(reason: str, start: float) -> FeaturesOutcome:
    """No features, and why."""
    return FeaturesOutcome(reason=reason, seconds=time.monotonic() - start)
