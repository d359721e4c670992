"""The video table: one row per file below a dataset's videos folder, usable or quarantined with the reason why."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from configs.schema import BUCKETS, Dataset
from configs.versions import INGEST
from ops.media.buckets import bucket_of_file, stem_of
from ops.media.pool import Job, quiet_stderr, run_jobs
from ops.store.files import FileInfo, StorageError, exists, list_files, local_copy, sha256_of
from ops.store.layout import Layout
from ops.store.tables import VIDEOS, from_rows, read_table, write_table

Progress = Callable[[int, int], None]
DUPLICATE, UNREADABLE = "duplicate video_id", "not readable"
MIN_DEADLINE_S = 60.0
SLOWEST_BYTES_PER_S = 2e6


class DatasetError(ValueError):
    """A dataset without videos: names the folder and what to do."""


@dataclass
class IngestReport:
    """What one ingest found and did; `reasons` counts the quarantined files by reason, `bytes` the found ones' size."""

    found: int = 0
    probed: int = 0
    reused: int = 0
    ok: int = 0
    quarantined: int = 0
    bytes: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)


def ingest(
    dataset: Dataset, layout: Layout, buckets: Iterable[int] | None = None, progress: Progress | None = None, workers: int | None = None
) -> IngestReport:
    """Brings the video tables of `buckets` (None: all) up to date; only new and changed files are hashed and probed.

    A video's id is its path below the videos folder without the ending. Of several usable files with one id the first by path keeps
    it; the others, and unusable files beside a usable one, get their full path as id. A file's bucket is that of its path without
    the ending. Raises DatasetError for a folder without files, or, over all buckets, without a usable video; StorageError.
    """
    start = time.monotonic()
    wanted = sorted(set(range(BUCKETS) if buckets is None else buckets))
    folder = layout.videos_folder(dataset)
    files = _scan(dataset, folder, wanted)
    report = IngestReport()
    open_buckets = {bucket: _open(layout.video_table(dataset.name, bucket), files[bucket]) for bucket in wanted}
    for bucket in open_buckets.values():
        report.reused += len(bucket.rows)
        if not bucket.new:
            _close(bucket, folder, report)
    new = [info for bucket in open_buckets.values() for info in bucket.new]
    for row in _probe_all(dataset, new, workers, progress):
        report.probed += 1
        bucket = open_buckets[bucket_of_file(_below(row["uri"], folder))]
        bucket.rows.append(row)
        if len(bucket.rows) == bucket.num_files:  # written as soon as it is complete, so that a run cut short keeps it
            _close(bucket, folder, report)
    report.seconds = time.monotonic() - start
    if len(wanted) == BUCKETS and report.ok == 0:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in list(report.reasons.items())[:5])
        raise DatasetError(f"dataset '{dataset.name}': none of the {report.found} files below {folder} is a usable video ({reasons})")
    return report


@dataclass
class Bucket:
    """One bucket's table while it is made: what it was, the rows so far, and the files that are new or changed."""

    table: str
    before: pa.Table | None
    rows: list[dict[str, Any]]
    new: list[FileInfo]
    num_files: int


def _scan(dataset: Dataset, folder: str, wanted: list[int]) -> dict[int, list[FileInfo]]:
    """Files of the wanted buckets. Raises DatasetError for a folder without any file."""
    files = list_files(folder)
    if not files:
        what = "is empty" if exists(folder) else "does not exist"
        todo = "put the videos there, or correct 'root' and 'videos' in its YAML"
        raise DatasetError(f"dataset '{dataset.name}': the videos folder {folder} {what}; {todo}")
    by_bucket: dict[int, list[FileInfo]] = {bucket: [] for bucket in wanted}
    for info in files:
        by_bucket.get(bucket_of_file(info.path_below), []).append(info)
    return by_bucket


def _open(uri: str, files: list[FileInfo]) -> Bucket:
    before = _known(uri)
    known = {row["uri"]: row for row in before.to_pylist()} if before is not None else {}
    rows, new = [], []
    for info in files:
        row = _reusable(info, known.get(info.uri))
        if row is None:
            new.append(info)
        else:
            rows.append(row)
    return Bucket(uri, before, rows, new, len(files))


