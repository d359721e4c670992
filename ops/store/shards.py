"""The bytes of a Zarr v3 shard ("sharding_indexed", index at the end): chunks, then (offset, bytes)
of each, then a CRC32C.

A shard here is always written whole, from chunks that are already encoded, so that the frames of a
video need not be in memory. Source:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from __future__ import annotations

import google_crc32c
import numpy as np

ABSENT = np.uint64(2**64 - 1)
CHECKSUM_BYTES = 4


def index_bytes(chunks_per_shard: int) -> int:
    """Length of a shard's index with its checksum."""
    return 16 * chunks_per_shard + CHECKSUM_BYTES


def with_checksum(chunk: bytes) -> bytes:
    """The chunk as Zarr's crc32c codec stores it."""
    return chunk + int(google_crc32c.value(chunk)).to_bytes(CHECKSUM_BYTES, "little")


def without_checksum(stored: memoryview) -> memoryview:
    """The chunk that the crc32c codec stored. Raises ValueError where the checksum does not
    match.
    """
    chunk, checksum = stored[:-CHECKSUM_BYTES], stored[-CHECKSUM_BYTES:]
    if int(google_crc32c.value(bytes(chunk))) != int.from_bytes(checksum, "little"):
        raise ValueError("the checksum does not match")
    return chunk


def pack(chunks: list[bytes], chunks_per_shard: int) -> bytes:
    """A shard of these encoded chunks in their order; the places up to `chunks_per_shard` are
    marked absent.
    """
    index = np.full((chunks_per_shard, 2), ABSENT, "<u8")
    sizes = np.array([len(chunk) for chunk in chunks], np.uint64)
    index[: len(chunks), 0] = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.uint64)
    index[: len(chunks), 1] = sizes
    return b"".join([*chunks, with_checksum(index.tobytes())])


def parse_index(data: bytes, chunks_per_shard: int) -> np.ndarray:
    """Int64 [chunks, 2] of (offset, bytes); an absent chunk has bytes -1. Raises ValueError for a
    damaged index.
    """
    if len(data) != index_bytes(chunks_per_shard):
        raise ValueError("the shard is shorter than its index")
    raw = np.frombuffer(bytes(without_checksum(memoryview(data))), "<u8").reshape(-1, 2)
    index = np.where(raw == ABSENT, 0, raw).astype(np.int64)
    index[raw[:, 1] == ABSENT, 1] = -1
    return index
