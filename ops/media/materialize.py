"""Decoded frames of every usable video, as Zarr arrays, kept up to date by a ledger (the manifest)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from configs.schema import BUCKETS, Dataset
from ops.media.ingest import DatasetError
from ops.media.pool import Job, Outcome, run_jobs
from ops.media.store_video import StoreJob, store_video
from ops.store.files import StorageError, remove
from ops.store.layout import Layout
from ops.store.manifest import clear_journal, frames_key, journal_uri, open_journal
from ops.store.tables import MANIFEST, from_rows, read_table, write_table

MIN_DEADLINE_S = 30.0
COMMIT_EVERY_S = 2.0
COMMIT_EVERY_VIDEOS = 32
SLOWEST_FRAME_S = 0.25  # a 720p frame on a machine that has too much else to do
USUAL_PIXELS = 1280 * 720
Row = dict[str, Any]
Progress = Callable[[int, int], None]


@dataclass
class FramesReport:
    """What one run planned and did. `frames`, `bytes` and `videos_per_s` count what was stored now; `reasons` all quarantined videos."""

    planned: int = 0
    done: int = 0
    reused: int = 0
    quarantined: int = 0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    videos_per_s: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass
class Bucket:
    """The ledger of one bucket while it is worked on. `rows` is by video_id; `doomed` arrays go after the next commit."""

    number: int
    manifest: str
    journal: str
    rows: dict[str, Row]
    doomed: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    uncommitted: int = 0

    def commit(self) -> None:
        """Writes the ledger, then removes the arrays that it no longer names."""
        write_table(self.manifest, from_rows((self.rows[key] for key in sorted(self.rows)), MANIFEST))
        named = {row["uri"] for row in self.rows.values()}
        for uri in self.doomed:
            if uri not in named:
                remove(uri)
        self.doomed.clear()
        self.uncommitted = 0


def materialize(
    dataset: Dataset,
    layout: Layout,
    buckets: Iterable[int] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    *,
    min_deadline_s: float = MIN_DEADLINE_S,
    retry_quarantined: bool = False,
) -> FramesReport:
    """Stores what the video tables of `buckets` (None: all) name and the ledger lacks, and forgets what they no longer name.

    A video whose worker dies or passes its deadline (the larger of `min_deadline_s` and four times its duration; more for many or
    large frames) is tried once more and then quarantined; the others go on. A quarantined video stays so until its content, the frames
    configuration or the code changes, or `retry_quarantined`. Raises DatasetError where ingest has not run, and StorageError for
    a store that fails; what was finished is kept.
    """
    start = time.monotonic()
    report = FramesReport()
    jobs: list[Job] = []
    open_buckets: dict[int, Bucket] = {}
    for number in sorted(set(range(BUCKETS) if buckets is None else buckets)):
        bucket = _open_bucket(dataset, layout, number)
        wanted = _plan(dataset, layout, bucket, report, retry_quarantined)
        jobs += [_job(dataset, layout, bucket, row, min_deadline_s) for row in wanted]
        open_buckets[number] = bucket
    for bucket in open_buckets.values():
        if bucket.arrays or bucket.doomed:
            open_journal(bucket.journal, [*bucket.arrays, *bucket.doomed])
        if bucket.uncommitted or bucket.doomed:
            bucket.commit()
    _work(dataset, jobs, open_buckets, workers, progress, report)
    for bucket in open_buckets.values():
        refused = [row["reason"] for row in bucket.rows.values() if row["status"] != "ok"]
        report.quarantined += len(refused)
        report.reasons = dict(Counter(report.reasons) + Counter(refused))
    report.seconds = time.monotonic() - start
    report.videos_per_s = report.done / report.seconds if report.seconds else 0.0
    return report


def _open_bucket(dataset: Dataset, layout: Layout, number: int) -> Bucket:
    manifest = layout.manifest(dataset.name, dataset.frames.key(), number)
    try:
        rows = {row["video_id"]: row for row in read_table(manifest).to_pylist()}
    except FileNotFoundError:
        rows = {}
    journal = journal_uri(layout, dataset, number)
    clear_journal(journal, {row["uri"] for row in rows.values()})
    return Bucket(number, manifest, journal, rows)


def _plan(dataset: Dataset, layout: Layout, bucket: Bucket, report: FramesReport, retry_quarantined: bool) -> list[Row]:
    """Settles all rows that need no decoding, and returns the video-table rows that do."""
    table = layout.video_table(dataset.name, bucket.number)
    try:
        videos = {row["video_id"]: row for row in read_table(table).to_pylist()}
    except FileNotFoundError as error:
        raise DatasetError(f"dataset '{dataset.name}': no video table at {table}; ingest the dataset first") from error
    for video_id in sorted(set(bucket.rows) - set(videos)):
        _replace(bucket, video_id, None)
        bucket.uncommitted += 1
    wanted = []
    for video_id, video in sorted(videos.items()):
        old = bucket.rows.get(video_id)
        key = _key(video, dataset)
        if old is not None and old["key"] == key and not (retry_quarantined and old["status"] != "ok" and video["status"] == "ok"):
            report.reused += 1
        elif video["status"] != "ok":
            _replace(bucket, video_id, _refused(dataset, video, key, video["reason"], 0.0))
            bucket.uncommitted += 1
        else:
            wanted.append(video)
    report.planned += len(wanted)
    return wanted


def _key(video: Row, dataset: Dataset) -> str:
    """Ledger key; that of a file that ingest refused has the reason in it, so that a new verdict is a new row."""
    return frames_key(video["sha256"] if video["status"] == "ok" else f"{video['sha256']}: {video['reason']}", dataset)


def _replace(bucket: Bucket, video_id: str, row: Row | None) -> None:
    old = bucket.rows.pop(video_id, None)
    if old is not None and old["uri"]:
        bucket.doomed.append(old["uri"])
    if row is not None:
        bucket.rows[video_id] = row


def _job(dataset: Dataset, layout: Layout, bucket: Bucket, video: Row, min_deadline_s: float) -> Job:
    key = frames_key(video["sha256"], dataset)
    uri = layout.frames(dataset.name, dataset.frames.key(), video["video_id"], key)
    bucket.arrays.append(uri)
    old = bucket.rows.get(video["video_id"])
    if old is not None and old["uri"]:
        bucket.arrays.append(old["uri"])
    size = max(1.0, video["width"] * video["height"] / USUAL_PIXELS)
    deadline_s = max(min_deadline_s, 4 * video["duration_s"], SLOWEST_FRAME_S * video["num_frames_packets"] * size)
    payload = (StoreJob(video["video_id"], video["uri"], video["sha256"], uri, dataset.frames, 1), bucket.number, video)
    return Job((bucket.number, video["video_id"]), payload, deadline_s)


def _work(
    dataset: Dataset, jobs: list[Job], buckets: dict[int, Bucket], workers: int | None, progress: Progress | None, report: FramesReport
) -> None:
    last, done = time.monotonic(), 0
    try:
        with closing(run_jobs(store_video, jobs, workers)) as outcomes:
            for outcome in outcomes:
                if outcome is not None:
                    _settle(dataset, outcome, buckets, report)
                    done += 1
                    if progress is not None:
                        progress(done, len(jobs))
                waiting = sum(bucket.uncommitted for bucket in buckets.values())
                if waiting >= COMMIT_EVERY_VIDEOS or (waiting and time.monotonic() - last >= COMMIT_EVERY_S):
                    _commit(buckets)
                    last = time.monotonic()
        _commit(buckets)
        _sweep(buckets)
    except BaseException:  # a store that fails, or Ctrl-C: what is finished stays, what is half done goes
        with suppress(StorageError):
            _sweep(buckets)
            _commit(buckets)
        raise


def _sweep(buckets: dict[int, Bucket]) -> None:
    for bucket in buckets.values():
        clear_journal(bucket.journal, {row["uri"] for row in bucket.rows.values()})


def _commit(buckets: dict[int, Bucket]) -> None:
    for bucket in buckets.values():
        if bucket.uncommitted:
            bucket.commit()


def _settle(dataset: Dataset, outcome: Outcome, buckets: dict[int, Bucket], report: FramesReport) -> None:
    job, number, video = outcome.job.payload
    bucket = buckets[number]
    key = frames_key(video["sha256"], dataset)
    value = outcome.value or {"reason": outcome.failure, "seconds": 0.0}
    if outcome.failure:
        remove(job.uri)  # what the worker had written when it died
    if "num_frames" in value:
        row = {"video_id": video["video_id"], "dataset": dataset.name, "sha256": video["sha256"], "key": key, "uri": job.uri, **value}
        report.done += 1
        report.frames += row["num_frames"]
        report.bytes += row["bytes"]
    else:
        row = _refused(dataset, video, key, value["reason"], value["seconds"])
    _replace(bucket, video["video_id"], row)
    bucket.uncommitted += 1


def _refused(dataset: Dataset, video: Row, key: str, reason: str, seconds: float) -> Row:
    numbers = {"num_frames": 0, "height": 0, "width": 0, "fps": 0.0, "bytes": 0, "seconds": seconds}
    texts = {"uri": "", "decoder": "", "decoder_version": "", "status": "quarantined", "reason": reason}
    return {"video_id": video["video_id"], "dataset": dataset.name, "sha256": video["sha256"], "key": key, **numbers, **texts}
