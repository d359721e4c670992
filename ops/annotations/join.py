"""Annotations against the video tables and against each other: missing videos, rows past a video's
end, repeated rows, coverage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import BUCKETS, Dataset, TableName
from ops.annotations.report import Coverage
from ops.annotations.rows import Entry, Fault, Problem
from ops.annotations.vocabulary import AnnotationError, Vocabulary
from ops.files.storage import exists
from ops.store.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.tables import ENTRIES, VIDEOS, read_tables

# Where a row lies in its video, and the column of the video table that bounds it; a null position
# lies anywhere.
POSITIONS: dict[TableName, tuple[tuple[str, str], ...]] = {
    "clips": (("start_s", "duration_s"),),
    "segments": (("start_s", "duration_s"),),
    "boxes": (("timestamp_s", "duration_s"), ("frame", "num_frames_packets")),
    "parts": (("frame", "num_frames_packets"),),
}
# A row may end after its video does: files round, and windows of ten seconds stand at ends. Beyond
# both of these nothing is rounded.
FAR_S, FAR_SHARE = 10.0, 0.5
# What a row speaks of, with its label or without, beside its split. Two rows that agree in all of
# these and in their values say the same twice; two that speak of the same thing and differ in the
# rest contradict each other.
THING: dict[TableName, list[str]] = {
    "clips": ["clip_id", "target"],
    "segments": ["video_id", "target", "label", "start_s", "end_s"],
    "boxes": [
        "video_id",
        "timestamp_s",
        "frame",
        "x1",
        "y1",
        "x2",
        "y2",
        "label",
        "label_id",
        "person_id",
    ],
    "parts": ["video_id", "frame", "person", "part"],
}
SAID: dict[TableName, list[str]] = {
    "clips": ["label", "split"],
    "segments": ["split"],
    "boxes": ["split"],
    "parts": ["split", "label", "px1", "py1", "px2", "py2", "x1", "y1", "x2", "y2", "state"],
}


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
        return (
            f"no such video (bucket {bucket} is not ingested yet)"
            if bucket in self.missing_buckets
            else "no such video"
        )


def videos_of(dataset: Dataset, table: pa.Table, missing_buckets: Iterable[int] = ()) -> Videos:
    """These rows (schema VIDEOS) as the dataset's videos."""
    return Videos(
        dataset,
        {video: row for row, video in enumerate(table["video_id"].to_pylist())},
        table,
        frozenset(missing_buckets),
    )


def read_videos(dataset: Dataset, layout: Layout) -> Videos:
    """Video tables of all buckets. Raises AnnotationError when nothing is ingested."""
    uris = [layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)]
    missing = frozenset(bucket for bucket, uri in enumerate(uris) if not exists(uri))
    table = read_tables(uris, VIDEOS)
    if not table.num_rows:
        expected = f"ingest of dataset '{dataset.name}' before its annotations"
        raise AnnotationError(uris[0].rsplit("/", 1)[0], "videos", "no video table", expected)
    return videos_of(dataset, table, missing)


def named_videos(
    dataset: Dataset,
    tables: Mapping[TableName, pa.Table],
    entries: Iterable[tuple[TableName, Entry]],
) -> Videos:
    """What the annotations name, as the dataset's videos: for a dataset that has features but no
    video files.
    """
    durations: dict[str, float | None] = {
        name: None for table in tables.values() for name in table["video_id"].unique().to_pylist()
    }
    durations |= {entry.video_id: entry.duration_s for _, entry in entries}
    rows = len(durations)
    known = {
        "video_id": list(durations),
        "dataset": [dataset.name] * rows,
        "duration_s": list(durations.values()),
        "status": ["ok"] * rows,
    }
    columns = [pa.array(known.get(field.name, [None] * rows), field.type) for field in VIDEOS]
    return videos_of(dataset, pa.Table.from_arrays(columns, schema=VIDEOS))


def _source(row_source: str) -> tuple[str, int, str]:
    """(file, line, place) of a row's source; line 0 and a place where it ends in a path inside a
    json or pickle file.
    """
    file, _, place = row_source.rpartition(":")
    return (file, int(place), "") if place.isdigit() else (file, 0, place)


