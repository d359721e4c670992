"""What differs between a dataset's folder and its tables, from listings alone: no file is
opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import BUCKETS, Dataset, content_hash
from ops.media.ingest import DatasetError
from ops.media.listing import list_videos
from ops.media.plan import plan_bucket
from ops.store.buckets import bucket_of_file
from ops.store.layout import Layout
from ops.store.tables import read_table

COLUMNS = ["source_uri", "bytes", "modified"]
LISTED = pa.schema([("source_uri", pa.string()), ("bytes", pa.int64()), ("modified", pa.string())])


@dataclass(frozen=True)
class Change:
    """Files of one bucket that are new, changed or gone. `key` names this very difference, so that
    it is acted on once.
    """

    num_files: int
    key: str


def changed_buckets(dataset: Dataset, layout: Layout) -> dict[int, Change]:
    """Buckets whose files are not those of the video table. A folder that is missing or empty
    changes nothing.
    """
    files = list_videos(layout.videos_folder(dataset)).files
    if not files:
        return {}
    now = pa.table(
        {name: [getattr(info, name.removeprefix("source_")) for info in files] for name in COLUMNS},
        schema=LISTED,
    )
    buckets = pa.array([bucket_of_file(info.path_below) for info in files], pa.int32())
    changes: dict[int, Change] = {}
    for bucket in range(BUCKETS):
        here = now.filter(pc.equal(buckets, bucket))
        before = _ingested(layout.video_table(dataset.name, bucket))
        different = sorted(
            {
                tuple(row.values())
                for table, other in ((here, before), (before, here))
                for row in _without(table, other)
            }
        )
        if different:
            changes[bucket] = Change(len({uri for uri, *_ in different}), content_hash(different))
    return changes


def _without(table: pa.Table, other: pa.Table) -> list[dict]:
    """Rows of one table that the other does not have."""
    place = pc.index_in(
        table["source_uri"].combine_chunks(), value_set=other["source_uri"].combine_chunks()
    )
    match = other.take(place)
    same = [
        pc.equal(table[name].combine_chunks(), match[name].combine_chunks())
        for name in ("bytes", "modified")
    ]
    return table.filter(pc.invert(pc.fill_null(pc.and_(*same), False))).to_pylist()


def _ingested(uri: str) -> pa.Table:
    try:
        return read_table(uri).select(COLUMNS)
    except FileNotFoundError:
        return LISTED.empty_table()


def unstored_videos(dataset: Dataset, layout: Layout, buckets: Iterable[int]) -> int:
    """Usable videos of the video tables that the manifest lacks, or holds for another content,
    configuration or code.
    """
    lacking = 0
    for bucket in buckets:
        try:
            lacking += len(plan_bucket(dataset, layout, bucket).wanted)
        except DatasetError:  # not ingested
            continue
    return lacking
