"""What a worker is asked to store, and the manifest's row of what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from configs.schema import Dataset, Frames
from ops.files.storage import StorageError, exists, is_local

Row = dict[str, Any]


@dataclass(frozen=True)
class StoreJob:
    """What a worker needs to store one video."""

    video_id: str
    source_uri: str
    sha256: str
    array_uri: str
    frames: Frames
    threads: int


@dataclass
class Stored:
    """What was stored now: `worked` videos, of which `done` went well, with their `frames` and
    `bytes`.
    """

    worked: int = 0
    done: int = 0
    frames: int = 0
    bytes: int = 0

    def count(self, row: Row) -> None:
        """Counts one video by its row."""
        self.worked += 1
        if row["status"] == "ok":
            self.done += 1
            self.frames += row["num_frames"]
            self.bytes += row["bytes"]


def manifest_row(
    dataset: Dataset, video_id: str, sha256: str, key: str, array_uri: str, value: Row
) -> Row:
    """A whole row: `value` is what a worker says of a stored video, or a `reason` with the
    `seconds` it took to be found.
    """
    known = {"video_id": video_id, "dataset": dataset.name, "sha256": sha256, "key": key}
    if "num_frames" in value:
        return {**known, "array_uri": array_uri, "audit": "", **value}
    numbers = {"num_frames": 0, "height": 0, "width": 0, "fps": 0.0, "bytes": 0}
    texts = {
        "array_uri": "",
        "decoder": "",
        "decoder_version": "",
        "audit": "",
        "status": "quarantined",
    }
    return {**known, **numbers, **texts, **value}


def check_shared(source_uri: str, array_uri: str, value: Row) -> None:
    """A worker on another machine must see the disks that this process sees; an empty `array_uri`
    is that of a refused video. Raises StorageError.
    """
    stored = bool(array_uri) and "num_frames" in value
    lost = stored and is_local(array_uri) and not exists(f"{array_uri}/zarr.json")
    unseen = (
        is_local(source_uri)
        and value.get("reason", "").startswith("the file vanished")
        and exists(source_uri)
    )
    if lost or unseen:
        place = array_uri if lost else source_uri
        raise StorageError(
            place,
            "a worker on another machine does not see it; put storage and videos on S3 or a folder"
            " of all nodes",
        )
