"""Stored features as the files that the field exchanges: one .npy or .npz per video, [T, C], named
by video_id.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from configs.schema import Features
from ops.features.materialize import FeaturesError, Row, read_rows
from ops.files.storage import write_bytes
from ops.store.features import FeatureReader
from ops.store.layout import Layout, below

WRITERS = 8
ABOUT = "features.json"
Format = Literal["npy", "npz"]


@dataclass(frozen=True)
class ExportReport:
    """What was written. `refused` videos have no features and no file."""

    folder: str
    videos: int
    refused: int
    bytes: int
    seconds: float


def export_features(
    features: Features,
    layout: Layout,
    folder: str,
    kind: Format = "npy",
    key: str = "feats",
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Writes one file per video of all stored features, and `<folder>/features.json`: what a reader
    of the files must know, stride, num_frames, channels, and rate and duration per video.

    Args:
        features: what is exported.
        layout: of the store that has them.
        folder: a path or URI; the files are `<folder>/<video_id>.<kind>`.
        kind: npy, or npz, which is compressed.
        key: name of the array in an npz.
        progress: is told (done, all) videos.

    Raises:
        FeaturesError: nothing is stored.
        StorageError: a store does not answer.
    """
    start = time.monotonic()
    rows = read_rows(features, layout)
    stored = [row for row in rows if row["status"] == "ok"]
    if not stored:
        raise FeaturesError(
            f"features '{features.name}': nothing is stored, there is nothing to export; make them"
            " first"
        )
    folder = folder.rstrip("/")
    size, videos = 0, {}

    def write(row: Row) -> tuple[int, dict[str, object]]:
        reader = FeatureReader(row["array_uri"])
        data = _encoded(reader.read(), kind, key)
        write_bytes(below(folder, f"{row['video_id']}.{kind}"), data)
        return len(data), {
            "num_steps": len(reader),
            **{name: reader.attributes[name] for name in ("fps", "duration_s")},
        }

    with ThreadPoolExecutor(WRITERS) as threads:
        for done, (row, (number, facts)) in enumerate(
            zip(stored, threads.map(write, stored), strict=True), 1
        ):
            size += number
            videos[row["video_id"]] = facts
            if progress is not None:
                progress(done, len(stored))
    about = {
        "features": features.name,
        "dataset": features.dataset,
        "stride": features.stride,
        "num_frames": features.num_frames,
    }
    about |= {"channels": stored[0]["channels"], "dtype": features.dtype, "videos": videos}
    write_bytes(f"{folder}/{ABOUT}", json.dumps(about, indent=1, sort_keys=True).encode())
    return ExportReport(
        folder, len(stored), len(rows) - len(stored), size, time.monotonic() - start
    )


def _encoded(array: np.ndarray, kind: Format, key: str) -> bytes:
    file = io.BytesIO()
    if kind == "npz":
        np.savez_compressed(file, **{key: array})  # type: ignore[arg-type]
    else:
        np.save(file, array, allow_pickle=False)
    return file.getvalue()
