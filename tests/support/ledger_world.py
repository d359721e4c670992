"""A dataset of many videos that exists on paper alone: its video tables and manifests. As a script
it says what deciding costs.

python ledger_world.py decide ROOT      the whole `materialize` where nothing is to do; prints
seconds, peak MB and the report as JSON
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pyarrow as pa

from configs.schema import BUCKETS, Dataset
from configs.versions import INGEST
from ops.store.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.manifest import frames_keys
from ops.store.tables import MANIFEST, VIDEOS, write_table

MODIFIED_NS = 1_700_000_000_000_000_000


def dataset_at(root: str) -> Dataset:
    return Dataset(name="large", title="t", licence="none", root=f"{root}/large")


def table_of(schema: pa.Schema, num_rows: int, **columns: list) -> pa.Table:
    """A table whose other columns are 0 or empty."""
    blank = {
        name: (
            ([0] if pa.types.is_integer(kind) else [0.0] if pa.types.is_floating(kind) else [""])
            * num_rows
        )
        for name, kind in zip(schema.names, schema.types, strict=True)
    }
    return pa.table({**blank, **columns}, schema=schema)


def build(root: str, num_videos: int, missing: int = 0) -> None:
    """Writes the tables of videos `class_000/video_0000000`, ...; the last `missing` of them are
    not in the ledgers.
    """
    dataset, layout, rng = dataset_at(root), Layout(root), np.random.default_rng(0)
    ids = [
        f"class_{number % 400:03d}/video_{number:07d}_long_enough_a_name"
        for number in range(num_videos)
    ]
    by_bucket: dict[int, list[int]] = {bucket: [] for bucket in range(BUCKETS)}
    for number, video_id in enumerate(ids):
        by_bucket[bucket_of(video_id)].append(number)
    for bucket, numbers in by_bucket.items():
        digests = [rng.bytes(32).hex() for _ in numbers]
        names = [ids[number] for number in numbers]
        write_table(layout.video_table("large", bucket), _videos(dataset, layout, names, digests))
        write_table(
            layout.manifest("large", dataset.frames.key(), bucket),
            _ledger(dataset, layout, names, digests, num_videos - missing),
        )


def _videos(dataset: Dataset, layout: Layout, names: list[str], digests: list[str]) -> pa.Table:
    count = len(names)
    return table_of(
        VIDEOS,
        count,
        video_id=names,
        dataset=["large"] * count,
        source_uri=[f"{layout.videos_folder(dataset)}/{name}.mp4" for name in names],
        bytes=[0] * count,
        modified=[str(MODIFIED_NS)] * count,
        sha256=digests,
        width=[340] * count,
        height=[256] * count,
        num_frames_packets=[300] * count,
        duration_s=[10.0] * count,
        status=["ok"] * count,
        code_version=[INGEST] * count,
    )


def _ledger(
    dataset: Dataset, layout: Layout, names: list[str], digests: list[str], known: int
) -> pa.Table:
    keys = frames_keys(digests, dataset)
    uris = [
        layout.frames("large", dataset.frames.key(), name, key)
        for name, key in zip(names, keys, strict=True)
    ]
    table = table_of(
        MANIFEST,
        len(names),
        video_id=names,
        dataset=["large"] * len(names),
        sha256=digests,
        key=keys,
        array_uri=uris,
        status=["ok"] * len(names),
    )
    return table.filter(pa.array([int(name.split("_")[2]) < known for name in names])).sort_by(
        "video_id"
    )


def decide(root: str) -> dict[str, float]:
    from ops.media.materialize import materialize

    start, used = time.perf_counter(), time.process_time()
    report = materialize(dataset_at(root), Layout(root))
    seconds = time.perf_counter() - start
    # of this program alone: getrusage counts what its parent had when it was forked
    with open("/proc/self/status") as status:
        peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {
        "seconds": seconds,
        "cpu_s": time.process_time() - used,
        "peak_mb": peak_kb / 1024,
        "planned": report.planned,
        "reused": report.reused,
    }


if __name__ == "__main__":
    print(json.dumps(decide(sys.argv[2])))
