"""What lies in a store and nobody will ever read: arrays without a ledger row, and the stores of
configurations that are no longer in use.

What a run works on stays: its buckets are busy, and nothing of theirs is touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ops.files.storage import TEMPORARY, is_local, list_files, local_path, remove
from ops.store.buckets import bucket_of, bucket_of_file
from ops.store.ledger import read_ledgers
from ops.store.stores import Hold, Store, arrays_of, journaled, running, video_of

REMOVERS = 16
TEMPORARY_AGE_S = 24 * 3600  # a temporary file that old is nobody's
Progress = Callable[[int, int], None]


@dataclass
class Garbage:
    """What can go of one store, by URI, with bytes: `arrays` without a row, the `whole` store,
    forgotten `temporary` files.

    `busy` buckets were left out, because a run works on them.
    """

    store: Store
    arrays: dict[str, int] = field(default_factory=dict)
    whole: int | None = None
    temporary: dict[str, int] = field(default_factory=dict)
    busy: set[int] = field(default_factory=set)

    @property
    def bytes(self) -> int:
        """Disk that comes free."""
        return (self.whole or 0) + sum(self.arrays.values()) + sum(self.temporary.values())


def find_garbage(store: Store, delete: bool = False, progress: Progress | None = None) -> Garbage:
    """Looks through one store for what no ledger names.

    Args:
        store: of frames or features.
        delete: removes what is found.
        progress: is told (done, all) of what is removed.

    Raises:
        LedgerError: a ledger is damaged; without it no array is known to be garbage.
        StorageError: the store fails.
    """
    if not delete:
        return _find(store, running(store))
    with Hold(store) as hold:
        garbage = _find(store, hold.busy)
        targets = (
            [store.folder] if garbage.whole is not None else [*garbage.arrays, *garbage.temporary]
        )
        with ThreadPoolExecutor(REMOVERS) as pool:
            for done, _ in enumerate(pool.map(remove, targets), 1):
                if progress is not None:
                    progress(done, len(targets))
        return garbage


def _find(store: Store, busy: set[int]) -> Garbage:
    # In this order: an array that was begun after the listing is not in it, one that was begun
    # before is in a journal or, later, a ledger.
    listing = list_files(store.folder)
    if not store.current:
        whole = None if busy else sum(info.bytes for info in listing)
        return Garbage(store, whole=whole, busy=busy)
    theirs = journaled(store, busy)
    named = set(
        read_ledgers(store.ledgers, store.schema, ["video_id", "array_uri"])[
            "array_uri"
        ].to_pylist()
    )
    arrays = {}
    for uri, files in arrays_of(store, listing).items():
        video_id, _ = video_of(store, uri)
        if (
            uri not in named
            and uri not in theirs
            and not busy & {bucket_of(video_id), bucket_of_file(video_id)}
        ):
            arrays[uri] = sum(info.bytes for info in files)
    return Garbage(store, arrays, temporary=_temporary(store.folder), busy=busy)


def _temporary(folder: str) -> dict[str, int]:
    """Temporary files that a process which was killed has left on a local disk."""
    found: dict[str, int] = {}
    if is_local(folder):
        for place, _, names in os.walk(local_path(folder)):
            for name in names:
                if name.endswith(TEMPORARY):
                    stat = Path(place, name).stat()
                    if time.time() - stat.st_mtime > TEMPORARY_AGE_S:
                        found[str(Path(place, name))] = stat.st_size
    return found
