"""The video table: one row per file below a dataset's videos folder, usable or quarantined with the
reason why.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import KinographError
from configs.schema import BUCKETS, Dataset
from configs.versions import INGEST
from ops.compute.engine import Engine, run_anywhere
from ops.compute.pool import Job, Outcome
from ops.files.patience import patient
from ops.files.storage import FileInfo, StorageError, exists, remove
from ops.media.listing import list_videos
from ops.media.store_job import Stored, check_shared
from ops.media.store_video import UNREADABLE, StoreTarget, probe_file
from ops.store.bucket_writer import BucketWriter, BucketWriters
from ops.store.buckets import bucket_of_file, stem_of
from ops.store.layout import Layout, is_safe
from ops.store.ledger import Ledger, LedgerError, parts_uri, read_ledger
from ops.store.tables import MANIFEST, VIDEOS, read_table, write_table

Progress = Callable[[int, int], None]
DUPLICATE = "duplicate video_id"
MIN_DEADLINE_S = 60.0
SLOWEST_BYTES_PER_S = 2e6
GROUP = 256  # files whose arrays are written down in the journal together
# of a film that is decoded too: four times as long as one of 100 kB a second plays
SLOWEST_FILM_BYTES_PER_S = 25e3


class DatasetError(KinographError, ValueError):
    """A dataset without videos: names the folder and what to do."""


@dataclass
class IngestReport:
    """What one ingest found and did; `reasons` counts the quarantined files by reason, `bytes` the
    found ones' size.

    `aside` counts, by kind and over the whole folder, what was not taken for a video at all:
    leftovers, and links that give nothing. `stored` counts what was stored at once, where that was
    asked for.
    """

    found: int = 0
    probed: int = 0
    reused: int = 0
    ok: int = 0
    quarantined: int = 0
    bytes: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)
    aside: dict[str, int] = field(default_factory=dict)
    stored: Stored = field(default_factory=Stored)


def ingest(
    dataset: Dataset,
    layout: Layout,
    buckets: Iterable[int] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    *,
    engine: Engine = "auto",
    ray_address: str | None = None,
    store: bool = False,
) -> IngestReport:
    """Brings the video tables up to date; only new and changed files are hashed and probed.

    A video's id is its path below the videos folder without the ending. Of several usable files
    with one id the first by path keeps it; the others, and unusable files beside a usable one, get
    their full path as id. A file's bucket is that of its path without the ending. What was probed
    is kept as it comes, so that a run cut short costs the files under way.

    Args:
        dataset: whose videos folder is read.
        layout: where the storage lies.
        buckets: whose tables; None is all.
        progress: is told (done, all) of the files to be probed.
        workers: as `ops.compute.engine.run_anywhere` takes it, like `engine` and `ray_address`.
        engine: where files are probed.
        ray_address: of a cluster.
        store: a worker that has a new file at hand stores its frames too, so that it is fetched,
            hashed and probed once; what is left then (frames that lack of known files, ids that two
            files claim, a decoder that died) `ops.media.materialize` does as ever.

    Raises:
        DatasetError: the folder has no files, or, over all buckets, no usable video.
        lease.Busy: another run probes files of one of the buckets.
        StorageError: a store refuses, or goes on failing.
    """
    start = time.monotonic()
    wanted = sorted(set(range(BUCKETS) if buckets is None else buckets))
    folder = layout.videos_folder(dataset)
    by_bucket, aside = _scan(dataset, folder, wanted)
    report = IngestReport(aside=aside)
    unfinished: dict[int, Bucket] = {}
    with BucketWriters() as writers:
        for number, files in by_bucket.items():
            bucket = Bucket(layout.video_table(dataset.name, number), folder, files)
            report.reused += len(files) - len(bucket.new)
            if bucket.new:
                unfinished[number] = bucket
                writers.add(bucket.writer)
            else:
                bucket.finish(report)
        arrivals = {
            number: Arrivals(dataset, layout, number, bucket.sole(), writers)
            for number, bucket in unfinished.items()
            if store
        }
        work = _Probing(dataset, unfinished, arrivals, report, progress)
        work.run(lambda jobs: run_anywhere(probe_file, jobs, workers, engine, ray_address), writers)
    report.seconds = time.monotonic() - start
    if len(wanted) == BUCKETS and report.ok == 0:
        raise _no_usable(dataset, folder, report)
    return report


def _no_usable(dataset: Dataset, folder: str, report: IngestReport) -> DatasetError:
    reasons = "; ".join(f"{count} x {reason}" for reason, count in list(report.reasons.items())[:5])
    return DatasetError(
        f"dataset '{dataset.name}': none of the {report.found} files below {folder} is a usable"
        f" video ({reasons})"
    )


def _scan(
    dataset: Dataset, folder: str, wanted: list[int]
) -> tuple[dict[int, list[FileInfo]], dict[str, int]]:
    """Files of the wanted buckets, and what is left aside, from one listing. Raises DatasetError
    for a folder without any file.
    """
    listing = list_videos(folder)
    aside = listing.counts()
    if not listing.files:
        left = ", ".join(f"{count} x {kind}" for kind, count in aside.items())
        what = (
            f"has no videos ({left})"
            if left
            else "is empty"
            if exists(folder)
            else "does not exist"
        )
        todo = "put the videos there, or correct 'root' and 'videos' in its YAML"
        raise DatasetError(f"dataset '{dataset.name}': the videos folder {folder} {what}; {todo}")
    by_bucket: dict[int, list[FileInfo]] = {bucket: [] for bucket in wanted}
    for info in listing.files:
        by_bucket.get(bucket_of_file(info.path_below), []).append(info)
    return by_bucket, aside


class Bucket:
    """One bucket's table while it is made: what can stay of it, the files that are `new` or
    changed, and what was probed of them.

    Rows of probed files go to a ledger beside the table, by uri, until the bucket is complete; the
    next run finds them there.
    """

    def __init__(self, table: str, folder: str, files: list[FileInfo]) -> None:
        self.table, self.folder = table, folder
        self.probed = Ledger(f"{table.removesuffix('.parquet')}.probed.parquet", VIDEOS)
        self.writer = BucketWriter(self.probed, arrays=False)
        self.before = _known(table)
        known, self._leftover = self._all_known()
        place, stays = _reusable(files, known)
        self.kept = known.take(place.filter(stays))
        self.new = [info for info, stay in zip(files, stays.to_pylist(), strict=True) if not stay]
        self.num_files, self.left = len(files), len(self.new)
        self._stems = Counter(stem_of(info.path_below) for info in files)
        self.same = (
            self.before is not None
            and not self.new
            and len(self.before) == len(files) == len(self.kept)
        )

    def _all_known(self) -> tuple[pa.Table, bool]:
        """Rows that may be used again, those of an unfinished run first, and whether there are
        such.
        """
        try:
            probed = read_ledger(self.probed.uri, VIDEOS)
        except LedgerError:  # of another version: what it saves is only time
            probed = VIDEOS.empty_table()
            self._forget_probed()
        before = VIDEOS.empty_table() if self.before is None else self.before
        return pa.concat_tables([probed, before]), bool(len(probed))

    def take(self, row: dict[str, Any]) -> None:
        """Takes in a probed file."""
        self.writer.apply({**row, "video_id": row["source_uri"]})
        self.left -= 1

    def sole(self) -> dict[str, str]:
        """video_id by URI of the new files that have one whatever a probe says: no other file has
        the same path but for its ending.
        """
        stems = {
            info.uri: stem_of(info.path_below)
            for info in self.new
            if is_safe(info.path_below) and not info.problem
        }
        return {uri: stem for uri, stem in stems.items() if self._stems[stem] == 1}

    def finish(self, report: IngestReport) -> None:
        """Writes the table, unless it is as it was, and counts it."""
        if self.same and self.before is not None:
            _count(self.before, report)
            return
        if self.new or self._leftover:
            self.probed.open()
        fresh = self.probed.table() if self.new else VIDEOS.empty_table()
        fresh = fresh.filter(
            pc.is_in(
                fresh["source_uri"],
                value_set=pa.array([info.uri for info in self.new], pa.string()),
            )
        )
        table = _named(pa.concat_tables([self.kept, fresh]).sort_by("source_uri"), self.folder)
        if len(table) != self.num_files:
            raise StorageError(
                self.table,
                f"{len(table)} rows for {self.num_files} files; did another process write there?",
            )
        if self.before is None or not table.equals(self.before):
            patient(self.table, lambda: write_table(self.table, table))
        _count(table, report)
        if self.probed.held:
            self._forget_probed()
            self.probed.abandon()

    def _forget_probed(self) -> None:
        remove(parts_uri(self.probed.uri))
        remove(self.probed.uri)


def _known(uri: str) -> pa.Table | None:
    try:
        table = read_table(uri)
    except FileNotFoundError:
        return None
    return table if table.schema.equals(VIDEOS) else None


def _reusable(files: list[FileInfo], known: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Of every file: the place of its row in `known`, and whether that still holds: bytes, time and
    code are the same.
    """
    place = pc.index_in(
        pa.array([info.uri for info in files], pa.string()),
        value_set=known["source_uri"].combine_chunks(),
    )
    row = known.select(["bytes", "modified", "code_version", "reason"]).take(place)
    same = pc.and_(
        pc.equal(
            row["bytes"].combine_chunks(), pa.array([info.bytes for info in files], pa.int64())
        ),
        pc.equal(
            row["modified"].combine_chunks(),
            pa.array([info.modified for info in files], pa.string()),
        ),
    )
    same = pc.and_(same, pc.equal(row["code_version"].combine_chunks(), INGEST))
    return place, pc.fill_null(
        pc.and_not(same, pc.starts_with(row["reason"].combine_chunks(), UNREADABLE)), False
    )


