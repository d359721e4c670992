"""Annotation tables and the stored videos that they name, as columns: what grows with a dataset is
never a Python object per row.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import Dataset, TableName
from ops.data.errors import DataError
from ops.store.layout import Layout
from ops.store.tables import BOXES, CLIPS, ENTRIES, PARTS, SEGMENTS, read_table

SCHEMAS = {"clips": CLIPS, "segments": SEGMENTS, "boxes": BOXES, "parts": PARTS, "entries": ENTRIES}
# few different values, however many rows
REPEATED = ("dataset", "split", "target", "table", "label")
ESCAPED = r"[^ !#-\[\]-~]"  # what JSON does not write as it is
Row = TypeVar("Row")


class StoredVideo(NamedTuple):
    """A stored video. `key` is the ledger's: the hash of content and decoding; sizes are those of
    the stored frames; `fps` 0 is unknown.
    """

    video_id: str
    array_uri: str
    num_frames: int
    fps: float
    height: int
    width: int
    key: str


class Made(Sequence[Row]):
    """A sequence over columns: an item is made when it is asked for, by `item`, and nobody keeps
    it.
    """

    @abstractmethod
    def item(self, index: int) -> Row:
        """Item `index`, from 0 on."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        chosen = range(len(self))[index]
        return self.item(chosen) if isinstance(chosen, int) else [self.item(own) for own in chosen]


@dataclass(frozen=True, eq=False)
class Rows(Made[Row]):
    """The rows of a table as `kind`s, whose fields are called as the columns are."""

    columns: pa.Table
    kind: type[Row]

    def __len__(self) -> int:
        return self.columns.num_rows

    def item(self, index: int) -> Row:
        """Row `index`."""
        return self.kind(**row_of(self.columns, index))


def row_of(table: pa.Table, index: int) -> dict[str, Any]:
    """Row `index` as plain values by column."""
    [row] = table.slice(index, 1).to_pylist()
    return row


def read_annotations(
    layout: Layout, dataset: Dataset, name: TableName | Literal["entries"]
) -> pa.Table:
    """A table of annotations, what repeats in it dictionary-encoded.

    Args:
        layout: where the storage lies.
        dataset: whose annotations have been read.
        name: of SCHEMAS.

    Raises:
        DataError: the table is missing or of another version.
        StorageError: the store fails.
    """
    uri = (
        layout.entries_table(dataset.name)
        if name == "entries"
        else layout.annotation_table(dataset.name, name)
    )
    try:
        table = read_table(uri, dictionaries=REPEATED)
    except FileNotFoundError as error:
        raise DataError(
            f"dataset '{dataset.name}': no {name} table at {uri}; read the annotations first"
        ) from error
    if table.schema.names != SCHEMAS[name].names:
        raise DataError(
            f"dataset '{dataset.name}': {uri} was written by another version of this code; read the"
            " annotations again"
        )
    return table


def rows_of(ids: pa.ChunkedArray | pa.Array, table: pa.Table) -> np.ndarray:
    """The row of `table` with each video id, int64 [len(ids)]; -1 where there is none."""
    return (
        pc.fill_null(pc.index_in(ids, value_set=table["video_id"]), -1)
        .to_numpy(zero_copy_only=False)
        .astype(np.int64)
    )


def stored_rows(ids: pa.ChunkedArray, ledger: pa.Table) -> np.ndarray:
    """`rows_of` a ledger with a column `status`, -1 where nothing is stored, too."""
    rows = rows_of(ids, ledger)
    # one more at the end, where -1 looks
    refused = np.append(pc.not_equal(ledger["status"], "ok").to_numpy(), True)
    return np.where(refused[rows], -1, rows)


def ranked(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """(the different values, sorted; the place of each row's value among them, int64 [rows])."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    # each chunk that was read has a dictionary of its own
    coded = column.unify_dictionaries().combine_chunks()
    # Rows that were filtered away leave their values behind in the dictionary: `used` are the
    # others, `code` [rows] numbers these.
    used, code = np.unique(coded.indices.to_numpy(), return_inverse=True)
    values = coded.dictionary.take(pa.array(used)).to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    rank = np.empty(len(values), np.int64)
    rank[order] = np.arange(len(values))  # the inverse of the order: where each value stands in it
    return [values[place] for place in order], rank[code]


def joined(one: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    """Two columns of one type, one after the other."""
    return pa.chunked_array([*one.chunks, *other.chunks], one.type)


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """float64 [rows], NaN for null."""
    return pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()


def label_ids_of(rows: pa.Table) -> dict[str, int]:
    """The id of every label, in the order of their first rows; should rows disagree, the last
    one's.
    """
    pairs = (
        rows.select(["label", "label_id"])
        .group_by("label", use_threads=False)
        .aggregate([("label_id", "last")])
    )
    return dict(zip(pairs["label"].to_pylist(), pairs["label_id_last"].to_pylist(), strict=True))


def as_json(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Each value of a column as `json.dumps` writes it."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        coded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        return as_json(coded.dictionary).take(coded.indices)
    if pa.types.is_integer(kind) and not column.null_count:
        return column.cast(pa.string())
    if (
        pa.types.is_string(kind)
        and not column.null_count
        and not pc.any(pc.match_substring_regex(column, ESCAPED)).as_py()
    ):
        return pc.binary_join_element_wise('"', column, '"', "")
    # floats: Arrow writes some of them in another way
    return pa.array(map(json.dumps, column.to_pylist()), pa.string())