def _problems(table: pa.Table, rows: np.ndarray, details: Iterable[Fault]) -> list[Problem]:
    sources = table["source"].take(pa.array(rows)).to_pylist()
    return [fault.at(*_source(source)) for source, fault in zip(sources, details, strict=True)]


def train_labels(table: pa.Table) -> set[str]:
    """The labels of the train split."""
    found = table.filter(pc.equal(table["split"], "train"))["label"].unique().to_pylist()
    return {label for label in found if label is not None}


def with_ids(table: pa.Table, words: Vocabulary) -> tuple[pa.Table, list[Problem]]:
    """The table with the ids of its labels, where it was read without a vocabulary, and the
    problems of rows whose label has none.
    """
    position = pc.index_in(table["label"], value_set=pa.array(words.names))
    unknown = pc.and_(pc.is_valid(table["label"]), pc.is_null(position)).to_numpy()
    lost = np.flatnonzero(unknown)
    found = table["label"].take(pa.array(lost)).to_pylist()
    problems = _problems(
        table,
        lost,
        (
            Fault("label", name, "unknown_label", "no row of the train split has this label")
            for name in found
        ),
    )
    if "label_id" in table.schema.names:
        ids = pa.array(words.ids, pa.int32()).take(position)
        table = table.set_column(
            table.schema.get_field_index("label_id"), table.schema.field("label_id"), ids
        )
    return table.filter(pa.array(~unknown)), problems


def without_repeats(
    table: pa.Table, kind: TableName, multi_label: bool = False
) -> tuple[pa.Table, list[Problem]]:
    """The table without repeated rows and without rows that contradict each other, and the problems
    of those left out.

    Of equal rows the first stays. Of rows that contradict each other (one clip with two labels,
    where it may have one; one thing in two splits) none does: which one is right is not for us to
    say.
    """
    things = [*THING[kind], "label"] if multi_label and kind == "clips" else THING[kind]
    if _num_groups(table, things) == table.num_rows and not (multi_label and kind == "clips"):
        return table, []
    said = ["split"] if multi_label and kind == "clips" else SAID[kind]
    table, problems = _without_duplicates(table, list(dict.fromkeys([*things, *said])))
    table, more = _without_contradictions(table, THING[kind], said)
    return table, problems + more


def _num_groups(table: pa.Table, keys: list[str]) -> int:
    return table.group_by(keys).aggregate([]).num_rows


def _numbered(table: pa.Table, columns: list[str]) -> pa.Table:
    return table.select(columns).append_column("row", pa.array(np.arange(table.num_rows)))


def _without_duplicates(table: pa.Table, keys: list[str]) -> tuple[pa.Table, list[Problem]]:
    groups = _numbered(table, keys).group_by(keys).aggregate([("row", "min"), ("row", "count")])
    if groups.num_rows == table.num_rows:
        return table, []
    first = np.zeros(table.num_rows, bool)
    first[groups["row_min"].to_numpy()] = True
    repeated = groups.filter(pc.greater(groups["row_count"], 1))
    names = list(zip(*(repeated[key].to_pylist() for key in keys), strict=True))
    firsts = dict(zip(names, table["source"].take(repeated["row_min"]).to_pylist(), strict=True))
    again = np.flatnonzero(~first)
    found = list(zip(*(table[key].take(pa.array(again)).to_pylist() for key in keys), strict=True))
    faults = (
        Fault("(row)", f"{_words(name)}; first at {firsts[name]}", "duplicate", "duplicate row")
        for name in found
    )
    return table.filter(pa.array(first)), _problems(table, again, faults)