class Arrivals:
    """The frames of one bucket's new files, stored by the workers that probe them."""

    def __init__(
        self,
        dataset: Dataset,
        layout: Layout,
        number: int,
        video_ids: dict[str, str],
        writers: BucketWriters,
    ) -> None:
        """`video_ids` has the files that may be stored, by URI. Raises lease.Busy, StorageError."""
        self.dataset, self.video_ids = dataset, video_ids
        ledger = Ledger(layout.manifest(dataset.name, dataset.frames.key(), number), MANIFEST)
        self.layout, self.writer = layout, writers.add(BucketWriter(ledger))
        self.writer.begin()
        rows = ledger.read(["video_id", "key", "array_uri"])
        rows = rows.filter(
            pc.is_in(rows["video_id"], value_set=pa.array(list(video_ids.values()), pa.string()))
        )
        self.stored = {row["video_id"]: row for row in rows.to_pylist()}

    def expect(self, files: list[FileInfo]) -> None:
        """Writes down what the coming work on these files may begin."""
        videos = [self.video_ids[info.uri] for info in files if info.uri in self.video_ids]
        self.writer.expect(
            {video: (self.stored.get(video, {}).get("array_uri"),) for video in videos},
            unknown=True,
        )

    def target(self, uri: str) -> StoreTarget | None:
        """Where a worker stores the frames of this file, None where it must not yet."""
        video_id = self.video_ids.get(uri)
        if video_id is None:
            return None
        return StoreTarget(
            video_id, self.dataset, self.layout, self.stored.get(video_id, {}).get("key")
        )

    def take(self, outcome: Outcome, report: IngestReport) -> None:
        """Takes in what a worker says of a file whose frames it was to store."""
        video_id = self.video_ids.get(outcome.job.payload[0].uri)
        if video_id is None:
            return
        value = outcome.value or {}
        stored, old = value.get("stored"), self.stored.get(video_id, {}).get("array_uri")
        if stored is not None:
            check_shared(outcome.job.payload[0].uri, stored["array_uri"], stored)
            self.writer.apply(stored)
            report.stored.count(stored)
        elif value.get("known"):  # nothing was begun
            self.writer.keep(video_id)
        else:
            self.writer.discard(video_id, old)


