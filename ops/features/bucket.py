"""One bucket of the features ledger while it is worked on: what is wanted of it, what changes, and in which order it is made to last.

Arrays are written down in a journal before they are begun, the ledger's row follows the array, and an array that the ledger no longer
names goes after the row that replaces it: cut short anywhere, the ledger names whole arrays only, and the next run removes the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from configs import versions
from configs.schema import BUCKETS, Features
from ops.features.imported import ImportJob, Named
from ops.features.jobs import ExtractJob, Job, Outcome
from ops.features.listing import stamp
from ops.features.wanted import Wanted
from ops.files.storage import list_files, read_bytes, write_bytes
from ops.store.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.ledger import Ledger, read_ledger
from ops.store.manifest import journal_of
from ops.store.tables import FEATURES

Row = dict[str, Any]
UNFINISHED = ("parts", "pending", "lease.json")  # beside a ledger only while somebody works on it


@dataclass
class Plan:
    """What there is to do: rows that need no work, videos to forget, jobs. `reused` videos are as they should be."""

    put: list[Row] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    reused: int = 0

    def __bool__(self) -> bool:
        return bool(self.put or self.drop or self.jobs)


class Bucket:
    """A bucket with work to do. It holds the ledger's lease from `begin` to the end of its `with` block."""

    def __init__(self, number: int, features: Features, layout: Layout, wanted: list[Wanted], again: bool, lying: set[str]) -> None:
        """`lying` are the names in the ledgers' folder, listed once: what is not among them need not be asked for."""
        self.number, self.features, self.layout, self.again = number, features, layout, again
        self.wanted = {one.video_id: one for one in wanted}
        manifest = layout.features_manifest(features.dataset, features.key(), number)
        self.ledger, self.journal = Ledger(manifest, FEATURES), journal_of(manifest)
        self._files_uri = f"{manifest.removesuffix('.parquet')}.files.json"
        self._has = {suffix: f"{number:04d}.{suffix}" in lying for suffix in ("parquet", "files.json", *UNFINISHED)}
        self.rows: dict[str, Row] = {}
        self.plan = Plan()
        self._doomed: list[str] = []
        self._group: int | None = None
        self._seen = self._read_seen()
        self._seen_before = dict(self._seen)

    def look(self) -> bool:
        """Plans from the ledger as it is; whether there is anything to do, or to tidy up after a run that was cut short."""
        self._read_rows(self._has["parquet"] or self._has["parts"])
        self.plan = self._planned()
        return bool(self.plan) or any(self._has[suffix] for suffix in UNFINISHED)

    def begin(self) -> None:
        """Takes the ledger, cleans up after a run that was cut short, and settles what needs no work. Raises lease.Busy, StorageError."""
        self.ledger.open()
        self._read_rows()  # nobody changes them from here on
        self.plan = self._planned()
        self.journal.sweep({row["uri"] for row in self.rows.values()})
        replaced = {self.rows[name]["uri"] for name in self._touched() if name in self.rows}
        arrays = {job.uri for job in self.plan.jobs} | replaced
        arrays = {uri for uri in arrays if uri}
        if arrays:
            self._group = self.journal.open(arrays)
        for row in self.plan.put:
            self._replace(row["video_id"], row)
        for video in self.plan.drop:
            self._replace(video, None)
            self._seen.pop(video, None)
        self.commit()

    def settle(self, job: Job, outcome: Outcome) -> None:
        """Takes in what came of a job."""
        if isinstance(job, ImportJob) and outcome.sha256 is not None:
            self._seen[job.video_id] = [_stamp(job.streams), outcome.sha256]
        if outcome.unchanged:
            return
        sha256, key = outcome.sha256 or job.sha256, outcome.key or job.key
        uri = "" if outcome.reason else job.uri
        numbers = {"num_steps": outcome.num_steps, "channels": outcome.channels, "bytes": outcome.bytes, "seconds": outcome.seconds}
        self._replace(job.video_id, self._row(job.video_id, sha256, key, uri, outcome.reason, numbers))

    def commit(self) -> None:
        """Writes the ledger, then removes the arrays that it no longer names."""
        self.ledger.commit()
        named = {row["uri"] for row in self.rows.values()}
        self.journal.remove_arrays(uri for uri in self._doomed if uri not in named)
        self._doomed.clear()

    def finish(self) -> None:
        """The last commit of a run that reached its end."""
        self.commit()
        if self._group is not None:
            self.journal.close(self._group)
        if self._seen != self._seen_before:
            write_bytes(self._files_uri, json.dumps(self._seen, sort_keys=True).encode())

    def __enter__(self) -> Bucket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ledger.__exit__(kind, error, trace)

    def _read_rows(self, any_there: bool = True) -> None:
        rows = read_ledger(self.ledger.uri, FEATURES).to_pylist() if any_there else []
        self.rows = {row["video_id"]: row for row in rows}

    # ------------------------------------------------------------------------------------------------- planning

    def _touched(self) -> list[str]:
        return [*(row["video_id"] for row in self.plan.put), *self.plan.drop, *(job.video_id for job in self.plan.jobs)]

    def _planned(self) -> Plan:
        plan = Plan(drop=sorted(set(self.rows) - set(self.wanted)))
        for video, one in sorted(self.wanted.items()):
            old = self.rows.get(video)
            again = self.again and old is not None and old["status"] != "ok"
            if one.reason:
                key = one.key(self.features)
                if old is not None and old["key"] == key:
                    plan.reused += 1
                else:
                    plan.put.append(self._row(video, one.sha256, key, "", one.reason, {}))
            elif old is not None and old["key"] == self._known_key(one) and not again:
                plan.reused += 1
            else:
                plan.jobs.append(self._job(one, None if again or old is None else old["key"]))
        return plan

    def _known_key(self, one: Wanted) -> str | None:
        """The key that the features should have; None where only reading the files can tell."""
        if one.frames_uri:
            return one.key(self.features)
        seen = self._seen.get(one.video_id)
        return one.key(self.features, seen[1]) if seen is not None and seen[0] == _stamp(one.streams) else None

    def _job(self, one: Wanted, old_key: str | None) -> Job:
        features = self.features
        fps = features.fps if features.fps is not None else one.entry.fps
        attributes = {
            "video_id": one.video_id,
            "dataset": features.dataset,
            "features_key": features.key(),
            "stride": features.stride,
            "num_frames": features.num_frames,
            "fps": fps,
            "duration_s": one.entry.duration_s,  # of stored frames: their own, found later
            "time_of_step": "(step * stride + 0.5 * num_frames) / fps",
            "code_version": versions.FEATURES,
        }

        def key_of(sha256: str) -> str:
            return one.key(features, sha256)

        if one.frames_uri:
            key = one.key(features)
            uri = self.layout.features(features.dataset, features.key(), one.video_id, key)
            more = {"source_key": one.sha256, "key": key}
            return ExtractJob(one.video_id, features, {**attributes, **more}, one.sha256, key, uri, one.frames_uri)
        # The place must be known before the content is: it goes by the files' stamp, which another content changes too.
        uri = self.layout.features(features.dataset, features.key(), one.video_id, one.key(features, _stamp(one.streams)))
        return ImportJob(one.video_id, features, attributes, "", "", uri, one.streams, old_key, key_of)

    # ------------------------------------------------------------------------------------------------- rows

    def _row(self, video_id: str, sha256: str, key: str, uri: str, reason: str, numbers: dict[str, Any]) -> Row:
        blank = {"num_steps": 0, "channels": 0, "bytes": 0, "seconds": 0.0}
        status = "quarantined" if reason else "ok"
        texts = {"sha256": sha256, "key": key, "uri": uri, "status": status, "reason": reason}
        return {"video_id": video_id, "dataset": self.features.dataset, **texts, **blank, **numbers}

    def _replace(self, video_id: str, row: Row | None) -> None:
        old = self.rows.pop(video_id, None)
        if old is not None and old["uri"]:
            self._doomed.append(old["uri"])
        if row is None:
            self.ledger.drop([video_id])
        else:
            self.rows[video_id] = row
            self.ledger.put([row])

    def _read_seen(self) -> dict[str, list[str]]:
        """Stamp and hash of each video's files when they were last read; what is lost here costs reading them again."""
        try:
            return json.loads(read_bytes(self._files_uri)) if self._has["files.json"] else {}
        except (FileNotFoundError, ValueError):
            return {}


def _stamp(streams: tuple[Named, ...]) -> str:
    return stamp([info for _, _, files in streams for info in files])


def open_buckets(features: Features, layout: Layout, wanted: list[Wanted], retry_quarantined: bool) -> Iterator[Bucket]:
    """The buckets, planned from the ledgers as they are. None is begun."""
    by_bucket: dict[int, list[Wanted]] = {number: [] for number in range(BUCKETS)}
    for one in wanted:
        by_bucket[bucket_of(one.video_id)].append(one)
    folder = layout.features_manifest(features.dataset, features.key(), 0).rpartition("/")[0]
    lying = {info.path_below.partition("/")[0] for info in list_files(folder)}
    for number, some in by_bucket.items():
        yield Bucket(number, features, layout, some, retry_quarantined, lying)