def _without_contradictions(
    table: pa.Table, things: list[str], said: list[str]
) -> tuple[pa.Table, list[Problem]]:
    """`things` are what rows speak of, `said` what they may say only once of it."""
    different = list(dict.fromkeys([*things, *said]))
    statements = _numbered(table, different).group_by(different).aggregate([("row", "list")])
    groups = (
        _numbered(statements, things)
        .group_by(things)
        .aggregate([("row", "list"), ("row", "count")])
    )
    if groups.num_rows == statements.num_rows:
        return table, []
    split = groups.filter(pc.greater(groups["row_count"], 1))["row_list"].combine_chunks().flatten()
    rows = np.sort(statements["row_list"].take(split).combine_chunks().flatten().to_numpy())
    values = table.take(pa.array(rows)).select([*different, "source"]).to_pylist()
    by_thing = dict[tuple[object, ...], list[dict[str, object]]]()
    for value in values:
        by_thing.setdefault(tuple(value[name] for name in things), []).append(value)
    faults = []
    for value in values:
        thing = tuple(value[name] for name in things)
        field, other = next(
            (name, other)
            for name in said
            for other in by_thing[thing]
            if other[name] != value[name]
        )
        found = f"{value[field]} for {_words(thing)}; {other[field]} at {other['source']}"
        faults.append(
            Fault(field, found, "contradiction", f"contradicts another row in its {field}")
        )
    keep = np.ones(table.num_rows, bool)
    keep[rows] = False
    return table.filter(pa.array(keep)), _problems(table, rows, faults)


def _words(values: Iterable[object]) -> str:
    # the usual target says nothing
    return ", ".join(str(value) for value in values if value is not None and value != "label")


def with_videos(
    table: pa.Table, kind: TableName, videos: Videos, why_not: Mapping[str, str] | None = None
) -> tuple[pa.Table, list[Problem]]:
    """The rows whose video is in the video tables and lasts until they begin and about until they
    end, and the problems of the others.

    Rows of a quarantined video stay. `why_not` has words on names that no video has.
    """
    encoded = pc.dictionary_encode(table["video_id"].combine_chunks())
    names, code = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    row = np.array([videos.row_of.get(name, -1) for name in names], dtype=np.int64)
    missing = row[code] < 0
    lost = np.flatnonzero(missing)
    why = {
        name: (why_not or {}).get(name) or videos.why_missing(name)
        for name in (names[index] for index in np.unique(code[lost]))
    }
    problems = _problems(
        table,
        lost,
        (
            Fault("video", name, "missing_video", why[name])
            for name in (names[index] for index in code[lost])
        ),
    )
    good = ~missing
    if videos.table.num_rows:
        for position, bound in POSITIONS[kind]:
            # a missing video (-1) reads the last one's; `good` knows those
            ends = _limits(videos, bound)[row[code]]
            late = good & (pc.fill_null(table[position], -1).to_numpy() >= ends)
            problems += _past(
                table, late, position, bound, ends, names, code, "not before the end of the video"
            )
            good &= ~late
            if position == "start_s":
                late = good & (
                    pc.fill_null(table["end_s"], -1).to_numpy()
                    > ends + np.maximum(FAR_S, FAR_SHARE * ends)
                )
                problems += _past(
                    table,
                    late,
                    "end_s",
                    bound,
                    ends,
                    names,
                    code,
                    "far beyond the end of the video",
                )
                good &= ~late
    return table.filter(pa.array(good)), problems


def _past(
    table: pa.Table,
    late: np.ndarray,
    position: str,
    bound: str,
    ends: np.ndarray,
    names: list[str],
    code: np.ndarray,
    reason: str,
) -> list[Problem]:
    past = np.flatnonzero(late)
    where = table[position].take(pa.array(past)).to_pylist()
    texts = [
        f"{found:g} of {names[index]} ({bound} {end:g})"
        for found, index, end in zip(where, code[past], ends[past], strict=True)
    ]
    return _problems(table, past, (Fault(position, text, "past_end", reason) for text in texts))


def _limits(videos: Videos, bound: str) -> np.ndarray:
    """Where each video ends; infinity for one that could not be read."""
    lengths = pc.if_else(
        pc.equal(videos.table["status"], "ok"), pc.cast(videos.table[bound], pa.float64()), np.inf
    )
    return pc.fill_null(lengths, np.inf).to_numpy()


