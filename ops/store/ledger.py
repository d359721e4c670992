"""A ledger: a table by video_id that grows by small part files and is rewritten whole now and then.

Beside the base `<name>.parquet` lies a folder `<name>.parts/` with numbered part files. A part
holds rows that replace those of the same video_id, and tombstones. The base says up to which part
it has taken them in (`through`), and numbers are never used twice, so:

- a commit writes one new part, and its cost does not grow with the ledger;
- a compaction writes the base, then removes the parts it has taken in; cut short anywhere, the
  parts that are left over are ignored, because `through` is not below their number;
- a reader lists the parts, then reads the base, then the listed parts beyond `through`. A part that
  has vanished by then was taken into a newer base, and the reader starts again: it sees the ledger
  as it was after some commit, never a mix.

One process writes a ledger at a time: it holds `<name>.lease.json`, and a part is created only
where none of its number is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ops.files.storage import (
    StorageError,
    create_bytes,
    is_local,
    list_files,
    local_path,
    read_bytes,
    remove,
    write_bytes,
)
from ops.store.layout import ARRAY_NAME, UNSAFE_PARTS, array_below, arrays_of_ledger
from ops.store.lease import Lease, Lost
from ops.store.tables import from_rows, names_of, read_columns

ID, DROPPED = "video_id", "dropped"
THROUGH = b"kinograph.through"
MAX_PARTS = 64  # more of them, and a commit also compacts
READ_TRIES = 10  # a reader that starts again: a compaction would have to end in each of them
READERS = 8


class LedgerError(StorageError):
    """A ledger that cannot be read: a part is missing or a file is damaged. `kinograph store
    rebuild` makes it anew from the arrays.
    """


@dataclass(frozen=True)
class Version:
    """A state of the ledger: the base's `through`, and the number of the last part."""

    through: int
    last: int