def _close(bucket: Bucket, folder: str, report: IngestReport) -> None:
    _name(bucket.rows, folder)
    _count(bucket.rows, report)
    table = from_rows(sorted(bucket.rows, key=lambda row: row["uri"]), VIDEOS)
    if bucket.before is None or not table.equals(bucket.before):
        write_table(bucket.table, table)


def _below(uri: str, folder: str) -> str:
    return uri[len(folder.rstrip("/")) + 1 :]


def _known(uri: str) -> pa.Table | None:
    try:
        table = read_table(uri)
    except FileNotFoundError:
        return None
    return table if table.schema.equals(VIDEOS) else None


def _reusable(info: FileInfo, row: dict[str, Any] | None) -> dict[str, Any] | None:
    """The file's row as it was probed, where bytes, time and code are the same."""
    if row is None or (row["bytes"], row["modified"], row["code_version"]) != (info.bytes, info.modified, INGEST):
        return None
    if row["reason"].startswith(UNREADABLE):
        return None
    if row["reason"].startswith(DUPLICATE):  # whether it still is one is seen anew
        return {**row, "status": "ok", "reason": ""}
    return row


def _probe_all(dataset: Dataset, files: list[FileInfo], workers: int | None, progress: Progress | None) -> Iterator[dict[str, Any]]:
    jobs = [Job(info.uri, info, max(MIN_DEADLINE_S, info.bytes / SLOWEST_BYTES_PER_S)) for info in files]
    done = 0
    for outcome in run_jobs(probe_file, jobs, workers):
        if outcome is None:
            continue
        info = outcome.job.payload
        yield _row(dataset, info, outcome.value or {"reason": (outcome.failure or "").replace("decoder", "probe", 1)})
        done += 1
        if progress is not None:
            progress(done, len(jobs))


def probe_file(info: FileInfo, attempt: str) -> dict[str, Any]:
    """What one file's row says beyond its listing. Runs in a worker. Raises StorageError when a remote store fails."""
    from ops.media.probe import inspect

    try:
        with local_copy(info.uri) as path, quiet_stderr():
            sha256 = sha256_of(path)
            facts = inspect(path)
    except FileNotFoundError:
        return {"reason": f"{UNREADABLE}: it vanished while it was read"}
    except StorageError:
        raise
    except OSError as error:  # one bad local file does not stop the others
        return {"reason": f"{UNREADABLE}: {error.strerror}"}
    return {
        "sha256": sha256,
        "container": facts.container,
        "codec": facts.codec,
        "width": facts.width,
        "height": facts.height,
        "rotation": facts.rotation,
        "fps_num": facts.fps.numerator,
        "fps_den": facts.fps.denominator,
        "num_frames_declared": facts.num_frames_declared,
        "num_frames_packets": facts.num_frames,
        "duration_s": facts.duration_s,
        "reason": facts.problem or "",
    }


def _row(dataset: Dataset, info: FileInfo, probed: dict[str, Any]) -> dict[str, Any]:
    numbers = dict.fromkeys(("width", "height", "rotation", "fps_num", "num_frames_declared", "num_frames_packets"), 0)
    blank = {"video_id": "", "sha256": "", "container": "", "codec": "", "fps_den": 1, "duration_s": 0.0, **numbers}
    listed = {"dataset": dataset.name, "uri": info.uri, "bytes": info.bytes, "modified": info.modified, "code_version": INGEST}
    return {**blank, **listed, **probed, "status": "quarantined" if probed["reason"] else "ok"}


def _name(rows: list[dict[str, Any]], folder: str) -> None:
    """Gives every row of a bucket its video_id, unique, and quarantines the second usable file of an id."""
    holders: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row["status"] != "ok", row["uri"])):
        below = _below(row["uri"], folder)
        stem = stem_of(below)
        row["video_id"] = below if stem in holders else stem
        if stem in holders and row["status"] == "ok":
            row |= {"status": "quarantined", "reason": f"{DUPLICATE} '{stem}': {holders[stem]} has it"}
        holders.setdefault(stem, below)


def _count(rows: list[dict[str, Any]], report: IngestReport) -> None:
    report.found += len(rows)
    report.bytes += sum(row["bytes"] for row in rows)
    report.ok += sum(row["status"] == "ok" for row in rows)
    refused = [row["reason"] for row in rows if row["status"] != "ok"]
    report.quarantined += len(refused)
    report.reasons = dict(Counter(report.reasons) + Counter(refused))
