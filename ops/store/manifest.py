"""The frames ledger: what is stored, and what was refused and why. Readers trust it alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from configs.schema import BUCKETS, Dataset, content_hash
from configs.versions import FRAMES
from ops.store.files import list_files, read_bytes, remove, write_bytes
from ops.store.layout import Layout
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

    `folder` holds one small file per group of arrays that are worked on together; it goes when they are in the ledger.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
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
        """Every array that is written down."""
        groups = [json.loads(read_bytes(info.uri)) for info in list_files(self.folder)]
        return sorted({name for group in groups for name in group})

    def sweep(self, committed: set[str]) -> list[str]:
        """Removes what a run that was cut short has left: every array written down that is not committed. Returns their URIs."""
        left = [name for name in self.names() if name not in committed]
        with ThreadPoolExecutor(REMOVERS) as pool:
            list(pool.map(remove, left))
        remove(self.folder)
        return left

    def _uri(self, number: int) -> str:
        return f"{self.folder}/{number:08d}.json"


def journal_of(manifest_uri: str) -> Journal:
    """The journal of one ledger, frames' or features'."""
    return Journal(f"{manifest_uri.removesuffix('.parquet')}.pending")
