"""What a bucket's frames lack: the video table against the ledger, in columns. A hundred thousand
videos are decided in a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import Dataset
from ops.media.ingest import DatasetError
from ops.store.layout import Layout
from ops.store.ledger import Ledger
from ops.store.manifest import frames_key, frames_keys
from ops.store.tables import MANIFEST, read_table

READ = [
    "video_id",
    "source_uri",
    "sha256",
    "width",
    "height",
    "num_frames_packets",
    "duration_s",
    "status",
    "reason",
]
LEDGER = ["video_id", "key", "array_uri", "status", "reason"]
PLANNERS = 2


@dataclass
class Plan:
    """What is to be done in one bucket.

    `wanted` and `refused` have the columns READ with `key` (the ledger key) and `old` (URI of the
    array to replace, null for none): videos to decode, and videos that ingest refused and whose row
    is new. `gone` has (video_id, uri) of ledger rows without a video.
    """

    number: int
    ledger: Ledger
    wanted: pa.Table
    refused: pa.Table
    gone: pa.Table
    reused: int
    reasons: Counter[str]  # of the ledger as it is

    @property
    def empty(self) -> bool:
        """Whether the ledger says what it should."""
        return not (len(self.wanted) or len(self.refused) or len(self.gone))


def plan_buckets(
    dataset: Dataset, layout: Layout, buckets: Iterable[int], retry_quarantined: bool = False
) -> list[Plan]:
    """The plans of several buckets, in their order. Raises DatasetError for a bucket that was never
    ingested, StorageError.
    """
    with ThreadPoolExecutor(PLANNERS) as pool:
        return list(
            pool.map(
                lambda number: plan_bucket(dataset, layout, number, retry_quarantined), buckets
            )
        )


def plan_bucket(
    dataset: Dataset,
    layout: Layout,
    number: int,
    retry_quarantined: bool = False,
    ledger: Ledger | None = None,
) -> Plan:
    """Compares one bucket's video table with its ledger.

    Args:
        dataset: whose bucket it is.
        layout: where the storage lies.
        number: of the bucket.
        retry_quarantined: wants quarantined videos too.
        ledger: one that is open already; None is a new object.

    Raises:
        DatasetError: there is no video table.
        StorageError: the store fails.
    """
    table = layout.video_table(dataset.name, number)
    try:
        videos = read_table(table, READ)
    except FileNotFoundError as error:
        raise DatasetError(
            f"dataset '{dataset.name}': no video table at {table}; ingest the dataset first"
        ) from error
    ledger = ledger or Ledger(layout.manifest(dataset.name, dataset.frames.key(), number), MANIFEST)
    stored = ledger.read(LEDGER)
    usable = pc.equal(videos["status"], "ok").combine_chunks()
    keys = _keys(dataset, videos, usable)
    place = pc.index_in(
        videos["video_id"].combine_chunks(), value_set=stored["video_id"].combine_chunks()
    )
    same = pc.fill_null(pc.equal(stored["key"].combine_chunks().take(place), keys), False)
    if retry_quarantined:
        failed = pc.fill_null(
            pc.not_equal(stored["status"].combine_chunks().take(place), "ok"), False
        )
        same = pc.and_not(same, pc.and_(failed, usable))
    full = videos.append_column("key", keys).append_column(
        "old", _or_null(stored["array_uri"].combine_chunks().take(place))
    )
    lost = pc.invert(pc.is_in(stored["video_id"], value_set=videos["video_id"].combine_chunks()))
    bad = stored.filter(pc.not_equal(stored["status"], "ok"))["reason"].value_counts().to_pylist()
    return Plan(
        number=number,
        ledger=ledger,
        wanted=full.filter(pc.and_not(usable, same)).sort_by("video_id"),
        refused=full.filter(pc.invert(pc.or_(usable, same))),
        gone=stored.filter(lost).select(["video_id", "array_uri"]),
        reused=int(pc.sum(same).as_py() or 0),
        reasons=Counter({entry["values"]: entry["counts"] for entry in bad}),
    )


def _keys(dataset: Dataset, videos: pa.Table, usable: pa.Array) -> pa.Array:
    """Ledger keys; that of a file that ingest refused has the reason in it, so that a new verdict
    is a new row.
    """
    keys = np.array(frames_keys(videos["sha256"].to_pylist(), dataset), object)
    bad = np.flatnonzero(~usable.to_numpy(zero_copy_only=False))
    rows = videos.select(["sha256", "reason"]).take(pa.array(bad)).to_pylist()
    keys[bad] = [frames_key(f"{row['sha256']}: {row['reason']}", dataset) for row in rows]
    return pa.array(keys, pa.string())


def _or_null(uris: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(uris, ""), pa.scalar(None, pa.string()), uris)
