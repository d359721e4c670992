"""The stores of a dataset: one of frames per decode configuration, one of features per feature
configuration, each with its ledgers.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from configs.schema import BUCKETS
from ops.files.storage import FileInfo, folders
from ops.store.journal import journal_of
from ops.store.layout import Layout
from ops.store.lease import Busy, holder, lives
from ops.store.ledger import Ledger, lease_uri
from ops.store.tables import FEATURES, MANIFEST

Kind = Literal["frames", "features"]


@dataclass(frozen=True)
class Store:
    """Arrays and ledgers below `folder`; `key` is the configuration's hash, and `current` says
    whether it is in use.
    """

    kind: Kind
    dataset: str
    key: str
    folder: str
    current: bool

    @property
    def schema(self) -> pa.Schema:
        """Of its ledgers."""
        return MANIFEST if self.kind == "frames" else FEATURES

    @property
    def ledgers(self) -> list[str]:
        """URIs of its ledgers, by bucket."""
        return [f"{self.folder}/manifest/{bucket:04d}.parquet" for bucket in range(BUCKETS)]


def stores(layout: Layout, dataset: str, current: Iterable[str]) -> list[Store]:
    """What lies below the storage root for a dataset.

    Args:
        layout: where the storage lies.
        dataset: its name.
        current: keys that today's configurations have; stores of others are not current.
    """
    keys = set(current)
    found: list[Store] = []
    kinds: tuple[Kind, ...] = ("frames", "features")
    for kind in kinds:
        folder = f"{layout.root}/{kind}/{dataset}"
        found += [
            Store(kind, dataset, key, f"{folder}/{key}", key in keys) for key in folders(folder)
        ]
    return found


def arrays_of(store: Store, listing: Iterable[FileInfo]) -> dict[str, list[FileInfo]]:
    """Files of each array (by its URI) in a listing of the store's folder, whole arrays and pieces
    of them.
    """
    arrays: dict[str, list[FileInfo]] = {}
    for info in listing:
        if info.path_below.startswith("arrays/") and ".zarr/" in info.path_below:
            uri = f"{store.folder}/{info.path_below.rsplit('.zarr/', 1)[0]}.zarr"
            arrays.setdefault(uri, []).append(info)
    return arrays


def video_of(store: Store, array: str) -> tuple[str, str]:
    """(video_id, ledger key) that an array's URI names."""
    video_id, name = array.removeprefix(f"{store.folder}/arrays/").rsplit("/", 1)
    return video_id, name.removesuffix(".zarr")


class Hold:
    """Leases on the ledgers of a store, so that no run begins to write there; those that a run has
    already are in `busy`.
    """

    def __init__(self, store: Store) -> None:
        self._ledgers = [Ledger(uri, store.schema) for uri in store.ledgers]
        self.busy: set[int] = set()

    def __enter__(self) -> Hold:
        for bucket, ledger in enumerate(self._ledgers):
            try:
                ledger.take_lease()
            except Busy:
                self.busy.add(bucket)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *of: object) -> None:
        for ledger in self._ledgers:
            with suppress(OSError):
                ledger.abandon()


def running(store: Store) -> set[int]:
    """Buckets that a run holds now, as far as one look can tell."""
    records = {bucket: holder(lease_uri(uri)) for bucket, uri in enumerate(store.ledgers)}
    return {
        b
        for b, record in records.items()
        if record is not None and (lives(lease_uri(store.ledgers[b]), record, 2.0))
    }


def journaled(store: Store, buckets: Iterable[int]) -> set[str]:
    """Arrays that runs on these buckets have written down as theirs."""
    return {name for bucket in buckets for name in journal_of(store.ledgers[bucket]).names()}
