"""Annotations against the video tables and against each other: missing videos, rows past a video's end, repeated rows, coverage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import BUCKETS, Dataset, TableName
from ops.annotations.rows import Problem
from ops.annotations.vocabulary import AnnotationError
from ops.media.buckets import bucket_of
from ops.store.files import exists
from ops.store.layout import Layout
from ops.store.tables import VIDEOS, read_tables

# Where a row lies in its video, and the column of the video table that bounds it.
POSITION: dict[TableName, tuple[str, str]] = {
    "clips": ("start_s", "duration_s"),
    "segments": ("start_s", "duration_s"),
    "boxes": ("timestamp_s", "duration_s"),
    "parts": ("frame", "num_frames_packets"),
}
# Two rows that agree in these say the same thing twice, or (clips: one label each) contradict each other.
IDENTITY: dict[TableName, list[str]] = {
    "clips": ["clip_id"],
    "segments": ["video_id", "label", "start_s", "end_s"],
    "boxes": ["video_id", "timestamp_s", "x1", "y1", "x2", "y2", "label_id", "person_id"],
    "parts": ["video_id", "frame", "person", "part"],
}


@dataclass(frozen=True)
class Coverage:
    """How much of one split's annotations can be used.

    rows: kept in the table. annotated: videos that the good rows of the files name. found: those in the video tables. usable: those
    that ingest found readable. expected: rows that the dataset's config promises (clips only; None where it says nothing).
    """

    table: TableName
    split: str
    rows: int
    annotated: int
    found: int
    usable: int
    expected: int | None = None


@dataclass(frozen=True)
class Videos:
    """The dataset's video tables as one, and the buckets that have none yet."""

    dataset: Dataset
    row_of: dict[str, int]
    table: pa.Table
    missing_buckets: frozenset[int]

    def why_missing(self, video_id: str) -> str:
        """Reason for a video_id that no table has."""
        bucket = bucket_of(video_id) if self.missing_buckets else None
        return f"no such video (bucket {bucket} is not ingested yet)" if bucket in self.missing_buckets else "no such video"


def read_videos(dataset: Dataset, layout: Layout) -> Videos:
    """Video tables of all buckets. Raises AnnotationError when nothing is ingested."""
    uris = [layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)]
    missing = frozenset(bucket for bucket, uri in enumerate(uris) if not exists(uri))
    table = read_tables(uris, VIDEOS)
    if not table.num_rows:
        expected = f"ingest of dataset '{dataset.name}' before its annotations"
        raise AnnotationError(uris[0].rsplit("/", 1)[0], "videos", "no video table", expected)
    return Videos(dataset, {video: row for row, video in enumerate(table["video_id"].to_pylist())}, table, missing)


def _source(row_source: str) -> tuple[str, int]:
    """(file, line) of a row's source; line 0 where it ends in a path inside a json file."""
    file, _, line = row_source.rpartition(":")
    return (file, int(line)) if line.isdigit() else (file, 0)


def _problems(table: pa.Table, rows: np.ndarray, field: str, details: Iterator[tuple[str, str]]) -> list[Problem]:
    sources = table["source"].take(pa.array(rows)).to_pylist()
    return [Problem(*_source(source), field, found, reason) for source, (found, reason) in zip(sources, details, strict=True)]


def without_repeats(table: pa.Table, kind: TableName) -> tuple[pa.Table, list[Problem]]:
    """The table with the first of each set of equal rows, and problems that say where the first one is."""
    keys = IDENTITY[kind]
    rows = table.select(keys).append_column("row", pa.array(np.arange(table.num_rows)))
    groups = rows.group_by(keys).aggregate([("row", "min"), ("row", "count")])
    if groups.num_rows == table.num_rows:
        return table, []
    first = np.zeros(table.num_rows, bool)
    first[groups["row_min"].to_numpy()] = True
    repeated = groups.filter(pc.greater(groups["row_count"], 1))
    names = list(zip(*(repeated[key].to_pylist() for key in keys), strict=True))
    firsts = dict(zip(names, table["source"].take(repeated["row_min"]).to_pylist(), strict=True))
    again = np.flatnonzero(~first)
    found = list(zip(*(table[key].take(pa.array(again)).to_pylist() for key in keys), strict=True))
    details = ((f"{', '.join(map(str, name))}; first at {firsts[name]}", "duplicate row") for name in found)
    return table.filter(pa.array(first)), _problems(table, again, "(row)", details)


def with_videos(table: pa.Table, kind: TableName, videos: Videos) -> tuple[pa.Table, list[Problem]]:
    """The rows whose video is in the video tables and lasts until they begin, and the problems of the others.

    Rows of a quarantined video stay. Raises AnnotationError when not one video of the table is there.
    """
    encoded = pc.dictionary_encode(table["video_id"].combine_chunks())
    names, code = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    row = np.array([videos.row_of.get(name, -1) for name in names], dtype=np.int64)
    if (row < 0).all():
        file, line = _source(table["source"][0].as_py())
        known = ", ".join(repr(name) for name in list(videos.row_of)[:3])
        expected = f"a video_id of the video table, such as {known} (does the config's 'video' template fit the files' names?)"
        raise AnnotationError(f"{file}:{line}" if line else file, "video", names[0], expected)
    position, bound = POSITION[kind]
    lengths = pc.if_else(pc.equal(videos.table["status"], "ok"), pc.cast(videos.table[bound], pa.float64()), np.inf)
    limits = pc.fill_null(lengths, np.inf).to_numpy()[row]  # missing videos (-1) read the last one's; masked below
    start = pc.fill_null(table[position], 0).to_numpy()
    missing = row[code] < 0
    late = ~missing & (start >= limits[code])
    lost = np.flatnonzero(missing)
    why = {name: videos.why_missing(name) for name in (names[index] for index in np.unique(code[lost]))}
    problems = _problems(table, lost, "video", ((names[index], why[names[index]]) for index in code[lost]))
    past = np.flatnonzero(late)
    texts = ((f"{start[index]:g} ({bound} {limits[code[index]]:g})", "not before the end of the video") for index in past)
    problems += _problems(table, past, position, texts)
    return table.filter(pa.array(~missing & ~late)), problems


def coverage(read: pa.Table, kept: pa.Table, kind: TableName, videos: Videos) -> list[Coverage]:
    """Coverage per split: `read` are the good rows of the files, `kept` those that the table keeps."""
    usable = set(videos.table.filter(pc.equal(videos.table["status"], "ok"))["video_id"].to_pylist())
    counts = {entry["values"]: entry["counts"] for entry in kept["split"].value_counts().to_pylist()}
    pairs = read.group_by(["split", "video_id"]).aggregate([]).to_pydict()
    named: dict[str, list[str]] = {}
    for split, video in zip(pairs["split"], pairs["video_id"], strict=True):
        named.setdefault(split, []).append(video)
    expected = videos.dataset.expected if kind == "clips" else {}
    return [
        Coverage(
            kind, split, counts.get(split, 0), len(names), sum(name in videos.row_of for name in names), len(usable.intersection(names)),
            expected.get(split),
        )
        for split, names in sorted({**{split: [] for split in expected}, **named}.items())
    ]  # fmt: skip
