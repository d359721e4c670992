"""One bucket's ledger while a run works on it: the lease, the journal, the order in which changes
are made to last, and patience.

Arrays are written down in the journal before they are begun, a video's row follows its array, and
an array that the ledger no longer names goes after the row that replaces it: cut short anywhere,
the ledger names whole arrays only, and the next run removes the others. A store that is away is
waited for, up to `ops.files.patience.PATIENCE_S`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ops.files.patience import patient
from ops.files.storage import StorageError
from ops.store.journal import journal_of
from ops.store.ledger import ID, Ledger

COMMIT_EVERY_S = 2.0
COMMIT_EVERY_ROWS = 32
Row = Mapping[str, Any]


@dataclass
class _Group:
    """Videos that the journal holds together; `left` of them have no row yet."""

    number: int
    left: int


@dataclass(frozen=True)
class _Ticket:
    """What is kept of a video under way: places that go unless its row names them."""

    group: _Group
    places: tuple[str, ...]
    unknown: bool  # what is begun may have any name in the video's folder


class BucketWriter:
    """A ledger that is written row by row, and its arrays.

    Args:
        ledger: is taken by `begin`.
        arrays: False for a ledger that names none (probed files).
    """

    def __init__(self, ledger: Ledger, arrays: bool = True) -> None:
        self.ledger, self.arrays = ledger, arrays
        self._journal = journal_of(ledger.uri) if arrays else None
        self._groups: list[_Group] = []
        self._tickets: dict[str, _Ticket] = {}
        self._to_delete: list[str] = []

    def begin(self) -> None:
        """Takes the ledger and removes what a run that was cut short has left. Raises lease.Busy,
        StorageError.
        """
        self.ledger.open()
        if self._journal is not None:
            if self._journal.left_over():
                self._journal.sweep(self._named())
            self.ledger.compact()

    def replace(self, rows: Iterable[Row], dropped: Iterable[str], places: Iterable[str]) -> None:
        """Commits rows that need no work, and forgets videos.

        Args:
            rows: of the ledger's schema.
            dropped: ids of the videos to forget.
            places: URIs of the arrays that their former rows name; empty ones are passed over.
        """
        self._to_delete += [place for place in places if place]
        if self._to_delete and self._journal is not None:
            self._groups.append(self._noted(self._to_delete, 0))
        self.ledger.drop(dropped)
        self.ledger.put(rows)
        self.commit()

    def expect(self, places: Mapping[str, Iterable[str | None]], unknown: bool = False) -> None:
        """Writes down the arrays that the coming work begins or replaces; before it begins.

        Args:
            places: URIs of arrays by video_id; None is no array.
            unknown: the new ones have no name yet: the journal holds the video's folder then.
        """
        own = {
            video: tuple(place for place in several if place) for video, several in places.items()
        }
        if own and self._journal is not None:
            names = (
                {self._journal.any_of(video) for video in own}
                if unknown
                else {place for several in own.values() for place in several}
            )
            group = self._noted(names, len(own))
            self._groups.append(group)
            self._tickets |= {
                video: _Ticket(group, several, unknown) for video, several in own.items()
            }

    def _noted(self, places: Iterable[str], left: int) -> _Group:
        assert self._journal is not None
        # files of the journal have numbers, and whoever took over begins with the same ones
        patient(self.ledger.uri, self.ledger.check)
        return _Group(self._journal.open(places), left)

    def apply(self, row: Row) -> None:
        """Takes in the row of a video that was worked on; what was expected of it and the row does
        not name is removed by a commit.
        """
        if self._journal is not None:
            ticket = self._finished(row[ID])
            # refused: what was begun is in no row's name
            if ticket.unknown and not row["array_uri"]:
                self._remove_all(row[ID], None)
            else:
                self._to_delete += [place for place in ticket.places if place != row["array_uri"]]
        self.ledger.put([row])

    def discard(self, video_id: str, kept: str | None) -> None:
        """No row comes of work whose arrays had no name: whatever lies in the video's folder goes,
        but for the array of its row.
        """
        self._finished(video_id)
        self._remove_all(video_id, kept)

    def _remove_all(self, video_id: str, kept: str | None) -> None:
        assert self._journal is not None
        journal = self._journal
        places = patient(self.ledger.uri, lambda: journal.arrays_of(video_id))
        self._to_delete += [place for place in places if place != kept]

    def keep(self, video_id: str) -> None:
        """The video's row stays as it is, and nothing was begun."""
        self._finished(video_id)

    def _finished(self, video_id: str) -> _Ticket:
        ticket = self._tickets.pop(video_id)
        ticket.group.left -= 1
        return ticket

    def commit(self) -> None:
        """Makes the rows last, then removes the arrays that they have replaced, then forgets the
        journal of what is done.
        """
        patient(self.ledger.uri, self.ledger.commit)
        done = [group for group in self._groups if group.left == 0]
        if self._journal is None or not (self._to_delete or done):
            return
        # whoever took over meanwhile may be writing these very arrays and journal files
        patient(self.ledger.uri, self.ledger.check)
        self._journal.remove_arrays(self._to_delete)
        self._to_delete.clear()
        for group in done:
            self._journal.close(group.number)
            self._groups.remove(group)

    def close(self) -> None:
        """Commits what is left, brings the ledger into its compact form and gives it back."""
        if self.ledger.held:
            self.commit()
            patient(self.ledger.uri, self.ledger.close)

    def abort(self) -> None:
        """Commits what is finished and removes what is half done, and gives the ledger back. Raises
        StorageError.
        """
        try:
            if self.ledger.held:
                self.ledger.commit()
                if self._journal is None:
                    self.ledger.abandon()
                    return
                self.ledger.check()  # the journal may be another's by now
                self._journal.sweep(self._named())
                self.ledger.close()
        except StorageError:
            self.ledger.forget()
            raise

    def _named(self) -> set[str]:
        return set(self.ledger.read([ID, "array_uri"])["array_uri"].to_pylist())


class BucketWriters:
    """The writers of one run: one clock for their commits, one end for all. A run that fails keeps
    what is finished.
    """

    def __init__(self) -> None:
        self._writers: list[BucketWriter] = []
        self._committed = time.monotonic()

    def add(self, writer: BucketWriter) -> BucketWriter:
        """One more, which `begin` follows: its lease is given back with the others'."""
        self._writers.append(writer)
        return writer

    def commit_now_and_then(self) -> None:
        """Commits all when enough arrays wait for their rows, or when any row has waited long
        enough.
        """
        waiting = [writer for writer in self._writers if writer.ledger.uncommitted]
        many = (
            sum(writer.ledger.uncommitted for writer in waiting if writer.arrays)
            >= COMMIT_EVERY_ROWS
        )
        if many or (waiting and time.monotonic() - self._committed >= COMMIT_EVERY_S):
            for writer in self._writers:
                writer.commit()
            self._committed = time.monotonic()

    def __enter__(self) -> BucketWriters:
        return self

    def __exit__(self, kind: type[BaseException] | None, *of: object) -> None:
        if kind is not None:
            self._abort()
            return
        try:
            for writer in self._writers:
                writer.close()
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        away = False
        # a store that fails, or Ctrl-C; a store that is away is not asked twice
        for writer in self._writers:
            try:
                writer.ledger.forget() if away else writer.abort()
            except StorageError as error:
                away = error.transient
