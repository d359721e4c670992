"""Decoded frames of every usable video, as Zarr arrays, kept up to date by a ledger, the
manifest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow.compute as pc

from configs.schema import BUCKETS, Dataset
from ops.compute.engine import Engine, run_anywhere
from ops.compute.pool import Job, Outcome
from ops.files.storage import list_files
from ops.media.plan import Plan, plan_bucket, plan_buckets
from ops.media.store_job import Row, Stored, StoreJob, check_shared, manifest_row
from ops.media.store_video import store_video
from ops.store.bucket_writer import BucketWriter, BucketWriters
from ops.store.layout import Layout
from ops.store.lease import Busy
from ops.store.manifest import frames_key

MIN_DEADLINE_S = 30.0
GROUP = 256  # videos whose arrays are written down in the journal together
SLOWEST_FRAME_S = 0.25  # a 720p frame on a machine that has too much else to do
USUAL_PIXELS = 1280 * 720
Progress = Callable[[int, int], None]


@dataclass
class FramesReport(Stored):
    """What one run planned and did; `videos_per_s` is of what it stored itself, `reasons` are those
    of all quarantined videos.
    """

    planned: int = 0
    reused: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    videos_per_s: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, stored: Stored, retried: bool) -> None:
        """Takes over what was stored right before this run, which found it done; where it tried
        refused videos again, all but those.
        """
        found = stored.done if retried else stored.worked
        for name, number in vars(stored).items():
            setattr(self, name, getattr(self, name) + number)
        self.planned += found
        self.reused -= found


def materialize(
    dataset: Dataset,
    layout: Layout,
    buckets: Iterable[int] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    *,
    min_deadline_s: float = MIN_DEADLINE_S,
    retry_quarantined: bool = False,
    engine: Engine = "auto",
    ray_address: str | None = None,
    stored: Stored | None = None,
) -> FramesReport:
    """Stores what the video tables name and the ledger lacks, and forgets what they no longer name.

    A video whose worker dies or passes its deadline is tried once more and then quarantined; the
    others go on. A quarantined video stays so until its content, the frames configuration or the
    code changes. A store that fails is waited for, up to a minute.

    Args:
        dataset: whose videos ingest has probed.
        layout: where the storage lies.
        buckets: whose tables; None is all.
        workers: as `ops.compute.engine.run_anywhere` takes it, like `engine` and `ray_address`.
        progress: is told (done, all) of the videos to be stored.
        min_deadline_s: of a video's worker: the deadline is the larger of this and four times the
            video's duration; more for many or large frames.
        retry_quarantined: tries quarantined videos again.
        engine: where videos are decoded.
        ray_address: of a cluster.
        stored: what `ingest` has stored just now: it is counted with this run's.

    Raises:
        DatasetError: ingest has not run.
        lease.Busy: another run works on one of the buckets.
        StorageError: a store goes on failing; what was finished is kept.
    """
    start = time.monotonic()
    chosen = sorted(set(range(BUCKETS) if buckets is None else buckets))
    run = _Run(dataset, layout, min_deadline_s, progress)
    with run.writers:
        plans = run.open(
            plan_buckets(dataset, layout, chosen, retry_quarantined), retry_quarantined
        )
        run.work(workers, engine, ray_address)
    report = run.report
    for plan in plans:
        reasons = _reasons(plan) if plan.number in run.buckets else plan.reasons
        report.reasons = dict(Counter(report.reasons) + reasons)
        report.reused += plan.reused
        report.planned += len(plan.wanted)
    report.quarantined = sum(report.reasons.values())
    report.seconds = time.monotonic() - start
    report.videos_per_s = report.done / report.seconds if report.seconds else 0.0
    if stored is not None:
        report.add(stored, retry_quarantined)
    return report


def _reasons(plan: Plan) -> Counter[str]:
    table = plan.ledger.read(["video_id", "status", "reason"])
    bad = table.filter(pc.not_equal(table["status"], "ok"))["reason"].value_counts().to_pylist()
    return Counter({entry["values"]: entry["counts"] for entry in bad})


class _Bucket:
    """A plan and the writer of its ledger."""

    def __init__(self, dataset: Dataset, layout: Layout, plan: Plan, min_deadline_s: float) -> None:
        self.dataset, self.layout, self.plan, self.min_deadline_s = (
            dataset,
            layout,
            plan,
            min_deadline_s,
        )
        self.writer = BucketWriter(plan.ledger)

    def begin(self) -> None:
        """Commits all rows that need no decoding."""
        self.writer.begin()
        gone, refused = self.plan.gone.to_pylist(), self.plan.refused.to_pylist()
        rows = [self._row(row, "", {"reason": row["reason"], "seconds": 0.0}) for row in refused]
        places = [*(row["array_uri"] for row in gone), *(row["old"] for row in refused)]
        self.writer.replace(rows, [row["video_id"] for row in gone], places)

    def jobs(self) -> Iterator[Job]:
        """The videos to decode, in the order of their ids. A group's arrays are in the journal
        before its first job leaves here.
        """
        for first in range(0, len(self.plan.wanted), GROUP):
            rows = self.plan.wanted.slice(first, GROUP).to_pylist()
            uris = [
                self.layout.frames(
                    self.dataset.name, self.dataset.frames.key(), row["video_id"], row["key"]
                )
                for row in rows
            ]
            self.writer.expect(
                {row["video_id"]: (uri, row["old"]) for row, uri in zip(rows, uris, strict=True)}
            )
            for row, uri in zip(rows, uris, strict=True):
                job = StoreJob(
                    row["video_id"], row["source_uri"], row["sha256"], uri, self.dataset.frames, 1
                )
                yield Job((self.plan.number, row["video_id"]), job, self._deadline_s(row))

    def _deadline_s(self, row: Row) -> float:
        size = max(1.0, row["width"] * row["height"] / USUAL_PIXELS)
        return max(
            self.min_deadline_s,
            4 * row["duration_s"],
            SLOWEST_FRAME_S * row["num_frames_packets"] * size,
        )

    def apply(self, outcome: Outcome) -> Row:
        """Takes in what became of a job; returns the ledger's row, which the next commit makes
        last.
        """
        job: StoreJob = outcome.job.payload
        value = outcome.value or {"reason": outcome.failure, "seconds": 0.0}
        check_shared(job.source_uri, job.array_uri, value)
        known = {
            "video_id": job.video_id,
            "sha256": job.sha256,
            "key": frames_key(job.sha256, self.dataset),
        }
        row = self._row(known, job.array_uri, value)
        self.writer.apply(row)
        return row

    def _row(self, known: Row, array_uri: str, value: Row) -> Row:
        return manifest_row(
            self.dataset, known["video_id"], known["sha256"], known["key"], array_uri, value
        )


class _Run:
    """One call of `materialize`: the buckets it works on, and what it has counted."""

    def __init__(
        self, dataset: Dataset, layout: Layout, min_deadline_s: float, progress: Progress | None
    ) -> None:
        self.dataset, self.layout, self.min_deadline_s, self.progress = (
            dataset,
            layout,
            min_deadline_s,
            progress,
        )
        self.report = FramesReport()
        self.buckets: dict[int, _Bucket] = {}
        self.writers = BucketWriters()
        self._done = self._total = 0

    def open(self, plans: list[Plan], retry_quarantined: bool) -> list[Plan]:
        """Takes the buckets where there is something to do. Returns the plans as they hold now."""
        left_over = self._left_over()
        for place, plan in enumerate(plans):
            if plan.empty and plan.number not in left_over:
                continue
            bucket = _Bucket(self.dataset, self.layout, plan, self.min_deadline_s)
            self.writers.add(bucket.writer)
            try:
                plan.ledger.open()
            except Busy:
                if plan.empty:  # another run is at work there, and we have nothing to add
                    continue
                raise
            self.buckets[plan.number] = bucket
            if plan.ledger.moved:  # another run has worked on it between the look and the lease
                bucket.plan = plans[place] = plan_bucket(
                    self.dataset, self.layout, plan.number, retry_quarantined, plan.ledger
                )
            bucket.begin()
        self._total = sum(len(bucket.plan.wanted) for bucket in self.buckets.values())
        return plans

    def _left_over(self) -> set[int]:
        """Buckets where more lies than a ledger in its compact form: a run was cut short, or is at
        work.
        """
        folder = self.layout.manifest(self.dataset.name, self.dataset.frames.key(), 0).rsplit(
            "/", 1
        )[0]
        names = (info.path_below for info in list_files(folder))
        return {
            int(name[:4])
            for name in names
            if name[:4].isdigit() and ("/" in name or not name.endswith(".parquet"))
        }

    def work(self, workers: int | None, engine: Engine, ray_address: str | None) -> None:
        """Decodes what is wanted."""
        if not self._total:
            return
        jobs = (job for bucket in self.buckets.values() for job in bucket.jobs())
        with closing(run_anywhere(store_video, jobs, workers, engine, ray_address)) as outcomes:
            for outcome in outcomes:
                if outcome is not None:
                    row = self.buckets[outcome.job.key[0]].apply(outcome)
                    self.report.count(row)
                    self._done += 1
                    if self.progress is not None:
                        self.progress(self._done, self._total)
                self.writers.commit_now_and_then()
