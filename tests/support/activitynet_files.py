"""Truth and predictions of ActivityNet's own files as the metric takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from ops.tasks.localization.metric import MetricError, Segments, kept_segments, segments_of


def read_truth(content: str | bytes, subset: str) -> tuple[Segments, list[str]]:
    """Truth of ActivityNet's json, without repeats, and the labels of the whole file, sorted; a
    label's id is its place.

    `subset` is compared without regard to case. Raises MetricError for a file without a segment in
    it.
    """
    database = json.loads(content)["database"]
    labels = sorted({item["label"] for video in database.values() for item in video["annotations"]})
    id_of = {label: place for place, label in enumerate(labels)}
    rows = []
    for name, video in database.items():
        if video["subset"].lower() == subset.lower():
            spans = np.array(
                [item["segment"] for item in video["annotations"]], np.float64
            ).reshape(-1, 2)
            ids = np.array([id_of[item["label"]] for item in video["annotations"]], np.int64)
            kept = kept_segments(spans[:, 0], spans[:, 1], ids)
            rows += [
                (name, start, end, label, 1.0)
                for (start, end), label in zip(
                    spans[kept].tolist(), ids[kept].tolist(), strict=True
                )
            ]
    if not rows:
        raise MetricError(f"subset '{subset}': no video of it has a segment")
    return segments_of(rows), labels


def read_predictions(content: str | bytes, labels: Sequence[str]) -> Segments:
    """Predictions of ActivityNet's json (`results`). Raises MetricError for a label that is not
    among `labels`.
    """
    id_of = {label: place for place, label in enumerate(labels)}
    rows = []
    for name, items in json.loads(content)["results"].items():
        for item in items:
            if item["label"] not in id_of:
                raise MetricError(
                    f"video '{name}': prediction with label '{item['label']}', which the ground"
                    " truth does not have"
                )
            rows.append(
                (name, *map(float, item["segment"]), id_of[item["label"]], float(item["score"]))
            )
    return segments_of(rows)
