"""Decoded frames of every usable video, as Zarr arrays, kept up to date by a ledger (the manifest)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow.compute as pc

from configs.schema import BUCKETS, Dataset
from ops.compute.engine import Engine, run_anywhere
from ops.compute.pool import Outcome
from ops.files.storage import StorageError, list_files
from ops.media.bucket_work import BucketWork
from ops.media.plan import Plan, plan_bucket, plan_buckets
from ops.media.store_video import store_video
from ops.store.layout import Layout
from ops.store.lease import Busy

MIN_DEADLINE_S = 30.0
COMMIT_EVERY_S = 2.0
COMMIT_EVERY_VIDEOS = 32
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
) -> FramesReport:
    """Stores what the video tables of `buckets` (None: all) name and the ledger lacks, and forgets what they no longer name.

    A video whose worker dies or passes its deadline (the larger of `min_deadline_s` and four times its duration; more for many or
    large frames) is tried once more and then quarantined; the others go on. A quarantined video stays so until its content, the frames
    configuration or the code changes, or `retry_quarantined`. A store that fails is waited for, up to a minute. `engine` and
    `ray_address` are `ops.compute.engine.run_anywhere`'s. Raises DatasetError where ingest has not run, lease.Busy where another run
    works on one of the buckets, and StorageError for a store that goes on failing; what was finished is kept.
    """
    start = time.monotonic()
    chosen = sorted(set(range(BUCKETS) if buckets is None else buckets))
    run = _Run(dataset, layout, min_deadline_s, progress)
    try:
        plans = run.open(plan_buckets(dataset, layout, chosen, retry_quarantined), retry_quarantined)
        run.work(workers, engine, ray_address)
        run.close()
    except BaseException:  # a store that fails, or Ctrl-C: what is finished stays, what is half done goes
        run.give_up()
        raise
    report = run.report
    for plan in plans:
        reasons = _reasons(plan) if plan.number in run.buckets else plan.reasons
        report.reasons = dict(Counter(report.reasons) + reasons)
        report.reused += plan.reused
        report.planned += len(plan.wanted)
    report.quarantined = sum(report.reasons.values())
    report.seconds = time.monotonic() - start
    report.videos_per_s = report.done / report.seconds if report.seconds else 0.0
    return report


def _reasons(plan: Plan) -> Counter[str]:
    table = plan.ledger.read(["video_id", "status", "reason"])
    bad = table.filter(pc.not_equal(table["status"], "ok"))["reason"].value_counts().to_pylist()
    return Counter({entry["values"]: entry["counts"] for entry in bad})


class _Run:
    """One call of `materialize`: the buckets it holds, the videos that are under way, and what it has counted."""

    def __init__(self, dataset: Dataset, layout: Layout, min_deadline_s: float, progress: Progress | None) -> None:
        self.dataset, self.layout, self.min_deadline_s, self.progress = dataset, layout, min_deadline_s, progress
        self.report = FramesReport()
        self.buckets: dict[int, BucketWork] = {}
        self._committed = time.monotonic()
        self._done = self._total = 0

    def open(self, plans: list[Plan], retry_quarantined: bool) -> list[Plan]:
        """Takes the buckets where there is something to do, and settles what needs no decoding. Returns the plans as they hold now."""
        left_over = self._left_over()
        for place, plan in enumerate(plans):
            if plan.empty and plan.number not in left_over:
                continue
            try:
                plan.ledger.open()
            except Busy:
                if plan.empty:  # another run is at work there, and we have nothing to add
                    continue
                raise
            bucket = self.buckets[plan.number] = BucketWork(self.dataset, self.layout, plan, self.min_deadline_s)
            if plan.ledger.moved:  # another run has worked on it between the look and the lease
                bucket.plan = plans[place] = plan_bucket(self.dataset, self.layout, plan.number, retry_quarantined, plan.ledger)
            bucket.settle_known()
        self._total = sum(len(bucket.plan.wanted) for bucket in self.buckets.values())
        return plans

    def _left_over(self) -> set[int]:
        """Buckets where more lies than a ledger in its compact form: a run was cut short, or is at work."""
        folder = self.layout.manifest(self.dataset.name, self.dataset.frames.key(), 0).rsplit("/", 1)[0]
        names = (info.path_below for info in list_files(folder))
        return {int(name[:4]) for name in names if name[:4].isdigit() and ("/" in name or not name.endswith(".parquet"))}

    def work(self, workers: int | None, engine: Engine, ray_address: str | None) -> None:
        """Decodes what is wanted."""
        if not self._total:
            return
        jobs = (job for bucket in self.buckets.values() for job in bucket.jobs())
        with closing(run_anywhere(store_video, jobs, workers, engine, ray_address)) as outcomes:
            for outcome in outcomes:
                if outcome is not None:
                    self._take(outcome)
                self._commit_now_and_then()

    def _take(self, outcome: Outcome) -> None:
        row = self.buckets[outcome.job.key[0]].settle(outcome)
        if row["status"] == "ok":
            self.report.done += 1
            self.report.frames += row["num_frames"]
            self.report.bytes += row["bytes"]
        self._done += 1
        if self.progress is not None:
            self.progress(self._done, self._total)

    def _commit_now_and_then(self) -> None:
        waiting = sum(bucket.uncommitted for bucket in self.buckets.values())
        if waiting >= COMMIT_EVERY_VIDEOS or (waiting and time.monotonic() - self._committed >= COMMIT_EVERY_S):
            for bucket in self.buckets.values():
                bucket.commit()
            self._committed = time.monotonic()

    def close(self) -> None:
        """Commits the rest, brings the ledgers into their compact form and gives the buckets back."""
        for bucket in self.buckets.values():
            bucket.close()

    def give_up(self) -> None:
        """Keeps what is finished, removes what is half done, gives the buckets back; a store that is away is not asked twice."""
        away = False
        for bucket in self.buckets.values():
            try:
                bucket.plan.ledger.forget() if away else bucket.give_up()
            except StorageError as error:
                away = error.transient
