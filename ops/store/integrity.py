"""Reading a store back whole: every checksum, every index and every shape against the ledger, and,
if asked, every picture.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from ops.files.storage import FileInfo, StorageError, list_files, read_bytes
from ops.store.ledger import Ledger, read_ledger
from ops.store.reader import FrameReader, FrameReadError
from ops.store.shards import index_bytes, parse_index, without_checksum
from ops.store.stores import Store

READERS = 8
DECODE_FRAMES = 32  # at a time
Progress = Callable[[int, int], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Damage:
    """An array that is not what its ledger row says; `bucket` is the row's."""

    video_id: str
    uri: str
    reason: str
    bucket: int


@dataclass
class Verification:
    """What was read back of one store: arrays and bytes, what is `damaged`, and whether those were
    given up for another decode.
    """

    store: Store
    arrays: int = 0
    bytes: int = 0
    damaged: list[Damage] = field(default_factory=list)
    repaired: bool = False


class Damaged(ValueError):
    """What is wrong with an array."""


def verify(
    store: Store, decode: bool = False, repair: bool = False, progress: Progress | None = None
) -> Verification:
    """Reads every array of a store that its ledgers name.

    Checks the CRC32C of each chunk and shard index, the number and size of shards, the shape and
    the bytes against the ledger.

    Args:
        store: of frames or features.
        decode: decodes every frame as well.
        repair: drops the ledger rows of damaged arrays, so that the next run makes them anew.
        progress: is told (done, all) arrays.

    Raises:
        LedgerError: a ledger is damaged.
        lease.Busy: with `repair`, where a run works on the store.
        StorageError: the store fails.
    """
    verification = Verification(store)
    rows = list(_rows(store))
    with ThreadPoolExecutor(READERS) as pool:
        results = pool.map(lambda job: _check(store, job[1], decode), rows)
        for done, ((bucket, row), (size, reason)) in enumerate(zip(rows, results, strict=True), 1):
            verification.arrays += 1
            verification.bytes += size
            if reason:
                verification.damaged.append(
                    Damage(row["video_id"], row["array_uri"], reason, bucket)
                )
            if progress is not None:
                progress(done, len(rows))
    if repair and verification.damaged:
        _drop_rows(store, verification.damaged)
        verification.repaired = True
    return verification


def _rows(store: Store) -> Iterator[tuple[int, Row]]:
    shape = (
        ["num_frames", "height", "width"] if store.kind == "frames" else ["num_steps", "channels"]
    )
    for bucket, uri in enumerate(store.ledgers):
        table = read_ledger(uri, store.schema, ["video_id", "array_uri", "status", "bytes", *shape])
        for row in table.filter(pc.equal(table["status"], "ok")).to_pylist():
            yield bucket, row


def _drop_rows(store: Store, damaged: list[Damage]) -> None:
    by_bucket: dict[int, list[Damage]] = defaultdict(list)
    for damage in damaged:
        by_bucket[damage.bucket].append(damage)
    for bucket, found in by_bucket.items():
        with Ledger(store.ledgers[bucket], store.schema) as ledger:
            ledger.open()
            now = ledger.read(["video_id", "array_uri"])
            named = dict(
                zip(now["video_id"].to_pylist(), now["array_uri"].to_pylist(), strict=True)
            )
            # not what was made anew since
            ledger.drop(
                damage.video_id for damage in found if named.get(damage.video_id) == damage.uri
            )


def _check(store: Store, row: Row, decode: bool) -> tuple[int, str]:
    """(bytes read, what is wrong or "") of one array."""
    files = {info.path_below: info for info in list_files(row["array_uri"])}
    size = sum(info.bytes for info in files.values())
    try:
        if "zarr.json" not in files:
            raise Damaged("it has no zarr.json" if files else "it is missing")
        try:
            metadata = json.loads(read_bytes(files["zarr.json"].uri))
            (_check_frames if store.kind == "frames" else _check_features)(metadata, files, row)
        except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
            raise Damaged(f"its zarr.json is damaged ({error!r})") from error
        if size != row["bytes"]:
            raise Damaged(f"{size} bytes where the ledger has {row['bytes']}")
        if decode and store.kind == "frames":
            _decode(row)
    except (Damaged, FileNotFoundError) as error:
        return size, str(error)
    return size, ""


def _check_frames(metadata: Row, files: dict[str, FileInfo], row: Row) -> None:
    shape = [row["num_frames"], row["height"], row["width"], 3]
    if metadata["shape"] != shape:
        raise Damaged(f"shape {metadata['shape']} where the ledger has {shape}")
    per_shard = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    checked = metadata["codecs"][0]["configuration"]["codecs"][-1]["name"] == "crc32c"
    sizes = metadata.get("attributes", {}).get("frame_bytes")
    if sizes is not None and len(sizes) != shape[0]:
        raise Damaged(f"sizes of {len(sizes)} frames where there are {shape[0]}")
    for first in range(0, shape[0], per_shard):
        here = min(per_shard, shape[0] - first)
        _check_shard(
            files,
            f"c/{first // per_shard}/0/0/0",
            per_shard,
            here,
            sizes[first : first + here] if sizes else None,
            checked,
        )


def _check_shard(
    files: dict[str, FileInfo],
    name: str,
    per_shard: int,
    here: int,
    sizes: list[int] | None,
    checked: bool,
) -> None:
    if name not in files:
        raise Damaged(f"its shard {name} is missing")
    data = memoryview(read_bytes(files[name].uri))
    try:
        index = parse_index(bytes(data[-index_bytes(per_shard) :]), per_shard)
        if (index[:here, 1] < 0).any() or (index[here:, 1] >= 0).any():
            raise ValueError("its index does not name the frames that it should hold")
        if sizes is not None and index[:here, 1].tolist() != sizes:
            raise ValueError("its index is not that of the array's metadata")
        if int(index[:here, 1].sum()) + index_bytes(per_shard) != len(data):
            raise ValueError("its length is not that of its chunks")
        for place, (offset, length) in enumerate(index[:here].tolist() if checked else []):
            try:
                without_checksum(data[offset : offset + length])
            except ValueError as error:
                raise ValueError(f"chunk {place}: {error}") from error
    except ValueError as error:
        raise Damaged(f"shard {name}: {error}") from error


def _check_features(metadata: Row, files: dict[str, FileInfo], row: Row) -> None:
    shape = [row["num_steps"], row["channels"]]
    if metadata["shape"] != shape:
        raise Damaged(f"shape {metadata['shape']} where the ledger has {shape}")
    per_chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    checked = metadata["codecs"][-1]["name"] == "crc32c"
    for number in range(-(-shape[0] // per_chunk)):
        name = f"c/{number}/0"
        if name not in files:
            raise Damaged(f"its chunk {name} is missing")
        data = memoryview(read_bytes(files[name].uri))
        if checked:
            try:
                without_checksum(data)
            except ValueError as error:
                raise Damaged(f"chunk {name}: {error}") from error


def _decode(row: Row) -> None:
    reader = FrameReader(row["array_uri"])
    try:
        for first in range(0, row["num_frames"], DECODE_FRAMES):
            reader.read(range(first, min(first + DECODE_FRAMES, row["num_frames"])))
    except FrameReadError as error:
        raise Damaged(str(error.cause)) from error
    except (StorageError, IndexError) as error:
        if isinstance(error, StorageError) and error.transient:
            raise
        raise Damaged(str(error)) from error