@dataclass
class _Probing:
    """The new files of all buckets on their way through the workers."""

    dataset: Dataset
    buckets: dict[int, Bucket]
    arrivals: dict[int, Arrivals]
    report: IngestReport
    progress: Progress | None

    def run(self, start: Callable[[Iterable[Job]], Any], writers: BucketWriters) -> None:
        total = sum(bucket.left for bucket in self.buckets.values())
        if not total:
            return
        for bucket in self.buckets.values():
            bucket.writer.begin()
        with closing(start(self._jobs())) as outcomes:
            for outcome in outcomes:
                if outcome is not None:
                    self._take(outcome)
                    if self.progress is not None:
                        self.progress(self.report.probed, total)
                writers.commit_now_and_then()

    def _jobs(self) -> Iterator[Job]:
        for number, bucket in self.buckets.items():
            arrivals = self.arrivals.get(number)
            for first in range(0, len(bucket.new), GROUP):
                files = bucket.new[first : first + GROUP]
                if arrivals is not None:
                    arrivals.expect(files)
                for info in files:
                    target = None if arrivals is None else arrivals.target(info.uri)
                    slowest = SLOWEST_BYTES_PER_S if target is None else SLOWEST_FILM_BYTES_PER_S
                    yield Job(
                        (number, info.uri),
                        (info, target),
                        max(MIN_DEADLINE_S, info.bytes / slowest),
                    )

    def _take(self, outcome: Outcome) -> None:
        number, bucket = outcome.job.key[0], self.buckets[outcome.job.key[0]]
        if number in self.arrivals:
            self.arrivals[number].take(outcome, self.report)
        value = outcome.value or {"reason": (outcome.failure or "").replace("decoder", "probe", 1)}
        bucket.take(_row(self.dataset, outcome.job.payload[0], value))
        self.report.probed += 1
        if not bucket.left:
            bucket.finish(self.report)


