"""The manifest of frames: the ledger of what is stored, and of what was refused and why. Readers
trust it alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

import pyarrow as pa

from configs.schema import BUCKETS, Dataset, content_hash
from configs.versions import FRAMES
from ops.store.layout import Layout
from ops.store.ledger import read_ledgers
from ops.store.tables import MANIFEST


def frames_key(sha256: str, dataset: Dataset) -> str:
    """Ledger key of one video's frames: its content, how it is decoded and stored, and the code
    that does it.
    """
    return content_hash([sha256, dataset.frames.key(), FRAMES])


def frames_keys(sha256: Iterable[str], dataset: Dataset) -> list[str]:
    """`frames_key` of many contents, given as hexadecimal digests: a microsecond each."""
    before, after = '["', f'",{json.dumps(dataset.frames.key())},{json.dumps(FRAMES)}]'
    return [
        hashlib.sha256(f"{before}{digest}{after}".encode()).hexdigest()[:16] for digest in sha256
    ]


def read_manifest(
    layout: Layout,
    dataset: Dataset,
    buckets: Iterable[int] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Ledger rows of stored and quarantined videos; schema `ops.store.tables.MANIFEST`.

    Args:
        layout: where the storage lies.
        dataset: its frames configuration names the store.
        buckets: whose rows; None is all.
        columns: reads only these, which must have video_id; None is all.
    """
    key = dataset.frames.key()
    chosen = range(BUCKETS) if buckets is None else buckets
    return read_ledgers(
        (layout.manifest(dataset.name, key, bucket) for bucket in chosen), MANIFEST, columns
    )