def unmet(kind: TableName, table: pa.Table, videos: Videos) -> AnnotationError | None:
    """An error for a table of which not one video is in the video tables: its names do not fit the
    files' names.
    """
    names = table["video_id"].unique().to_pylist()
    if not names or any(name in videos.row_of for name in names):
        return None
    file, line, _ = _source(table["source"][0].as_py())
    known = ", ".join(repr(name) for name in list(videos.row_of)[:3])
    expected = (
        f"a video_id of the video table, such as {known} (does the config's 'video' template fit"
        " the files' names?)"
    )
    return AnnotationError(f"{file}:{line}" if line else file, "video", names[0], expected)


def coverage(
    read: Mapping[TableName, pa.Table],
    kept: Mapping[TableName, pa.Table],
    entries: Iterable[tuple[TableName, Entry]],
    videos: Videos,
) -> tuple[Coverage, ...]:
    """Coverage per table and split: `read` are the good rows of the files, `kept` those that the
    tables keep.
    """
    usable = set(
        videos.table.filter(pc.equal(videos.table["status"], "ok"))["video_id"].to_pylist()
    )
    named, rows = dict[tuple[TableName, str], set[str]](), dict[tuple[TableName, str], int]()
    for kind, table in read.items():
        pairs = table.group_by(["split", "video_id"]).aggregate([]).to_pydict()
        for split, video in zip(pairs["split"], pairs["video_id"], strict=True):
            named.setdefault((kind, split), set()).add(video)
        for item in kept[kind]["split"].value_counts().to_pylist():
            rows[kind, item["values"]] = item["counts"]
    for kind, entry in entries:
        named.setdefault((kind, entry.split), set()).add(entry.video_id)
    expected = {
        key.removesuffix(".rows"): count
        for key, count in videos.dataset.expected.items()
        if key.endswith(".rows")
    }
    for key in expected:
        kind_name, split = key.split(".")
        if kind_name in read and split != "all":
            named.setdefault((kind_name, split), set())  # type: ignore[arg-type]
    return tuple(
        Coverage(
            kind,
            split,
            rows.get((kind, split), 0),
            len(names),
            sum(name in videos.row_of for name in names),
            len(usable & names),
            expected.get(f"{kind}.{split}"),
        )
        for (kind, split), names in sorted(named.items())
    )


def entries_table(
    dataset: str,
    kept: Mapping[TableName, pa.Table],
    entries: Iterable[tuple[TableName, Entry]],
    videos: Videos,
) -> pa.Table:
    """One row per table, split and video of the video tables that the files name, with or without
    rows of its own.
    """
    facts = {(kind, entry.split, entry.video_id): entry for kind, entry in entries}
    counts = dict[tuple[TableName, str, str], int]()
    for kind, table in kept.items():
        groups = table.group_by(["split", "video_id"]).aggregate([([], "count_all")]).to_pydict()
        for split, video, count in zip(
            groups["split"], groups["video_id"], groups["count_all"], strict=True
        ):
            counts[kind, split, video] = count
    keys = sorted(key for key in {*facts, *counts} if key[2] in videos.row_of)
    said = [facts.get(key) for key in keys]
    return pa.table(
        {
            "dataset": [dataset] * len(keys),
            "table": [key[0] for key in keys],
            "video_id": [key[2] for key in keys],
            "split": [key[1] for key in keys],
            "duration_s": [entry and entry.duration_s for entry in said],
            "fps": [entry and entry.fps for entry in said],
            "num_rows": [counts.get(key, 0) for key in keys],
        },
        schema=ENTRIES,
    )


def unannotated(
    read: Mapping[TableName, pa.Table], entries: Iterable[tuple[TableName, Entry]], videos: Videos
) -> list[Problem]:
    """A note for each usable video that no good row names and no file lists."""
    named = {entry.video_id for _, entry in entries}
    for table in read.values():
        named.update(table["video_id"].unique().to_pylist())
    usable = videos.table.filter(pc.equal(videos.table["status"], "ok"))["video_id"].to_pylist()
    reason = "no annotation names this video"
    return [
        Problem(videos.dataset.videos or "", 0, "video", name, "unannotated_video", reason)
        for name in usable
        if name not in named
    ]
