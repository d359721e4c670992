"""A ledger made anew from the arrays that lie in the store: each says in its attributes what it is
and what it was made from.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from configs.schema import BUCKETS, Dataset
from ops.files.storage import FileInfo, list_files, read_bytes
from ops.store.buckets import bucket_of, bucket_of_file
from ops.store.layout import Layout
from ops.store.ledger import Ledger, LedgerError
from ops.store.manifest import frames_key
from ops.store.stores import Store, arrays_of, video_of
from ops.store.tables import from_rows

READERS = 16
Progress = Callable[[int, int], None]
Row = dict[str, Any]


@dataclass
class Rebuilt:
    """What became of one store's ledgers.

    `kept` rows stayed as they were, `made` were read from arrays, `dropped` named arrays that are
    gone. `incomplete` arrays lack shards or metadata, `foreign` ones are of another code version or
    configuration: both stay unnamed, garbage. `damaged` ledgers could not be read.
    """

    store: Store
    arrays: int = 0
    kept: int = 0
    made: int = 0
    dropped: int = 0
    incomplete: int = 0
    foreign: int = 0
    damaged: int = 0


def rebuild(
    dataset: Dataset, layout: Layout, store: Store, progress: Progress | None = None
) -> Rebuilt:
    """Writes the ledgers of a store from its arrays. Rows that still hold stay, also those of
    refused videos.

    What cannot be known from the array (the seconds that its making took) is 0. Videos whose
    refusal is lost are tried again by the next run.

    Args:
        dataset: whose store it is.
        layout: where the storage lies.
        store: of frames or features.
        progress: is told (done, all) arrays.

    Raises:
        lease.Busy: a run works on the store.
        StorageError: the store fails.
    """
    report = Rebuilt(store)
    ledgers = [Ledger(uri, store.schema) for uri in store.ledgers]
    try:
        for ledger in ledgers:
            ledger.take_lease()
        before = [_readable(ledger, report) for ledger in ledgers]
        arrays = arrays_of(store, list_files(store.folder))
        report.arrays = len(arrays)
        found: dict[int, dict[str, Row]] = defaultdict(dict)
        with ThreadPoolExecutor(READERS) as pool:
            results = pool.map(
                lambda item: _row(dataset, layout, store, *item), sorted(arrays.items())
            )
            for done, result in enumerate(results, 1):
                if isinstance(result, str):
                    setattr(report, result, getattr(report, result) + 1)
                else:
                    bucket, row = result
                    found[bucket][row["video_id"]] = row
                if progress is not None:
                    progress(done, len(arrays))
        for bucket in range(BUCKETS):
            table = _merged(before[bucket], found[bucket], store, report)
            if before[bucket] is None or not table.equals(before[bucket]):
                ledgers[bucket].replace(table)
    finally:
        for ledger in ledgers:
            ledger.abandon()
    return report


def _readable(ledger: Ledger, report: Rebuilt) -> pa.Table | None:
    try:
        return ledger.read()
    except LedgerError:
        report.damaged += 1
        return None


def _merged(
    before: pa.Table | None, found: dict[str, Row], store: Store, report: Rebuilt
) -> pa.Table:
    rows, kept = dict(found), 0
    for row in [] if before is None else before.to_pylist():
        made = found.get(row["video_id"])
        if (made is None and row["status"] != "ok") or (
            made is not None and made["array_uri"] == row["array_uri"]
        ):
            rows[row["video_id"]] = row
            kept += 1
        elif made is None:
            report.dropped += 1
    report.kept += kept
    report.made += len(rows) - kept
    return from_rows((rows[key] for key in sorted(rows)), store.schema)


def _row(
    dataset: Dataset, layout: Layout, store: Store, uri: str, files: list[FileInfo]
) -> tuple[int, Row] | str:
    """(bucket, ledger row) of an array, or which count of the report it falls into."""
    try:
        metadata = json.loads(read_bytes(f"{uri}/zarr.json"))
        shape, per_piece = (
            metadata["shape"],
            metadata["chunk_grid"]["configuration"]["chunk_shape"][0],
        )
        attributes = metadata["attributes"]
        names = {info.uri.removeprefix(f"{uri}/") for info in files}
        suffix = "0/0/0" if store.kind == "frames" else "0"
        if not all(f"c/{piece}/{suffix}" in names for piece in range(-(-shape[0] // per_piece))):
            return "incomplete"
        size = sum(info.bytes for info in files)
        if store.kind == "frames":
            return _frames_row(dataset, layout, store, uri, attributes, shape, size)
        return _features_row(store, uri, attributes, shape, size)
    except (FileNotFoundError, KeyError, IndexError, TypeError, ValueError):
        return "incomplete"


def _frames_row(
    dataset: Dataset,
    layout: Layout,
    store: Store,
    uri: str,
    attributes: Row,
    shape: list[int],
    size: int,
) -> tuple[int, Row] | str:
    video_id, key = video_of(store, uri)
    sha256 = attributes["source_sha256"]
    if frames_key(sha256, dataset) != key:
        return "foreign"
    folder = f"{layout.videos_folder(dataset)}/"
    source = attributes["source_uri"]
    bucket = (
        bucket_of_file(source.removeprefix(folder))
        if source.startswith(folder)
        else bucket_of(video_id)
    )
    audit = attributes.get("audit") or {}
    row = {
        "video_id": video_id,
        "dataset": store.dataset,
        "sha256": sha256,
        "key": key,
        "array_uri": uri,
        "num_frames": shape[0],
        "height": shape[1],
        "width": shape[2],
        "fps": float(attributes["fps"]),
        "status": "ok",
        "reason": "",
        "decoder": attributes["decoder"],
        "decoder_version": attributes["decoder_version"],
        "audit": audit.get("verdict", ""),
        "bytes": size,
        "seconds": 0.0,
    }
    return bucket, row


def _features_row(
    store: Store, uri: str, attributes: Row, shape: list[int], size: int
) -> tuple[int, Row] | str:
    if attributes["features_key"] != store.key:
        return "foreign"
    names = {
        "video_id": attributes["video_id"],
        "dataset": store.dataset,
        "sha256": attributes["source_key"],
        "key": attributes["key"],
    }
    numbers = {"num_steps": shape[0], "channels": shape[1], "bytes": size, "seconds": 0.0}
    return bucket_of(attributes["video_id"]), {
        **names,
        "array_uri": uri,
        "status": "ok",
        "reason": "",
        **numbers,
    }
