"""The frames ledger: what is stored, and what was refused and why. Readers trust it alone."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pyarrow as pa

from configs.schema import BUCKETS, Dataset, content_hash
from configs.versions import FRAMES
from ops.store.files import read_bytes, remove, write_bytes
from ops.store.layout import Layout
from ops.store.tables import MANIFEST, read_tables


def frames_key(sha256: str, dataset: Dataset) -> str:
    """Ledger key of one video's frames: its content, how it is decoded and stored, and the code that does it."""
    return content_hash([sha256, dataset.frames.key(), FRAMES])


def read_manifest(layout: Layout, dataset: Dataset, buckets: Iterable[int] | None = None) -> pa.Table:
    """Ledger rows of `buckets` (None: all; schema `ops.store.tables.MANIFEST`), stored and quarantined ones."""
    key = dataset.frames.key()
    return read_tables(
        (layout.manifest(dataset.name, key, bucket) for bucket in (range(BUCKETS) if buckets is None else buckets)), MANIFEST
    )


def journal_uri(layout: Layout, dataset: Dataset, bucket: int) -> str:
    """Where a bucket keeps the names of arrays that may lie there without a ledger row."""
    return layout.manifest(dataset.name, dataset.frames.key(), bucket).removesuffix(".parquet") + ".pending.json"


def open_journal(uri: str, arrays: list[str]) -> None:
    """Writes down which arrays the coming work may create or delete, before it does so."""
    write_bytes(uri, json.dumps(sorted(arrays)).encode())


def clear_journal(uri: str, committed: set[str]) -> list[str]:
    """Removes what a run that was cut short has left: every array of the journal without a ledger row. Returns their URIs."""
    try:
        arrays = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return []
    left = [array for array in arrays if array not in committed]
    for array in left:
        remove(array)
    remove(uri)
    return left
