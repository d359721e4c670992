"""Parquet tables: their schemas, and reading and writing them whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ops.files.storage import StorageError, read_bytes, write_bytes

_TEXT, _I32, _I64, _F32, _F64 = pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.float64()


def _schema(**fields: pa.DataType) -> pa.Schema:
    return pa.schema(list(fields.items()))


# One row per file below the videos folder, `source_uri`. `modified` is the mtime in ns or the ETag;
# `width` and `height` are as coded, `rotation` is what makes them upright (degrees, clockwise);
# `num_frames_packets` counts the packets that show a frame, `num_frames_declared` is what the
# container says (0: nothing).
VIDEOS = _schema(
    video_id=_TEXT,
    dataset=_TEXT,
    source_uri=_TEXT,
    bytes=_I64,
    modified=_TEXT,
    sha256=_TEXT,
    container=_TEXT,
    codec=_TEXT,
    width=_I32,
    height=_I32,
    rotation=_I32,
    fps_num=_I32,
    fps_den=_I32,
    num_frames_declared=_I64,
    num_frames_packets=_I64,
    duration_s=_F64,
    status=_TEXT,
    reason=_TEXT,
    code_version=_TEXT,
)
# One row per clip and label; `start_s` and `end_s` are a place inside the video, null where the
# clip is the whole file. `target` names the label space (EPIC-Kitchens has verb, noun and action).
# `source` is "file:line".
CLIPS = _schema(
    clip_id=_TEXT,
    video_id=_TEXT,
    dataset=_TEXT,
    split=_TEXT,
    target=_TEXT,
    label=_TEXT,
    label_id=_I32,
    start_s=_F64,
    end_s=_F64,
    source=_TEXT,
)
SEGMENTS = _schema(
    video_id=_TEXT,
    dataset=_TEXT,
    split=_TEXT,
    target=_TEXT,
    label=_TEXT,
    label_id=_I32,
    start_s=_F64,
    end_s=_F64,
    source=_TEXT,
)
# Boxes are xyxy, as shares of the frame's width and height. They stand at a time (key frames) or at
# a frame counted from 0 (tubes), the other is null; `person_id` is the person's or the tube's
# number within its video.
BOXES = _schema(
    video_id=_TEXT,
    dataset=_TEXT,
    split=_TEXT,
    timestamp_s=_F64,
    frame=_I32,
    x1=_F32,
    y1=_F32,
    x2=_F32,
    y2=_F32,
    label=_TEXT,
    label_id=_I32,
    person_id=_I32,
    source=_TEXT,
)
# Boxes are xyxy in pixels; p* is the person's, the other the part's. `frame` counts from 0. `label`
# is the video's action.
PARTS = _schema(
    video_id=_TEXT,
    dataset=_TEXT,
    split=_TEXT,
    label=_TEXT,
    frame=_I32,
    person=_I32,
    px1=_F32,
    py1=_F32,
    px2=_F32,
    py2=_F32,
    part=_TEXT,
    x1=_F32,
    y1=_F32,
    x2=_F32,
    y2=_F32,
    state=_TEXT,
    source=_TEXT,
)
# Every annotated video once per table and split, also those without a single row (a background
# video, a key frame list that is empty); duration and rate are the annotation file's, null where it
# has none.
ENTRIES = _schema(
    dataset=_TEXT,
    table=_TEXT,
    video_id=_TEXT,
    split=_TEXT,
    duration_s=_F64,
    fps=_F64,
    num_rows=_I64,
)
# Key frames that must not count, neither in training nor in evaluation.
EXCLUDED = _schema(dataset=_TEXT, video_id=_TEXT, split=_TEXT, timestamp_s=_F64)
PROBLEMS = _schema(
    dataset=_TEXT,
    file=_TEXT,
    line=_I64,
    field=_TEXT,
    found=_TEXT,
    kind=_TEXT,
    allowed=pa.bool_(),
    reason=_TEXT,
)
# The manifest of frames: one row per video that is stored (at `array_uri`) or quarantined. `audit`
# is the second decoder's verdict ("" for none yet); `bytes` is the stored size, `seconds` the time
# it took.
MANIFEST = _schema(
    video_id=_TEXT,
    dataset=_TEXT,
    sha256=_TEXT,
    key=_TEXT,
    array_uri=_TEXT,
    num_frames=_I64,
    height=_I32,
    width=_I32,
    fps=_F64,
    status=_TEXT,
    reason=_TEXT,
    decoder=_TEXT,
    decoder_version=_TEXT,
    audit=_TEXT,
    bytes=_I64,
    seconds=_F64,
)
# The manifest of features: one row per video whose features are stored or refused. `sha256` is what
# they were made from: the frames' ledger key, or the hash of the imported files.
FEATURES = _schema(
    video_id=_TEXT,
    dataset=_TEXT,
    sha256=_TEXT,
    key=_TEXT,
    array_uri=_TEXT,
    num_steps=_I64,
    channels=_I32,
    status=_TEXT,
    reason=_TEXT,
    bytes=_I64,
    seconds=_F64,
)


def from_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of this schema. Raises KeyError for a row that lacks a field or has one too many."""
    rows = list(rows)
    names = set(schema.names)
    for row in rows:
        if set(row) != names:
            raise KeyError(f"row fields differ from the schema: {sorted(set(row) ^ names)}")
    return pa.Table.from_pylist(rows, schema=schema)