def _row(dataset: Dataset, info: FileInfo, probed: dict[str, Any]) -> dict[str, Any]:
    numbers = dict.fromkeys(
        ("width", "height", "rotation", "fps_num", "num_frames_declared", "num_frames_packets"), 0
    )
    blank = {
        "video_id": "",
        "sha256": "",
        "container": "",
        "codec": "",
        "fps_den": 1,
        "duration_s": 0.0,
        **numbers,
    }
    listed = {
        "dataset": dataset.name,
        "source_uri": info.uri,
        "bytes": info.bytes,
        "modified": info.modified,
        "code_version": INGEST,
    }
    probed = {name: value for name, value in probed.items() if name in VIDEOS.names}
    return {**blank, **listed, **probed, "status": "quarantined" if probed["reason"] else "ok"}


def _named(table: pa.Table, folder: str) -> pa.Table:
    """The bucket's rows with their video_id, unique; of usable files with one id the second and
    further ones are quarantined.
    """
    below = [uri[len(folder.rstrip("/")) + 1 :] for uri in table["source_uri"].to_pylist()]
    reasons = [
        "" if reason.startswith(DUPLICATE) else reason for reason in table["reason"].to_pylist()
    ]  # whether it still is one is seen anew
    ids = list(below)
    holders: dict[str, str] = {}
    for place in sorted(range(len(below)), key=lambda place: (bool(reasons[place]), place)):
        stem = stem_of(below[place])
        if stem not in holders:
            holders[stem], ids[place] = below[place], stem
        elif not reasons[place]:
            reasons[place] = f"{DUPLICATE} '{stem}': {holders[stem]} has it"
    texts = {
        "video_id": ids,
        "reason": reasons,
        "status": ["quarantined" if reason else "ok" for reason in reasons],
    }
    for name, values in texts.items():
        table = table.set_column(
            table.schema.get_field_index(name), name, pa.array(values, pa.string())
        )
    return table


def _count(table: pa.Table, report: IngestReport) -> None:
    bad = table.filter(pc.not_equal(table["status"], "ok"))["reason"].value_counts().to_pylist()
    refused = Counter({entry["values"]: entry["counts"] for entry in bad})
    report.found += len(table)
    report.bytes += pc.sum(table["bytes"]).as_py() or 0
    report.quarantined += refused.total()
    report.ok += len(table) - refused.total()
    report.reasons = dict(Counter(report.reasons) + refused)
