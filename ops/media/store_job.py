"""What a worker is asked to store."""

from __future__ import annotations

from dataclasses import dataclass

from configs.schema import Frames


@dataclass(frozen=True)
class StoreJob:
    """What a worker needs to store one video."""

    video_id: str
    source: str
    sha256: str
    uri: str
    frames: Frames
    threads: int
