"""Features of every video that a dataset annotates, extracted or imported, kept up to date by a
ledger.

The ledger's key of a video is made of what its features come from (the stored frames, or the
content of the imported files), of the features' configuration, of the models' weights and of the
code version. So an unchanged video costs nothing, and a newly promoted champion costs all of its
features anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

import configs
from configs.errors import KinographError
from configs.schema import BUCKETS, Dataset, Extractor, Features
from configs.settings import Settings
from ops.features.bucket import Bucket, Row, open_buckets
from ops.features.jobs import FeaturesJob, FeaturesOutcome
from ops.features.requests import UNANNOTATED, Request, from_files, from_frames
from ops.store.bucket_writer import BucketWriters
from ops.store.layout import Layout
from ops.store.ledger import read_ledgers
from ops.store.tables import FEATURES, read_table

Engine = Literal["local", "ray"]
Progress = Callable[[int, int], None]


class FeaturesError(KinographError, ValueError):
    """Features that cannot be made at all: names them, and what to do."""


@dataclass
class FeaturesReport:
    """What one run planned and did, and what there is now.

    `done`, `steps` and `bytes` count what was stored now. Over all videos: `annotated` should have
    features, `usable` have them, `quarantined` were refused, files that belong to no annotated
    video among them. `models` is the weights' sha256 by model.
    """

    name: str
    planned: int = 0
    done: int = 0
    reused: int = 0
    removed: int = 0
    quarantined: int = 0
    annotated: int = 0
    usable: int = 0
    steps: int = 0
    bytes: int = 0
    seconds: float = 0.0
    videos_per_s: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    @property
    def coverage(self) -> float:
        """Share of the annotated videos that have features, 0 where there are none."""
        return self.usable / self.annotated if self.annotated else 0.0

    def count(self, outcome: FeaturesOutcome) -> None:
        """Counts a video that was worked on now."""
        if outcome.unchanged:
            self.reused += 1
        elif not outcome.reason:
            self.done += 1
            self.steps += outcome.num_steps
            self.bytes += outcome.bytes


def make_features(
    features: Features,
    layout: Layout,
    settings: Settings,
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
    retry_quarantined: bool = False,
    only: Set[str] | None = None,
) -> FeaturesReport:
    """Stores the features that the ledger lacks, and forgets those of videos that are no longer
    asked for.

    A refused video stays so until its source, the configuration, the weights or the code changes.

    Args:
        features: what is made, by models or from files.
        layout: of the store that has the frames and gets the features.
        settings: name the registry of the models, and the Ray cluster.
        engine: 'ray' extracts through Ray actors, 'local' in this process; None is Ray where the
            settings name a cluster. Files are read in this process.
        progress: is told (done, all) videos.
        retry_quarantined: refused videos are tried again.
        only: asks for these videos; None for all.

    Raises:
        FeaturesError: there is no video to make them from.
        ConfigError: a model is not there.
        StorageError: a store fails; what was finished is kept.
    """
    start = time.monotonic()
    dataset = configs.dataset(features.dataset)
    report = FeaturesReport(features.name)
    requests, sources = _requests(features, dataset, layout, settings, report)
    requests = [one for one in requests if only is None or one.video_id in only]
    buckets: list[Bucket] = []
    with BucketWriters() as writers:
        for bucket in open_buckets(features, layout, requests, retry_quarantined):
            if bucket.look():
                writers.add(bucket.writer)
                bucket.begin()
            buckets.append(bucket)
            report.reused += bucket.plan.reused
            report.removed += len(bucket.plan.drop)
        jobs = [job for bucket in buckets for job in bucket.plan.jobs]
        report.planned = len(jobs)
        _work(_run(jobs, sources, settings, engine), buckets, writers, report, progress)
    rows = [row for bucket in buckets for row in bucket.rows.values()]
    refused = [row["reason"] for row in rows if row["status"] != "ok"]
    report.quarantined, report.usable, report.reasons = (
        len(refused),
        len(rows) - len(refused),
        dict(Counter(refused)),
    )
    report.annotated = sum(one.reason != UNANNOTATED for one in requests)
    report.seconds = time.monotonic() - start
    report.videos_per_s = report.done / report.seconds if report.seconds else 0.0
    return report


def _work(
    outcomes: Generator[tuple[FeaturesJob, FeaturesOutcome], None, None],
    buckets: list[Bucket],
    writers: BucketWriters,
    report: FeaturesReport,
    progress: Progress | None,
) -> None:
    """Takes in what comes of the jobs, and makes it last."""
    by_video = {job.video_id: bucket for bucket in buckets for job in bucket.plan.jobs}
    with closing(outcomes):
        for done, (job, outcome) in enumerate(outcomes, 1):
            by_video[job.video_id].apply(job, outcome)
            report.count(outcome)
            if progress is not None:
                progress(done, report.planned)
            writers.commit_now_and_then()
    for bucket in buckets:
        bucket.finish()


def unmade(features: Features, layout: Layout, settings: Settings) -> int:
    """How many videos `make_features` would have to touch, without touching them. Raises what it
    raises.
    """
    requests, _ = _requests(
        features, configs.dataset(features.dataset), layout, settings, FeaturesReport(features.name)
    )
    plans = [
        bucket.plan for bucket in open_buckets(features, layout, requests, False) if bucket.look()
    ]
    return sum(len(plan.jobs) + len(plan.put) + len(plan.drop) for plan in plans)


def make_pinned(
    features: Features,
    extractors: Sequence[Extractor],
    dataset: Dataset,
    layout: Layout,
    settings: Settings,
    split: str = "val",
) -> Features:
    """The same features as these very models made them, for the videos of a split; the
    configuration under which the store has them.

    What is stored under the features' own name serves where it was made by these models. Otherwise
    they are made anew beside it, under the models' versions.

    Args:
        features: those from files are given back as they are.
        extractors: the models, in the order of `features.extract`.
        dataset: whose segments say which videos are in the split.
        layout: of the store that has frames, annotations and features.
        settings: name the registry of the models.
        split: only its videos are asked for.

    Raises:
        ConfigError: a model is gone; besides, what `make_features` raises.
    """
    if not features.extract:
        return features
    from ops.features.network import resolve_pinned

    sources = [resolve_pinned(extractor, features.num_frames, settings) for extractor in extractors]
    rows = read_table(layout.entries_table(dataset.name)).to_pylist()
    only = {row["video_id"] for row in rows if row["table"] == "segments" and row["split"] == split}
    keys = {
        one.video_id: one.key(features)
        for one in from_frames(features, dataset, layout, [source.key for source in sources])
    }
    stored = {row["video_id"]: row["key"] for row in read_rows(features, layout)}
    if all(stored.get(video) == keys.get(video) for video in only):
        return features
    pairs = zip(features.extract, sources, strict=True)
    extract = tuple(
        own if source.version is None else own.model_copy(update={"model": source.version})
        for own, source in pairs
    )
    pinned = features.model_copy(update={"extract": extract})
    make_features(pinned, layout, settings, only=only)
    return pinned


def read_rows(features: Features, layout: Layout) -> list[Row]:
    """The features' ledger, stored and refused videos, sorted within each bucket."""
    uris = (
        layout.features_manifest(features.dataset, features.key(), number)
        for number in range(BUCKETS)
    )
    return read_ledgers(uris, FEATURES).to_pylist()


