"""What the made-up data sets share: a stored video's row of the ledger, and recipes with
changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from configs.schema import Dataset
from ops.store.features import FeatureReader
from ops.store.frames import write_frames
from ops.store.layout import Layout
from ops.store.manifest import frames_key


def ledger_row(
    layout: Layout,
    dataset: Dataset,
    video_id: str,
    sha256: str,
    frames: np.ndarray,
    fps: float,
    stored: bool,
) -> dict[str, Any]:
    """Writes the frames, uint8 [T, H, W, 3], where they are to be `stored`, and gives the row; else
    that of a quarantined video.
    """
    uri = layout.frames(dataset.name, dataset.frames.key(), video_id, sha256)
    if stored:
        write_frames(
            uri,
            frames,
            dataset.frames,
            {"fps": fps, "timestamps_s": [t / fps for t in range(len(frames))]},
        )
    return dict(
        video_id=video_id,
        dataset=dataset.name,
        sha256=sha256,
        key=frames_key(sha256, dataset),
        array_uri=uri if stored else "",
        num_frames=len(frames),
        height=frames.shape[1],
        width=frames.shape[2],
        fps=fps,
        status="ok" if stored else "quarantined",
        reason="" if stored else "not a video file",
        decoder="none",
        decoder_version="0",
        audit="",
        bytes=0,
        seconds=0.0,
    )


def changed(
    values: dict[str, Any], changes: Mapping[str, Any], whole: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The values of a recipe with changes: sections are merged into the present ones, but for the
    `whole` ones.
    """
    return values | {
        key: (
            {**values.get(key, {}), **value}
            if isinstance(value, dict) and key not in whole
            else value
        )
        for key, value in changes.items()
    }


def read_features(uri: str) -> np.ndarray:
    """The whole array [T, C], as stored."""
    return FeatureReader(uri).read()
