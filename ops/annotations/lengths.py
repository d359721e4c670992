"""Lengths of some videos that are not ingested yet, so that a check can hold times against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import TableName
from ops.annotations.join import POSITIONS, Videos
from ops.compute.pool import Job, quiet_stderr, run_jobs
from ops.files.storage import FileInfo

SAMPLE = 12  # videos of a table
DEADLINE_S = 20.0  # for each; a worker that takes longer is killed, and the length stays unknown
LEAST_BYTES = 1024  # no video is smaller


def measured(
    tables: Mapping[TableName, pa.Table],
    videos: Videos,
    listing: Iterable[FileInfo],
    names: Mapping[str, str],
) -> Videos:
    """The videos, with the lengths and rates of a sample of those that rows with times name and
    whose length is not known.

    Args:
        tables: rows of the files, by table.
        videos: those that are there.
        listing: of the videos folder; only local files are opened.
        names: the files' names for those of the rows that are not quite the same.
    """
    paths = {
        info.uri: Path(info.uri)
        for info in listing
        if "://" not in info.uri and info.bytes >= LEAST_BYTES
    }
    uris, lengths = (
        dict(zip(videos.row_of, videos.table["source_uri"].to_pylist(), strict=True)),
        videos.table["duration_s"].to_pylist(),
    )
    chosen = dict[str, Path]()
    for kind, table in tables.items() if paths else ():
        timed = (
            table.filter(pc.is_valid(table[POSITIONS[kind][0][0]]))
            if kind != "parts"
            else table.slice(0, 0)
        )
        called = sorted({names.get(name, name) for name in timed["video_id"].unique().to_pylist()})
        open_ = [
            name
            for name in called
            if name in uris and lengths[videos.row_of[name]] is None and uris[name] in paths
        ]
        step = max(1, len(open_) // SAMPLE)
        chosen |= {name: paths[uris[name]] for name in open_[::step][:SAMPLE]}
    jobs = [Job(name, path, DEADLINE_S) for name, path in chosen.items()]
    outcomes = (
        [outcome for outcome in run_jobs(facts_of, jobs, workers=2) if outcome is not None]
        if jobs
        else []
    )
    found = {outcome.job.key: outcome.value for outcome in outcomes if outcome.value is not None}
    return _with_facts(videos, found) if found else videos


def facts_of(path: Path, attempt: str) -> tuple[float, int, int] | None:
    """(length in s, frames a second as numerator and denominator) of a local video; None for what
    is none. Runs in a worker.
    """
    from ops.media.probe import inspect

    try:
        with quiet_stderr():
            facts = inspect(path)
    except OSError:
        return None
    usable = facts.problem is None and facts.duration_s > 0
    return (facts.duration_s, facts.fps.numerator, facts.fps.denominator) if usable else None


def _with_facts(videos: Videos, found: Mapping[str, tuple[float, int, int]]) -> Videos:
    table = videos.table
    for index, column in enumerate(("duration_s", "fps_num", "fps_den")):
        values = table[column].to_pylist()
        for name, facts in found.items():
            values[videos.row_of[name]] = facts[index]
        place = table.schema.get_field_index(column)
        table = table.set_column(
            place, table.schema.field(place), pa.array(values, table.schema.field(place).type)
        )
    return Videos(videos.dataset, videos.row_of, table, videos.missing_buckets)
