"""How much disk the stores of a dataset take, against the files they were made from."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import BUCKETS
from ops.store.layout import Layout
from ops.store.ledger import read_ledgers
from ops.store.stores import Store
from ops.store.tables import VIDEOS, read_tables


@dataclass(frozen=True)
class Size:
    """One store, from its ledgers: stored videos and bytes, and hours and bytes of those videos'
    own files.
    """

    store: Store
    videos: int
    bytes: int
    hours: float
    source_bytes: int

    @property
    def bytes_per_hour(self) -> float:
        """Stored bytes of an hour of video; 0 where the hours are not known."""
        return self.bytes / self.hours if self.hours else 0.0

    @property
    def ratio(self) -> float:
        """Stored bytes per byte of the source; 0 where that is not known."""
        return self.bytes / self.source_bytes if self.source_bytes else 0.0


def sizes(layout: Layout, found: list[Store]) -> list[Size]:
    """Sizes of stores of one dataset. Raises StorageError."""
    if not found:
        return []
    tables = (layout.video_table(found[0].dataset, bucket) for bucket in range(BUCKETS))
    videos = read_tables(tables, VIDEOS).select(["video_id", "bytes", "duration_s"])
    return [_size(store, videos) for store in found]


def _size(store: Store, videos: pa.Table) -> Size:
    table = read_ledgers(store.ledgers, store.schema, ["video_id", "status", "bytes"])
    stored = table.filter(pc.equal(table["status"], "ok"))
    of = videos.filter(pc.is_in(videos["video_id"], value_set=stored["video_id"].combine_chunks()))
    seconds, source = pc.sum(of["duration_s"]).as_py() or 0.0, pc.sum(of["bytes"]).as_py() or 0
    return Size(store, len(stored), pc.sum(stored["bytes"]).as_py() or 0, seconds / 3600, source)
