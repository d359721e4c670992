"""One bucket of the manifest of features: what is asked of it, and what there is to do.
`ops.store.bucket_writer` makes it last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from configs import versions
from configs.schema import BUCKETS, Features
from ops.features.imported import ImportJob, Named
from ops.features.jobs import ExtractJob, FeaturesJob, FeaturesOutcome
from ops.features.listing import stamp
from ops.features.requests import Request
from ops.files.patience import patient
from ops.files.storage import list_files, read_bytes, write_bytes
from ops.store.bucket_writer import BucketWriter
from ops.store.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.ledger import Ledger, read_ledger
from ops.store.tables import FEATURES

Row = dict[str, Any]
UNFINISHED = ("parts", "pending", "lease.json")  # beside a ledger only while somebody works on it


@dataclass
class Plan:
    """What there is to do: rows that need no work, videos to forget, jobs. `reused` videos are as
    they should be.
    """

    put: list[Row] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    jobs: list[FeaturesJob] = field(default_factory=list)
    reused: int = 0

    def __bool__(self) -> bool:
        return bool(self.put or self.drop or self.jobs)


class Bucket:
    """A bucket of one run. `writer` holds its ledger from `begin` on."""

    def __init__(
        self,
        number: int,
        features: Features,
        layout: Layout,
        requests: list[Request],
        again: bool,
        listed: set[str],
    ) -> None:
        """`listed` are the names in the ledgers' folder, listed once: what is not among them need
        not be asked for.
        """
        self.number, self.features, self.layout, self.again = number, features, layout, again
        self.requests = {request.video_id: request for request in requests}
        manifest = layout.features_manifest(features.dataset, features.key(), number)
        self.writer = BucketWriter(Ledger(manifest, FEATURES))
        self._files_uri = f"{manifest.removesuffix('.parquet')}.files.json"
        self._has = {
            suffix: f"{number:04d}.{suffix}" in listed
            for suffix in ("parquet", "files.json", *UNFINISHED)
        }
        self.rows: dict[str, Row] = {}
        self.plan = Plan()
        self._seen = self._read_seen()
        self._seen_before = dict(self._seen)

    def look(self) -> bool:
        """Plans from the ledger as it is; whether there is anything to do, or to tidy up after a
        run that was cut short.
        """
        self._read_rows(self._has["parquet"] or self._has["parts"])
        self.plan = self._planned()
        return bool(self.plan) or any(self._has[suffix] for suffix in UNFINISHED)

    def begin(self) -> None:
        """Takes the ledger, cleans up after a run that was cut short, and commits what needs no
        work. Raises lease.Busy, StorageError.
        """
        self.writer.begin()
        self._read_rows()  # nobody changes them from here on
        self.plan = plan = self._planned()
        old = {video: row["array_uri"] for video, row in self.rows.items()}
        videos = [*(row["video_id"] for row in plan.put), *plan.drop]
        self.writer.replace(plan.put, plan.drop, [old[video] for video in videos if video in old])
        self.rows.update({row["video_id"]: row for row in plan.put})
        for video in plan.drop:
            del self.rows[video]
            self._seen.pop(video, None)
        self.writer.expect(
            {job.video_id: (job.array_uri, old.get(job.video_id)) for job in plan.jobs}
        )

    def apply(self, job: FeaturesJob, outcome: FeaturesOutcome) -> None:
        """Takes in what came of a job."""
        if isinstance(job, ImportJob) and outcome.sha256 is not None:
            self._seen[job.video_id] = [_stamp(job.streams), outcome.sha256]
        if outcome.unchanged:
            self.writer.keep(job.video_id)
            return
        sha256, key = outcome.sha256 or job.sha256, outcome.key or job.key
        uri = "" if outcome.reason else job.array_uri
        numbers = {
            "num_steps": outcome.num_steps,
            "channels": outcome.channels,
            "bytes": outcome.bytes,
            "seconds": outcome.seconds,
        }
        row = self._row(job.video_id, sha256, key, uri, outcome.reason, numbers)
        self.writer.apply(row)
        self.rows[job.video_id] = row

    def finish(self) -> None:
        """Notes what the files of each video were when they were read, at the end of a run that
        reached it.
        """
        if self._seen != self._seen_before:
            data = json.dumps(self._seen, sort_keys=True).encode()
            patient(self._files_uri, lambda: write_bytes(self._files_uri, data))

    def _read_rows(self, any_there: bool = True) -> None:
        rows = read_ledger(self.writer.ledger.uri, FEATURES).to_pylist() if any_there else []
        self.rows = {row["video_id"]: row for row in rows}

    # ----------------------------------------------------------------------------------------------
    # planning

    def _planned(self) -> Plan:
        plan = Plan(drop=sorted(set(self.rows) - set(self.requests)))
        for video, request in sorted(self.requests.items()):
            old = self.rows.get(video)
            again = self.again and old is not None and old["status"] != "ok"
            if request.reason:
                key = request.key(self.features)
                if old is not None and old["key"] == key:
                    plan.reused += 1
                else:
                    plan.put.append(self._row(video, request.sha256, key, "", request.reason, {}))
            elif old is not None and old["key"] == self._known_key(request) and not again:
                plan.reused += 1
            else:
                plan.jobs.append(self._job(request, None if again or old is None else old["key"]))
        return plan

    def _known_key(self, request: Request) -> str | None:
        """The key that the features should have; None where only reading the files can tell."""
        if request.frames_uri:
            return request.key(self.features)
        seen = self._seen.get(request.video_id)
        return (
            request.key(self.features, seen[1])
            if seen is not None and seen[0] == _stamp(request.streams)
            else None
        )

    def _job(self, request: Request, old_key: str | None) -> FeaturesJob:
        features = self.features
        fps = features.fps if features.fps is not None else request.entry.fps
        attributes = {
            "video_id": request.video_id,
            "dataset": features.dataset,
            "features_key": features.key(),
            "stride": features.stride,
            "num_frames": features.num_frames,
            "fps": fps,
            "duration_s": request.entry.duration_s,  # of stored frames: their own, found later
            "time_of_step": "(step * stride + 0.5 * num_frames) / fps",
            "code_version": versions.FEATURES,
        }

        def key_of(sha256: str) -> str:
            return request.key(features, sha256)

        if request.frames_uri:
            key = request.key(features)
            uri = self.layout.features(features.dataset, features.key(), request.video_id, key)
            more = {"source_key": request.sha256, "key": key}
            return ExtractJob(
                request.video_id,
                features,
                {**attributes, **more},
                request.sha256,
                key,
                uri,
                request.frames_uri,
            )
        # The place must be known before the content is: it goes by the files' stamp, which another
        # content changes too.
        uri = self.layout.features(
            features.dataset,
            features.key(),
            request.video_id,
            request.key(features, _stamp(request.streams)),
        )
        return ImportJob(
            request.video_id, features, attributes, "", "", uri, request.streams, old_key, key_of
        )

    # ----------------------------------------------------------------------------------------------
    # rows

    def _row(
        self, video_id: str, sha256: str, key: str, uri: str, reason: str, numbers: dict[str, Any]
    ) -> Row:
        blank = {"num_steps": 0, "channels": 0, "bytes": 0, "seconds": 0.0}
        status = "quarantined" if reason else "ok"
        texts = {"sha256": sha256, "key": key, "array_uri": uri, "status": status, "reason": reason}
        return {"video_id": video_id, "dataset": self.features.dataset, **texts, **blank, **numbers}

    def _read_seen(self) -> dict[str, list[str]]:
        """Stamp and hash of each video's files when they were last read; what is lost here costs
        reading them again.
        """
        try:
            return json.loads(read_bytes(self._files_uri)) if self._has["files.json"] else {}
        except (FileNotFoundError, ValueError):
            return {}


def _stamp(streams: tuple[Named, ...]) -> str:
    return stamp([info for _, _, files in streams for info in files])


def open_buckets(
    features: Features, layout: Layout, requests: list[Request], retry_quarantined: bool
) -> Iterator[Bucket]:
    """The buckets, planned from the ledgers as they are. None is begun.

    Args:
        features: whose ledgers are read.
        layout: of the store that has them.
        requests: one for each video that features are wanted for; what else is stored is to be
            forgotten.
        retry_quarantined: whether refused videos are planned again.
    """
    by_bucket: dict[int, list[Request]] = {number: [] for number in range(BUCKETS)}
    for request in requests:
        by_bucket[bucket_of(request.video_id)].append(request)
    folder = layout.features_manifest(features.dataset, features.key(), 0).rpartition("/")[0]
    listed = {info.path_below.partition("/")[0] for info in list_files(folder)}
    for number, some in by_bucket.items():
        yield Bucket(number, features, layout, some, retry_quarantined, listed)
