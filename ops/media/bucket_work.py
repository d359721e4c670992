"""One bucket's frames while they are made: its ledger, its journal, its jobs, and the arrays that go when a commit has let go of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from configs.schema import Dataset
from ops.compute.pool import Job, Outcome
from ops.files.patience import patient
from ops.files.storage import StorageError, exists, is_local
from ops.media.plan import Plan
from ops.media.store_job import StoreJob
from ops.store.layout import Layout
from ops.store.manifest import journal_of

GROUP = 256  # videos whose arrays are written down in the journal together
SLOWEST_FRAME_S = 0.25  # a 720p frame on a machine that has too much else to do
USUAL_PIXELS = 1280 * 720
Row = dict[str, Any]


@dataclass
class Group:
    """Videos that the journal holds together; `left` of them have no row yet."""

    number: int
    left: int


@dataclass
class Ticket:
    """What is kept of a video under way."""

    group: Group
    sha256: str
    key: str
    uri: str
    old: str | None


class BucketWork:
    """The bucket of a plan, whose ledger is open for writing."""

    def __init__(self, dataset: Dataset, layout: Layout, plan: Plan, min_deadline_s: float) -> None:
        self.dataset, self.layout, self.plan, self.min_deadline_s = dataset, layout, plan, min_deadline_s
        self._journal = journal_of(plan.ledger.uri)
        self._groups: list[Group] = []
        self._tickets: dict[str, Ticket] = {}
        self._doomed: list[str] = []

    @property
    def uncommitted(self) -> int:
        """Rows that wait for a commit."""
        return self.plan.ledger.uncommitted

    def settle_known(self) -> None:
        """Removes what a run that was cut short has left, and commits all rows that need no decoding."""
        if self._journal.names():
            self._journal.sweep(self._named())
        self.plan.ledger.compact()
        plan = self.plan
        gone = plan.gone.to_pylist()
        self._doomed += [row["uri"] for row in gone if row["uri"]]
        plan.ledger.drop(row["video_id"] for row in gone)
        for row in plan.refused.to_pylist():
            self._doomed += [row["old"]] if row["old"] else []
            plan.ledger.put([self._refusal(row["video_id"], row["sha256"], row["key"], row["reason"], 0.0)])
        if self._doomed:
            self._groups.append(Group(self._journal.open(self._doomed), 0))
        self.commit()

    def jobs(self) -> Iterator[Job]:
        """The videos to decode, in the order of their ids. A group's arrays are in the journal before its first job leaves here."""
        for first in range(0, len(self.plan.wanted), GROUP):
            rows = self.plan.wanted.slice(first, GROUP).to_pylist()
            uris = [self.layout.frames(self.dataset.name, self.dataset.frames.key(), row["video_id"], row["key"]) for row in rows]
            number = patient(self.plan.ledger.uri, lambda: self._journal.open([*uris, *(row["old"] for row in rows if row["old"])]))  # noqa: B023
            group = Group(number, len(rows))
            self._groups.append(group)
            for row, uri in zip(rows, uris, strict=True):
                self._tickets[row["video_id"]] = Ticket(group, row["sha256"], row["key"], uri, row["old"])
                yield self._job(row, uri)

    def _job(self, row: Row, uri: str) -> Job:
        size = max(1.0, row["width"] * row["height"] / USUAL_PIXELS)
        deadline_s = max(self.min_deadline_s, 4 * row["duration_s"], SLOWEST_FRAME_S * row["num_frames_packets"] * size)
        job = StoreJob(row["video_id"], row["uri"], row["sha256"], uri, self.dataset.frames, 1)
        return Job((self.plan.number, row["video_id"]), (job,), deadline_s)

    def settle(self, outcome: Outcome) -> Row:
        """Takes in what became of a job; returns the ledger row, which the next commit makes last."""
        video_id = outcome.job.key[1]
        ticket = self._tickets.pop(video_id)
        value = outcome.value or {"reason": outcome.failure, "seconds": 0.0}
        self._check_shared(outcome, ticket.uri, value)
        if "num_frames" in value:
            known = {"video_id": video_id, "dataset": self.dataset.name, "sha256": ticket.sha256, "key": ticket.key, "uri": ticket.uri}
            row = {**known, "audit": "", **value}
        else:
            row = self._refusal(video_id, ticket.sha256, ticket.key, value["reason"], value["seconds"])
            self._doomed.append(ticket.uri)  # what a worker had written when it died
        if ticket.old is not None and ticket.old != row["uri"]:
            self._doomed.append(ticket.old)
        ticket.group.left -= 1
        self.plan.ledger.put([row])
        return row

    def _check_shared(self, outcome: Outcome, uri: str, value: Row) -> None:
        """A worker on another machine must see the disks that this process sees. Raises StorageError."""
        source = outcome.job.payload[0].source
        lost = is_local(uri) and "num_frames" in value and not exists(f"{uri}/zarr.json")
        unseen = is_local(source) and value.get("reason", "").startswith("the file vanished") and exists(source)
        if lost or unseen:
            place = uri if lost else source
            raise StorageError(place, "a worker on another machine does not see it; put storage and videos on S3 or a folder of all nodes")

    def commit(self) -> None:
        """Makes the rows last, then removes the arrays that they have replaced, then forgets the journal of what is done."""
        ledger = self.plan.ledger
        patient(ledger.uri, ledger.commit)
        self._journal.remove_arrays(self._doomed)
        self._doomed.clear()
        for group in [group for group in self._groups if group.left == 0]:
            patient(ledger.uri, lambda: self._journal.close(group.number))  # noqa: B023
            self._groups.remove(group)

    def close(self) -> None:
        """Commits what is left, brings the ledger into its compact form and gives it back."""
        self.commit()
        patient(self.plan.ledger.uri, self.plan.ledger.close)

    def give_up(self) -> None:
        """Commits what is finished and removes what is half done, and gives the ledger back. Raises StorageError."""
        ledger = self.plan.ledger
        try:
            if ledger.held:
                ledger.commit()
                self._journal.sweep(self._named())
                ledger.close()
        except StorageError:
            ledger.forget()
            raise

    def _named(self) -> set[str]:
        return set(self.plan.ledger.read(["video_id", "uri"])["uri"].to_pylist())

    def _refusal(self, video_id: str, sha256: str, key: str, reason: str, seconds: float) -> Row:
        numbers = {"num_frames": 0, "height": 0, "width": 0, "fps": 0.0, "bytes": 0, "seconds": seconds}
        texts = {"uri": "", "decoder": "", "decoder_version": "", "audit": "", "status": "quarantined", "reason": reason}
        return {"video_id": video_id, "dataset": self.dataset.name, "sha256": sha256, "key": key, **numbers, **texts}
