"""Loading clips as columns against rows of dictionaries, and their version, in one run."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from configs.schema import AnnotationFile, Dataset, content_hash
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.tables import CLIPS, MANIFEST, read_table, write_table
from ops.tasks.recognition.clips import Clip, load_clips, version_of

CLIPS_IN_ALL, LABELS = 200_000, 400
FILE = AnnotationFile(table="clips", format="kinetics_csv", path="clips.csv", labels="labels.txt")
DATASET = Dataset(
    name="large", title="Large", licence="none", root="{storage}/large", annotations=(FILE,)
)


def write(layout: Layout) -> None:
    """A clips table in no order, and the ledger; one clip in a hundred has no frames."""
    rng, key = np.random.default_rng(0), DATASET.frames.key()
    ids = [
        f"label_{index % LABELS:03d}/{rng.bytes(6).hex()}_{index:06d}"
        for index in range(CLIPS_IN_ALL)
    ]
    many, label = len(ids), np.arange(CLIPS_IN_ALL) % LABELS
    clips = {
        "clip_id": ids, "video_id": ids, "dataset": ["large"] * many, "target": ["label"] * many,
        "split": ["val" if index % 20 == 0 else "train" for index in range(many)],
        "label": [f"label {number:03d}" for number in label], "label_id": label,
        "start_s": pa.nulls(many, pa.float64()), "end_s": pa.nulls(many, pa.float64()),
        "source": [f"clips.csv:{index + 2}" for index in range(many)],
    }  # fmt: skip
    shuffled = pa.table(clips).take(rng.permutation(many))
    write_table(layout.annotation_table("large", "clips"), shuffled.cast(CLIPS))
    keys = [rng.bytes(8).hex() for _ in ids]
    filled: dict[str, Any] = {
        field.name: pa.array([""] * many) if field.type == pa.string() else np.ones(many)
        for field in MANIFEST
    }
    filled |= {
        "video_id": ids,
        "key": keys,
        "array_uri": [
            layout.frames("large", key, own, name) for own, name in zip(ids, keys, strict=True)
        ],
        "status": ["quarantined" if index % 100 == 0 else "ok" for index in range(many)],
    }
    write_table(
        layout.manifest("large", key, 0), pa.table(filled).sort_by("video_id").cast(MANIFEST)
    )


def as_rows(layout: Layout) -> list[Clip]:
    """The way of before: every row a dictionary, every clip an object."""
    rows = read_table(layout.annotation_table("large", "clips")).to_pylist()
    stored = {
        row["video_id"]: row
        for row in read_manifest(layout, DATASET).to_pylist()
        if row["status"] == "ok"
    }
    rows.sort(key=lambda row: (row["split"], row["clip_id"]))
    own = [name for name in Clip._fields if name not in ("array_uri", "num_frames", "key")]
    return [
        Clip(
            **{name: row[name] for name in own},
            **{name: stored[row["video_id"]][name] for name in ("array_uri", "num_frames", "key")},
        )
        for row in rows
        if row["video_id"] in stored
    ]


def version_of_rows(clips: list[Clip]) -> str:
    """The same hash, of a list of lists."""
    return content_hash([[c.split, c.clip_id, c.key, c.label, c.label_id, *c.place] for c in clips])


@pytest.mark.bench
def test_columns_beat_rows(tmp_path: Path) -> None:
    layout, times = Layout(str(tmp_path)), dict[str, list[float]]()

    def timed(name: str, work: Any) -> Any:
        start = time.perf_counter()
        result = work()
        times.setdefault(name, []).append(time.perf_counter() - start)
        return result

    write(layout)
    for _ in range(3):
        table = timed("columns", lambda: load_clips(layout, DATASET))
        rows = timed("rows", lambda: as_rows(layout))
        lists = list(table.clips.values())
        version = timed("version of columns", partial(version_of, lists))
        assert version == timed("version of rows", partial(version_of_rows, rows))
    best = {name: min(own) for name, own in times.items()}
    print(
        f"{CLIPS_IN_ALL} clips: "
        + json.dumps({name: round(seconds, 2) for name, seconds in best.items()})
    )
    assert [clip for clips in lists for clip in clips[:50]] == [
        *rows[:50],
        *[row for row in rows if row.split == "val"][:50],
    ]
    assert (
        best["columns"] * 3 < best["rows"] and best["version of columns"] < best["version of rows"]
    )
