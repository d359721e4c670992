"""Features of one video as a Zarr v3 array [T, C], float32 or float16: chunks of whole steps, zstd,
a checksum on each.

Any Zarr v3 reader can open it. `zarr.json` is written last: an array that was cut short cannot be
opened. A reader here can be pickled, holds no handle, and takes only the chunks that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ops.files.storage import StorageError, read_bytes, remove, write_bytes
from ops.store.shards import without_checksum

ZSTD_LEVEL = 3
CHUNK_BYTES = 4 * 2**20  # a video's features are mostly read whole: few chunks
MAX_REQUESTS = 8
DTYPES = ("float32", "float16")


class FeatureReadError(StorageError):
    """Features that the store does not hold whole: names the array's URI and the cause."""


def write_features(uri: str, features: np.ndarray, attributes: Mapping[str, Any]) -> int:
    """Writes features whole, replacing whatever lies at the URI; returns the stored bytes.

    Args:
        uri: of the Zarr array.
        features: float32 or float16 [T, C], neither of them 0.
        attributes: what is stored beside them, as JSON.

    Raises:
        ValueError: another shape or type, or values that are not finite.
        StorageError: the store fails; nothing is left at the URI then.
    """
    if features.dtype.name not in DTYPES or features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"{uri}: found {features.dtype} {list(features.shape)}; allowed: float32 or float16"
            " [T, C]"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{uri}: found values that are not finite")
    per_chunk = min(len(features), max(1, CHUNK_BYTES // features[:1].nbytes))
    remove(uri)
    try:
        files = _encoded(features, per_chunk, attributes)
        for name, data in files.items():
            write_bytes(f"{uri}/{name}", data)
        return sum(len(data) for data in files.values())
    except BaseException:
        remove(uri)
        raise


def _encoded(
    features: np.ndarray, per_chunk: int, attributes: Mapping[str, Any]
) -> dict[str, bytes]:
    """Content of the array's files by name, the metadata last: it makes the chunks an array. Zarr
    itself would write it first.
    """
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    files: dict[str, Any] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(files),
        data=features,
        chunks=(per_chunk, features.shape[1]),
        filters=None,
        compressors=[ZstdCodec(level=ZSTD_LEVEL, checksum=False), Crc32cCodec()],
        fill_value=0.0,
        attributes={"axes": ["time", "channel"], **attributes},
        dimension_names=("time", "channel"),
        config={"write_empty_chunks": True},
    )
    metadata = json.loads(files["zarr.json"].to_bytes())
    # as it has always been stored
    compact = {
        "zarr_format": metadata["zarr_format"],
        "node_type": metadata["node_type"],
        **metadata,
    }
    # Zarr encodes them in whatever order its threads end.
    count = -(-len(features) // per_chunk)
    chunks = {name: files[name].to_bytes() for name in (f"c/{number}/0" for number in range(count))}
    return {**chunks, "zarr.json": json.dumps(compact, separators=(",", ":")).encode()}


class FeatureReader:
    """Features of one stored array, [T, C]."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._metadata: dict[str, Any] | None = None

    def __getstate__(self) -> str:
        return self.uri

    def __setstate__(self, uri: str) -> None:
        self.__init__(uri)  # type: ignore[misc]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, C). Raises FeatureReadError where the array is missing."""
        steps, channels = self._open()["shape"]
        return steps, channels

    @property
    def dtype(self) -> np.dtype:
        """float32 or float16."""
        return np.dtype(self._open()["data_type"])

    @property
    def attributes(self) -> dict[str, Any]:
        """What the writer noted: stride, num_frames, fps, duration_s, video_id, streams, source,
        code_version.
        """
        return self._open()["attributes"]

    def read(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Steps [first, last) of the array: [last - first, C].

        Args:
            first: counts from 0.
            last: None is the end.

        Raises:
            IndexError: the range leaves the array.
            FeatureReadError: a chunk is missing or damaged.
            StorageError: the store fails.
        """
        steps, channels = self.shape
        last = steps if last is None else last
        if not 0 <= first <= last <= steps:
            raise IndexError(f"{self.uri}: steps [{first}, {last}) are outside the array's {steps}")
        out = np.empty((last - first, channels), self.dtype)
        if first == last:
            return out
        per_chunk = self._open()["chunk_grid"]["configuration"]["chunk_shape"][0]
        indices = range(first // per_chunk, (last - 1) // per_chunk + 1)
        with ThreadPoolExecutor(min(len(indices), MAX_REQUESTS)) as threads:
            for index, chunk in zip(indices, threads.map(self._chunk, indices), strict=True):
                start, end = max(first, index * per_chunk), min(last, (index + 1) * per_chunk)
                out[start - first : end - first] = chunk[
                    start - index * per_chunk : end - index * per_chunk
                ]
        return out

    def __getitem__(self, steps: slice) -> np.ndarray:
        if not isinstance(steps, slice):
            raise TypeError(f"{self.uri}: found index {steps!r}; allowed: a slice of steps")
        first, last, step = steps.indices(len(self))
        return self.read(first, max(first, last))[::step] if step > 0 else self.read()[steps]

    def _chunk(self, index: int) -> np.ndarray:
        from numcodecs.zstd import decompress  # type: ignore[import-untyped]

        shape = self._open()["chunk_grid"]["configuration"]["chunk_shape"]
        try:
            data = decompress(
                bytes(without_checksum(memoryview(read_bytes(f"{self.uri}/c/{index}/0"))))
            )
            return np.frombuffer(data, self.dtype.newbyteorder("<")).reshape(shape)
        except FileNotFoundError as error:
            raise FeatureReadError(self.uri, f"chunk {index} is missing") from error
        except (ValueError, RuntimeError) as error:
            raise FeatureReadError(self.uri, f"chunk {index} is damaged: {error}") from error

    def _open(self) -> dict[str, Any]:
        if self._metadata is None:
            try:
                metadata = json.loads(read_bytes(f"{self.uri}/zarr.json"))
            except FileNotFoundError as error:
                raise FeatureReadError(self.uri, "no such array") from error
            except ValueError as error:
                raise FeatureReadError(self.uri, f"zarr.json is damaged: {error}") from error
            codecs = [codec.get("name") for codec in metadata.get("codecs", ())]
            if (
                codecs != ["bytes", "zstd", "crc32c"]
                or metadata.get("data_type") not in DTYPES
                or len(metadata.get("shape", ())) != 2
            ):
                raise FeatureReadError(self.uri, "not an array of features")
            self._metadata = metadata
        return self._metadata
