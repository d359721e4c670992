"""Class scores of whole videos, from a json file of another model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configs.schema import ConfigError
from configs.schema.localization import Fusion
from ops.data.errors import DataError
from ops.files.storage import read_bytes

NAMED = 3


@dataclass(frozen=True)
class VideoScores:
    """Scores float32 [classes] by video id, in the order of the dataset's labels."""

    uri: str
    sha256: str
    by_video: dict[str, np.ndarray]

    def of(self, video_id: str) -> np.ndarray:
        """The video's scores. Raises DataError where there are none."""
        self.require([video_id])
        return self.by_video[video_id]

    def require(self, videos: Sequence[str]) -> None:
        """Raises DataError for videos without scores."""
        missing = [video for video in videos if video not in self.by_video]
        if missing:
            shown = ", ".join(missing[:NAMED]) + (
                "" if len(missing) <= NAMED else f" and {len(missing) - NAMED} more"
            )
            raise DataError(
                f"{self.uri}: no class scores of {len(missing)} of {len(videos)} videos: {shown}"
            )


def read_scores(fusion: Fusion, root: str, labels: Sequence[str]) -> VideoScores:
    """Reads the file of class scores by video.

    Args:
        fusion: says where it is.
        root: folder or URI that it lies below.
        labels: the classes wanted, in their order.

    Raises:
        ConfigError: the file is missing, not of this form, or of other classes than `labels`.
    """
    uri = f"{root}/{fusion.scores}"
    form = '{"class": [name of each class], "results": {video: [score of each class]}}'
    try:
        data = read_bytes(uri)
        content = json.loads(data)
    except FileNotFoundError as error:
        raise ConfigError(
            uri,
            "(whole file)",
            "no such file",
            f"json: {form}; or a recipe without its fusion section",
        ) from error
    except ValueError as error:
        raise ConfigError(uri, "(whole file)", str(error), f"json: {form}") from error
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not results:
        raise ConfigError(uri, "results", type(results).__name__, form)
    order = _order(uri, content.get("class"), labels)
    by_video = {}
    for video, values in results.items():
        try:
            scores = np.asarray(values, np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                uri, f"results.{video}", type(values).__name__, "a list of numbers"
            ) from error
        if scores.shape != (len(labels),) or not np.isfinite(scores).all() or (scores < 0).any():
            raise ConfigError(
                uri,
                f"results.{video}",
                f"shape {list(scores.shape)}",
                f"{len(labels)} finite numbers from 0",
            )
        by_video[fusion.video.format(video=video)] = scores[order]
    return VideoScores(uri, hashlib.sha256(data).hexdigest(), by_video)


def _order(uri: str, names: object, labels: Sequence[str]) -> np.ndarray:
    """For each label, its place among the file's classes."""
    if names is None:
        return np.arange(len(labels))
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(labels):
        raise ConfigError(
            uri,
            "class",
            f"{len(names) if isinstance(names, list) else names} names",
            f"the dataset's {len(labels)} labels",
        )
    return np.array([names.index(label) for label in labels])