def read_ledger(uri: str, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The ledger's rows, sorted by video_id; empty where there is none.

    Args:
        uri: of the ledger's base, a Parquet file.
        schema: of the whole ledger.
        columns: reads only these, which must have video_id; None is all.

    Raises:
        LedgerError: the ledger is damaged.
        StorageError: the store fails.
    """
    return _snapshot(uri, schema, columns)[0]


def read_ledgers(
    uris: Iterable[str], schema: pa.Schema, columns: Sequence[str] | None = None
) -> pa.Table:
    """Several ledgers one after another, read at the same time."""
    uris = list(uris)
    if len(uris) == 1:
        return read_ledger(uris[0], schema, columns)
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(lambda uri: read_ledger(uri, schema, columns), uris))
    return pa.concat_tables(tables) if tables else schema.empty_table()


def parts_uri(uri: str) -> str:
    """Folder of a ledger's part files."""
    return f"{uri.removesuffix('.parquet')}.parts"


def lease_uri(uri: str) -> str:
    """File by which one process keeps a ledger to itself."""
    return f"{uri.removesuffix('.parquet')}.lease.json"


class Ledger:
    """A ledger that is written: `put` and `drop` gather changes, `commit` makes them last.

    The first commit takes the lease; `close`, or the end of a `with` block, compacts and gives it
    back. Not for several threads.
    """

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        self.uri, self.schema = uri, schema
        self._changes: dict[str, Mapping[str, Any] | None] = {}  # None: dropped
        self._lease: Lease | None = None
        self._version = Version(0, 0)
        self._read: Version | None = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(StorageError):  # the error that is on its way says more
                self.abandon()

    @property
    def uncommitted(self) -> int:
        """Changes that are not committed yet."""
        return len(self._changes)

    def table(self) -> pa.Table:
        """Rows as they are in the store now, with the uncommitted changes laid over them."""
        return _overlay(read_ledger(self.uri, self.schema), [self._part()] if self._changes else [])

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows as they are in the store now; whether they still are when the ledger is opened for
        writing, `moved` says.
        """
        table, self._read = _snapshot(self.uri, self.schema, columns)
        return table

    @property
    def held(self) -> bool:
        """Whether it is open for writing."""
        return self._lease is not None

    @property
    def moved(self) -> bool:
        """Whether another process has changed the ledger between the last `read` and `open`."""
        return self._lease is not None and self._read != self._version

    def open(self) -> None:
        """Takes the lease, so that nobody else changes the ledger until `close`. Raises lease.Busy,
        StorageError.
        """
        if self._lease is None:
            self.take_lease()
            try:
                self._version = _snapshot(self.uri, self.schema, [ID])[1]
            except BaseException:
                self.abandon()
                raise

    def take_lease(self) -> None:
        """Keeps others from writing, without a look at the ledger, which may be damaged. Raises
        lease.Busy, StorageError.
        """
        self._lease = self._lease or Lease(lease_uri(self.uri)).take()

    def check(self) -> None:
        """Asks the store whether the ledger is still this process's; before anything that no commit
        guards. Raises lease.Lost, StorageError.
        """
        if self._lease is not None:
            self._lease.check(now=True)

    def replace(self, table: pa.Table) -> None:
        """Puts another table in the place of the whole ledger, whatever was there. Raises
        lease.Busy, lease.Lost, StorageError.
        """
        self.take_lease()
        assert self._lease is not None
        self._lease.check(now=True)
        last = max(_numbers(self.uri), default=0)
        with suppress(LedgerError):
            last = max(last, _base(self.uri, self.schema, [ID])[1])
        self._write_base(table.sort_by(ID), last)

    def put(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Sets whole rows, replacing those of the same video_id. Raises KeyError for fields that
        are not the schema's.
        """
        names = set(self.schema.names)
        for row in rows:
            if set(row) != names:
                raise KeyError(f"row fields differ from the schema: {sorted(set(row) ^ names)}")
            self._changes[row[ID]] = row

    def drop(self, video_ids: Iterable[str]) -> None:
        """Forgets videos; unknown ones are fine."""
        self._changes.update(dict.fromkeys(video_ids))

    def commit(self) -> None:
        """Makes the changes last, all of them or none. Raises lease.Busy, lease.Lost, StorageError;
        the changes are kept then.
        """
        if not self._changes:
            return
        self.open()
        assert self._lease is not None
        self._lease.check()
        number = self._version.last + 1
        try:
            create_bytes(f"{parts_uri(self.uri)}/{number:08d}.parquet", _encoded(self._part()))
        except FileExistsError as error:
            raise Lost(self.uri, f"another process has committed part {number}") from error
        self._version = Version(self._version.through, number)
        self._changes.clear()
        if number - self._version.through >= MAX_PARTS:
            self.compact()

    def compact(self) -> None:
        """Rewrites the base whole and removes the parts, those too that a compaction which was cut
        short had taken in. Does nothing where there is none.
        """
        self.open()
        assert self._lease is not None
        table, version = _snapshot(self.uri, self.schema)
        if version.last > version.through:
            self._lease.check(now=True)
            self._write_base(table, version.last)
        elif _numbers(self.uri):
            self._lease.check(now=True)
            remove(parts_uri(self.uri))

    def _write_base(self, table: pa.Table, through: int) -> None:
        metadata = {THROUGH: str(through).encode()}
        write_bytes(self.uri, _encoded(table.cast(self.schema).replace_schema_metadata(metadata)))
        remove(parts_uri(self.uri))
        self._version = Version(through, through)

    def close(self) -> None:
        """Commits what is left, compacts, and gives the lease back. A ledger that nothing was
        written to is left alone.
        """
        self.commit()
        if self._lease is not None:
            if self._version.last > self._version.through:
                self.compact()
            self._lease.release()
            self._lease = None

    def abandon(self) -> None:
        """Gives the lease back without another word: uncommitted changes are forgotten."""
        self._changes.clear()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def forget(self) -> None:
        """As `abandon`, without a word to the store, which may be away."""
        self._changes.clear()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.forget()

    def _part(self) -> pa.Table:
        blank = dict.fromkeys(self.schema.names)
        kept = [(key, row) for key, row in self._changes.items() if row is not None]
        gone = [{**blank, ID: key} for key, row in self._changes.items() if row is None]
        table = from_rows([*(row for _, row in kept), *gone], self.schema)
        return table.append_column(
            DROPPED, pa.array([False] * len(kept) + [True] * len(gone), pa.bool_())
        )


def _snapshot(
    uri: str, schema: pa.Schema, columns: Sequence[str] | None = None
) -> tuple[pa.Table, Version]:
    wait = 0.01
    for _ in range(READ_TRIES):
        listed = _numbers(uri)
        base, through = _base(uri, schema, columns)
        newer = [number for number in listed if number > through]
        if newer == list(range(through + 1, through + 1 + len(newer))):
            try:
                parts = [_read_part(uri, number, schema, columns) for number in newer]
            except FileNotFoundError:  # taken into a newer base meanwhile
                continue
            return _placed(uri, _overlay(base, parts)), Version(through, max([through, *newer]))
        time.sleep(wait)  # a listing that went on while files came and went
        wait = min(0.05, 2 * wait)
    missing = next(
        (number for number in range(through + 1, max(newer, default=0)) if number not in newer),
        through + 1,
    )
    raise LedgerError(
        uri, f"its part {missing} is missing; make it anew with 'kinograph store rebuild'"
    )


def _placed(uri: str, table: pa.Table) -> pa.Table:
    """The table with the places of its arrays as they are computed. Raises LedgerError for a row
    that names anything else.

    Whoever can write to the store can write a row: no path of it is believed, since what a row
    names is read, and removed one day.
    """
    arrays = arrays_of_ledger(uri)
    if arrays is None or "array_uri" not in table.column_names or not len(table):
        return table
    ids, uris = (table[name].combine_chunks() for name in (ID, "array_uri"))
    names = pc.replace_substring_regex(uris, "(?s)^.*/", "")
    as_computed = pc.equal(pc.binary_join_element_wise(f"{arrays}/", ids, "/", names, ""), uris)
    safe = pc.and_not(
        pc.match_substring_regex(names, ARRAY_NAME), pc.match_substring_regex(ids, UNSAFE_PARTS)
    )
    odd = pc.invert(pc.or_(pc.equal(uris, ""), pc.and_(as_computed, safe)))
    places = uris.to_pylist() if pc.any(odd).as_py() else None
    if places is None:
        return table
    for row in np.flatnonzero(odd.to_numpy(zero_copy_only=False)):
        place = array_below(arrays, places[row], ids[row].as_py())
        if place is None:
            found = (
                f"its row of video {ids[row].as_py()!r} names {places[row]!r}, which is no array of"
                f" that video below {arrays}"
            )
            raise LedgerError(
                uri,
                f"damaged: {found}; nothing was touched. Make it anew with 'kinograph store"
                " rebuild'",
            )
        places[row] = place
    return table.set_column(
        table.schema.get_field_index("array_uri"), "array_uri", pa.array(places, pa.string())
    )


def _numbers(uri: str) -> list[int]:
    folder = parts_uri(uri)
    if is_local(folder):  # names alone: a part may go while it is looked at
        try:
            names = os.listdir(local_path(folder))
        except FileNotFoundError:
            return []
    else:
        names = [info.path_below for info in list_files(folder)]
    return sorted(int(stem) for name in names if (stem := name.removesuffix(".parquet")).isdigit())


def _base(uri: str, schema: pa.Schema, columns: Sequence[str] | None) -> tuple[pa.Table, int]:
    try:
        data = read_bytes(uri)
    except FileNotFoundError:
        return _empty(schema, columns), 0
    table = _decoded(uri, data, schema, columns)
    through = int((table.schema.metadata or {}).get(THROUGH, b"0"))
    table = table.replace_schema_metadata(None)
    ids = table[ID]
    return table if _ascending(ids) else table.sort_by(ID), through


def _ascending(ids: pa.ChunkedArray) -> bool:
    return len(ids) < 2 or bool(pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py())


def _read_part(uri: str, number: int, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    part = f"{parts_uri(uri)}/{number:08d}.parquet"
    chosen = None if columns is None else [*columns, DROPPED]
    return _decoded(part, read_bytes(part), schema.append(pa.field(DROPPED, pa.bool_())), chosen)


def _empty(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    table = schema.empty_table()
    return table if columns is None else table.select(list(columns))


def _decoded(uri: str, data: bytes, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if list(names_of(file)) != schema.names:
            found = f"columns {file.schema_arrow.names} where {schema.names} are expected"
            raise LedgerError(
                uri,
                f"{found}; it was written by another version: make it anew with 'kinograph store"
                " rebuild'",
            )
        table = read_columns(file, columns)
    except pa.ArrowInvalid as error:
        raise LedgerError(
            uri,
            f"not a readable Parquet file ({error}); make it anew with 'kinograph store rebuild'",
        ) from error
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    return table.cast(wanted.with_metadata(table.schema.metadata))


def _encoded(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _overlay(base: pa.Table, parts: list[pa.Table]) -> pa.Table:
    """The last row of every video_id over base and parts in order, without tombstones, sorted by
    video_id.
    """
    if not parts:
        return base
    kept = pa.repeat(pa.scalar(False), len(base))
    table = pa.concat_tables([base.append_column(DROPPED, kept), *parts])
    places = pa.array(np.arange(len(table), dtype=np.int64))
    last = pa.table({ID: table[ID], "place": places}).group_by(ID).aggregate([("place", "max")])
    table = table.take(last.sort_by(ID)["place_max"])
    return table.filter(pc.invert(table[DROPPED])).drop_columns([DROPPED])
