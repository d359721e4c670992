"""Video-mAP of rows of key frames that stand on every frame of their videos: true tubes by person,
found ones by linking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ops.tasks.detection.tubes import (
    NMS,
    SWEEP,
    THRESHOLDS,
    FoundTube,
    Linking,
    Tube,
    link,
    video_map,
)


def video_maps(
    rows: Iterable[Mapping[str, Any]],
    num_classes: int,
    rules: Linking | None = None,
    nms: float = NMS,
) -> tuple[dict[str, float], np.ndarray]:
    """`video_map@0.2`, `@0.5`, `@0.75` and `@0.5:0.95`, and the average precision of every class at
    0.5 (NaN without true tubes).

    Args:
        rows: as DetectionMetric takes them, with `frame`, `persons` (the tubes' numbers), `width`
            and `height`, in any order.
        num_classes: of the model.
        rules: of linking; None are those of `Linking`.
        nms: threshold of 3D-NMS before the evaluation.
    """
    by_video: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_video.setdefault(row["video_id"], []).append(row)
    found: dict[int, list[FoundTube]] = {label: [] for label in range(num_classes)}
    true: dict[int, dict[str, list[Tube]]] = {}
    for video, own in sorted(by_video.items()):
        own.sort(key=lambda row: row["frame"])
        for label, tubes in _true_tubes(own).items():
            true.setdefault(label, {})[video] = tubes
        for label, linked in _found_tubes(own, num_classes, rules).items():
            found[label] += [FoundTube(video, score, tube) for score, tube in linked]
    scores = video_map(found, true, num_classes, tuple(sorted({*THRESHOLDS, *SWEEP})), nms)
    numbers = {f"video_map@{threshold:g}": scores[threshold].mean_ap for threshold in THRESHOLDS}
    numbers["video_map@0.5:0.95"] = float(
        np.mean([scores[threshold].mean_ap for threshold in SWEEP])
    )
    return {name: value if value == value else 0.0 for name, value in numbers.items()}, scores[
        0.5
    ].per_class


def _pixels(row: Mapping[str, Any], name: str) -> np.ndarray:
    return np.asarray(row[name], np.float64).reshape(-1, 4) * np.tile(
        [row["width"], row["height"]], 2
    )


def _true_tubes(rows: list[Mapping[str, Any]]) -> dict[int, list[Tube]]:
    """Tubes by class: the boxes of one number and class; a frame that lacks its box gets one on a
    straight line.
    """
    parts: dict[tuple[int, int], tuple[list[int], list[np.ndarray]]] = {}
    for row in rows:
        labels = np.asarray(row["true_labels"], bool)
        for person, box, acts in zip(
            np.asarray(row["persons"]).tolist(), _pixels(row, "true_boxes"), labels, strict=True
        ):
            for label in np.nonzero(acts)[0].tolist():
                frames, boxes = parts.setdefault((label, person), ([], []))
                frames.append(row["frame"])
                boxes.append(box)
    tubes: dict[int, list[Tube]] = {}
    for (label, _), (frames, boxes) in sorted(parts.items()):
        line = np.arange(frames[0], frames[-1] + 1)
        sides = np.stack(boxes)
        filled = np.stack([np.interp(line, frames, sides[:, side]) for side in range(4)], axis=1)
        tubes.setdefault(label, []).append(Tube(line, filled))
    return tubes


def _found_tubes(
    rows: list[Mapping[str, Any]], num_classes: int, rules: Linking | None
) -> dict[int, list[tuple[float, Tube]]]:
    counts = [len(row["boxes"]) for row in rows]
    if not sum(counts):
        return {}
    frames = np.repeat([row["frame"] for row in rows], counts)
    boxes = np.concatenate([_pixels(row, "boxes") for row in rows])
    scores = np.concatenate(
        [np.asarray(row["scores"], np.float64).reshape(-1, num_classes) for row in rows]
    )
    length = rows[-1]["frame"] - rows[0]["frame"] + 1
    return {
        label: link(frames, boxes, scores[:, label], length, rules) for label in range(num_classes)
    }
