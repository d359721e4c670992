"""Which hash bucket (partition) a video belongs to. Imports nothing heavy: Dagster loads it on
every start.
"""

from __future__ import annotations

import hashlib

from configs.schema import BUCKETS


def bucket_of(video_id: str, n: int = BUCKETS) -> int:
    """Bucket 0..n-1 of a video, the same on every machine."""
    return int(hashlib.sha256(video_id.encode()).hexdigest()[:8], 16) % n


def stem_of(path_below: str) -> str:
    """A file's path below the videos folder without its ending: the video_id, unless another file
    has it.
    """
    dot = path_below.rfind(".")  # not pathlib: a million files pass here
    name = path_below.rfind("/") + 1
    # `...mp4`: no id may name a folder
    ends = name < dot < len(path_below) - 1 and path_below[name:dot] not in (".", "..")
    return path_below[:dot] if ends else path_below


def bucket_of_file(path_below: str, n: int = BUCKETS) -> int:
    """Bucket of a file by its path below the videos folder; files that differ in their ending only
    share it.
    """
    return bucket_of(stem_of(path_below), n)