def _requests(
    features: Features, dataset: Dataset, layout: Layout, settings: Settings, report: FeaturesReport
) -> tuple[list[Request], Sequence[Any]]:
    if features.extract:
        from ops.features.network import resolve

        sources = [
            resolve(extraction, features.num_frames, settings) for extraction in features.extract
        ]
        report.models = {source.reference: source.sha256 for source in sources}
        requests = from_frames(features, dataset, layout, [source.key for source in sources])
        if not any(one.frames_uri for one in requests):
            raise FeaturesError(
                f"features '{features.name}': no stored frames of dataset '{dataset.name}'; bring"
                " its videos in first"
            )
        return requests, sources
    requests = from_files(features, dataset, layout)
    if not any(one.streams and not one.reason for one in requests):
        where = ", ".join(stream.path for stream in features.files)
        raise FeaturesError(
            f"features '{features.name}': no video has its files ({where}) below"
            f" {layout.dataset_root(dataset)}"
        )
    return requests, ()


def _run(
    jobs: list[FeaturesJob], sources: Sequence[Any], settings: Settings, engine: Engine | None
) -> Generator[tuple[FeaturesJob, FeaturesOutcome], None, None]:
    if not jobs:
        return
    chosen: Any = jobs
    outcomes: Any
    if not sources:
        from ops.features.imported import import_all

        outcomes = import_all(chosen)
    elif engine == "ray" or (engine is None and settings.ray_address):
        from ops.features.actors import extract_on_ray

        outcomes = extract_on_ray(sources, chosen, settings)
    else:
        from ops.features.extract import extract_here

        outcomes = extract_here(sources, chosen)
    with closing(outcomes):
        yield from outcomes