def write_table(uri: str, table: pa.Table) -> None:
    """Writes the Parquet file whole or not at all. Raises StorageError."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(uri, sink.getvalue().to_pybytes())


def read_table(
    uri: str, columns: Sequence[str] | None = None, dictionaries: Sequence[str] = ()
) -> pa.Table:
    """A Parquet file as a table, its columns under today's names.

    Args:
        uri: of the file.
        columns: reads only these, in this order; None is all.
        dictionaries: text columns that come dictionary-encoded, where the file has them.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the store fails, or the file cannot be read as such a table.
    """
    data = read_bytes(uri)
    try:
        named = set(pq.read_schema(pa.BufferReader(data)).names)
        # Parquet refuses to be asked for others
        coded = [name for name in dictionaries if name in named]
        return read_columns(pq.ParquetFile(pa.BufferReader(data), read_dictionary=coded), columns)
    except (pa.ArrowInvalid, KeyError) as error:
        raise StorageError(uri, f"not a readable Parquet file ({error})") from error


def names_of(file: pq.ParquetFile) -> dict[str, str]:
    """A file's columns: name today -> name in the file. What `uri` meant was once told by the table
    alone.
    """
    stored = file.schema_arrow.names
    today = "source_uri" if "modified" in stored else "array_uri"
    return {today if name == "uri" else name: name for name in stored}


def read_columns(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> pa.Table:
    """The columns (None: all) under today's names, in this order. Raises KeyError,
    pa.ArrowInvalid.
    """
    names = names_of(file)
    chosen = list(names) if columns is None else list(columns)
    table = file.read(columns=[names[name] for name in chosen])
    table = table.select([names[name] for name in chosen])
    # renaming forgets it
    return table.rename_columns(chosen).replace_schema_metadata(table.schema.metadata)


def read_tables(uris: Iterable[str], schema: pa.Schema) -> pa.Table:
    """The tables one after another, as `schema`; empty for none.

    Args:
        uris: of Parquet files; missing ones are skipped.
        schema: whose columns all of them must have, in its order.

    Raises:
        StorageError: one has another schema, or the store fails.
    """
    tables = []
    for uri in uris:
        try:
            table = read_table(uri)
        except FileNotFoundError:
            continue
        if table.schema.names != schema.names:
            raise StorageError(
                uri,
                f"columns {table.schema.names} where {schema.names} are expected; was it written by"
                " another version?",
            )
        tables.append(table.cast(schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()
