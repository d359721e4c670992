"""The frames ledger: what is stored, and what was refused and why. Readers trust it alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from configs.schema import BUCKETS, Dataset, content_hash
from configs.versions import FRAMES
from ops.files.patience import patient
from ops.files.storage import StorageError, is_local, list_files, local_path, read_bytes, remove, write_bytes
from ops.store.layout import Layout, array_below, arrays_of_ledger
from ops.store.ledger import read_ledgers
from ops.store.tables import MANIFEST

REMOVERS = 16


def frames_key(sha256: str, dataset: Dataset) -> str:
    """Ledger key of one video's frames: its content, how it is decoded and stored, and the code that does it."""
    return content_hash([sha256, dataset.frames.key(), FRAMES])


def frames_keys(sha256: Iterable[str], dataset: Dataset) -> list[str]:
    """`frames_key` of many contents, given as hexadecimal digests: a microsecond each."""
    before, after = '["', f'",{json.dumps(dataset.frames.key())},{json.dumps(FRAMES)}]'
    return [hashlib.sha256(f"{before}{digest}{after}".encode()).hexdigest()[:16] for digest in sha256]


def read_manifest(layout: Layout, dataset: Dataset, buckets: Iterable[int] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Ledger rows of `buckets` (None: all; schema `ops.store.tables.MANIFEST`), stored and quarantined ones."""
    key = dataset.frames.key()
    chosen = range(BUCKETS) if buckets is None else buckets
    return read_ledgers((layout.manifest(dataset.name, key, bucket) for bucket in chosen), MANIFEST, columns)


class Journal:
    """Names of arrays that may lie in the store without a ledger row, written down before they are begun.

    `folder` holds one small file per group of arrays that are worked on together; it goes when they are in the ledger. The arrays lie
    below the folder `arrays`: a name of anything else is damage, and nothing is removed by it.
    """

    def __init__(self, folder: str, arrays: str) -> None:
        self.folder, self.arrays = folder, arrays
        self._next = 0

    def open(self, arrays: Iterable[str]) -> int:
        """Writes down arrays that the coming work may create or delete; returns the group's number."""
        number = self._next
        self._next += 1
        write_bytes(self._uri(number), json.dumps(sorted(arrays)).encode())
        return number

    def close(self, number: int) -> None:
        """The group's arrays are in the ledger or gone."""
        remove(self._uri(number))

    def names(self) -> list[str]:
        """The place of every array that is written down. Raises StorageError for a file that names anything else."""
        return sorted({place for info in list_files(self.folder) for place in self._places(info.uri)})

    def _places(self, file: str) -> list[str]:
        try:
            names = [str(name) for name in json.loads(read_bytes(file))]
        except (ValueError, TypeError, RecursionError) as error:
            raise StorageError(file, f"damaged, no list of arrays ({error}); look at it, then remove it") from error
        places = [array_below(self.arrays, name) for name in names]
        if None in places:
            found = f"it names {names[places.index(None)]!r}, which is no array below {self.arrays}"
            raise StorageError(file, f"damaged: {found}; nothing was touched. Look at the file, then remove it")
        return [place for place in places if place is not None]

    def sweep(self, committed: set[str]) -> list[str]:
        """Removes what a run that was cut short has left: every array written down that is not committed. Returns their URIs."""
        left = [name for name in self.names() if name not in committed]
        self.remove_arrays(left)
        remove(self.folder)
        return left

    def remove_arrays(self, uris: Iterable[str]) -> None:
        """Removes arrays of this store, waiting for a store that is away. Raises StorageError before it would touch anything else."""
        uris = list(uris)
        for uri in uris:
            if array_below(self.arrays, uri) != uri:
                raise StorageError(self.arrays, f"found {uri!r} to remove; allowed: arrays below this folder")
            if is_local(uri) and not _really_below(self.arrays, uri):
                raise StorageError(uri, f"a link leads out of {self.arrays}; it is not followed: remove the link")
        if uris:
            with ThreadPoolExecutor(min(REMOVERS, len(uris))) as pool:
                list(pool.map(lambda uri: patient(uri, lambda: remove(uri)), uris))

    def _uri(self, number: int) -> str:
        return f"{self.folder}/{number:08d}.json"


def _really_below(folder: str, uri: str) -> bool:
    """Whether a local array's own folder lies below `folder` once links are followed."""
    root, parent = (os.path.realpath(local_path(place)) for place in (folder, uri.rpartition("/")[0]))
    return os.path.commonpath([root, parent]) == root


def journal_of(manifest_uri: str) -> Journal:
    """The journal of one ledger, frames' or features'."""
    arrays = arrays_of_ledger(manifest_uri)
    assert arrays is not None, f"{manifest_uri} is no ledger of arrays"
    return Journal(f"{manifest_uri.removesuffix('.parquet')}.pending", arrays)
