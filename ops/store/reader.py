"""Reading frames at training speed: shard index and coalesced ranges, without Zarr's indexer.

A reader is cheap to make, opens on first use, can be pickled, and opens again in every process that uses it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from ops.store.files import StorageError, is_local, local_path, read_bytes, retry
from ops.store.manifest import read_manifest
from ops.store.shards import index_bytes, parse_index, without_checksum

__all__ = ["FrameReadError", "FrameReader", "read_manifest"]

LOCAL_GAP = 64 * 1024  # reading over a gap of this many bytes costs less than another system call
MAX_REQUESTS = 8  # S3 requests in flight
Decode = Callable[[memoryview, np.ndarray], None]
T = TypeVar("T")


class FrameReadError(StorageError):
    """A frame that the store does not hold whole: names the array's URI, the frame and the cause."""


class FrameReader:
    """Frames of one stored array, uint8 [T, H, W, 3] RGB."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._reset()

    def _reset(self) -> None:
        self._process: int | None = None
        self._shape: tuple[int, int, int, int] = (0, 0, 0, 3)
        self._attributes: dict[str, Any] = {}
        self._per_shard = 1
        self._decode: Decode = _raw
        self._indices: dict[int, np.ndarray] = {}

    def __getstate__(self) -> str:
        return self.uri

    def __setstate__(self, uri: str) -> None:
        self.uri = uri
        self._reset()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3). Raises FrameReadError where the array is missing."""
        self._open()
        return self._shape

    @property
    def attributes(self) -> dict[str, Any]:
        """What the writer noted: fps, timestamps_s, source_uri, decoder, resize, colour and more."""
        self._open()
        return self._attributes

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames at `indices`, in their order, repeats allowed (decoded once): uint8 [len(indices), H, W, 3].

        Raises IndexError for an index outside [0, T), FrameReadError for a frame that is missing or damaged, StorageError.
        """
        self._open()
        wanted = np.asarray(indices, np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= self._shape[0])]
        if outside.size:
            raise IndexError(f"{self.uri}: frame {int(outside[0])} is outside the video's {self._shape[0]} frames")
        frames = np.empty((len(wanted), *self._shape[1:]), np.uint8)
        places: dict[int, int] = {}  # frame -> its first place in the result
        for place, frame in enumerate(wanted.tolist()):
            places.setdefault(frame, place)
        shards: dict[int, list[int]] = {}
        for frame in sorted(places):
            shards.setdefault(frame // self._per_shard, []).append(frame)
        for frame, chunk in self._fetch(shards):
            self._decode_into(frame, chunk, frames[places[frame]])
        for place, frame in enumerate(wanted.tolist()):
            if places[frame] != place:
                frames[place] = frames[places[frame]]
        return frames

    # ------------------------------------------------------------------------------------------------ opening

    def _open(self) -> None:
        if self._process == os.getpid():
            return
        self._reset()
        try:
            metadata = json.loads(self._get_whole("zarr.json"))
        except FileNotFoundError as error:
            raise FrameReadError(self.uri, "no such array") from error
        try:
            grid = metadata["chunk_grid"]["configuration"]["chunk_shape"]
            sharding = metadata["codecs"][0]
            inner = sharding["configuration"]
            shape = tuple(metadata["shape"])
            if sharding["name"] != "sharding_indexed" or inner.get("index_location", "end") != "end":
                raise ValueError("it is not sharded with the index at the end")
            if inner["chunk_shape"] != [1, *shape[1:]] or grid[1:] != list(shape[1:]) or metadata["data_type"] != "uint8":
                raise ValueError("it is not uint8 in chunks of one frame")
            self._decode = _decoder([codec["name"] for codec in inner["codecs"]])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FrameReadError(self.uri, f"not an array of frames: {error}") from error
        self._shape, self._per_shard, self._attributes = shape, grid[0], metadata.get("attributes", {})
        self._process = os.getpid()

    def _index(self, shard: int) -> np.ndarray:
        """Int64 [frames of the shard, 2] of (offset, bytes)."""
        if shard not in self._indices:
            sizes = self._attributes.get("frame_bytes")
            if sizes is not None and len(sizes) == self._shape[0]:  # saves a request per shard
                own = np.array(sizes[shard * self._per_shard : (shard + 1) * self._per_shard], np.int64)
                self._indices[shard] = np.stack([np.cumsum(own) - own, own], axis=1)
            else:
                try:
                    self._indices[shard] = parse_index(self._get_tail(shard, index_bytes(self._per_shard)), self._per_shard)
                except (FileNotFoundError, ValueError) as error:
                    raise self._error(shard * self._per_shard, error) from error
        return self._indices[shard]

    def _error(self, frame: int, cause: object) -> FrameReadError:
        reason = "its shard is missing" if isinstance(cause, FileNotFoundError) else str(cause)
        return FrameReadError(self.uri, f"frame {frame} cannot be read: {reason}")

    # ------------------------------------------------------------------------------------------------ fetching

    def _fetch(self, shards: dict[int, list[int]]) -> list[tuple[int, memoryview]]:
        """(frame, stored chunk) of all frames asked for, by shard."""
        if is_local(self.uri):
            return [pair for shard, frames in shards.items() for pair in self._fetch_shard(shard, frames)]
        if len(shards) == 1:
            return self._fetch_shard(*next(iter(shards.items())))
        with ThreadPoolExecutor(min(len(shards), MAX_REQUESTS)) as threads:
            return [pair for pairs in threads.map(self._fetch_shard, shards, shards.values()) for pair in pairs]

    def _fetch_shard(self, shard: int, frames: list[int]) -> list[tuple[int, memoryview]]:
        index = self._index(shard)[[frame - shard * self._per_shard for frame in frames]]
        for frame, nbytes in zip(frames, index[:, 1].tolist(), strict=True):
            if nbytes < 0:
                raise self._error(frame, "it was never written")
        starts, ends = index[:, 0].tolist(), (index[:, 0] + index[:, 1]).tolist()
        get = self._get_local if is_local(self.uri) else self._get_remote
        try:
            chunks = get(self._key(shard), starts, ends)
        except (FileNotFoundError, EOFError) as error:
            raise self._error(frames[0], error) from error
        return list(zip(frames, chunks, strict=True))

    def _key(self, shard: int) -> str:
        return f"{self.uri}/c/{shard}/0/0/0"

    def _get_local(self, uri: str, starts: list[int], ends: list[int]) -> list[memoryview]:
        handle = os.open(local_path(uri), os.O_RDONLY)
        try:
            chunks: list[memoryview] = []
            first = 0
            for last in range(len(starts)):
                if last + 1 < len(starts) and starts[last + 1] - ends[last] <= LOCAL_GAP:
                    continue
                begin, length = starts[first], ends[last] - starts[first]
                data = memoryview(os.pread(handle, length, begin))
                if len(data) != length:
                    raise EOFError("its shard is cut short")
                chunks += [data[starts[i] - begin : ends[i] - begin] for i in range(first, last + 1)]
                first = last + 1
            return chunks
        finally:
            os.close(handle)

    def _get_remote(self, uri: str, starts: list[int], ends: list[int]) -> list[memoryview]:
        import obstore

        chunks = _request(uri, lambda store, key: obstore.get_ranges(store, key, starts=starts, ends=ends))
        if [len(chunk) for chunk in chunks] != [end - start for start, end in zip(starts, ends, strict=True)]:
            raise EOFError("its shard is cut short")
        return [memoryview(chunk) for chunk in chunks]

    def _get_tail(self, shard: int, length: int) -> bytes:
        uri = self._key(shard)
        if is_local(uri):
            with open(local_path(uri), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - length))
                return file.read(length)
        import obstore

        return bytes(_request(uri, lambda store, key: obstore.get(store, key, options={"range": {"suffix": length}}).bytes()))

    def _get_whole(self, name: str) -> bytes:
        uri = f"{self.uri}/{name}"
        if is_local(uri):
            return read_bytes(uri)
        import obstore

        return bytes(_request(uri, lambda store, key: obstore.get(store, key).bytes()))

    def _decode_into(self, frame: int, chunk: memoryview, out: np.ndarray) -> None:
        try:
            self._decode(chunk, out)
        except (ValueError, RuntimeError) as error:
            raise self._error(frame, f"the stored data is damaged ({error})") from error


def _request(uri: str, action: Callable[[Any, str], T]) -> T:
    """Runs an obstore request with our retries. Raises FileNotFoundError, StorageError."""
    from obstore.exceptions import NotFoundError

    from ops.store.objects import bucket_store

    store, key = bucket_store(uri)

    def attempt() -> T:
        try:
            return action(store, key)
        except NotFoundError as error:
            raise FileNotFoundError(str(error)) from error

    return retry(uri, attempt)


def _raw(chunk: memoryview, out: np.ndarray) -> None:
    if len(chunk) != out.nbytes:
        raise ValueError(f"{len(chunk)} bytes where a frame has {out.nbytes}")
    out[:] = np.frombuffer(chunk, np.uint8).reshape(out.shape)


def _decoder(names: list[str]) -> Decode:
    """Function from a stored chunk to a frame, for a chain of Zarr codecs. Raises ValueError for an unknown chain."""
    checked = names[-1] == "crc32c"
    chain = tuple(names[:-1] if checked else names)
    decode: Decode
    if chain == ("kinograph.jpeg",):
        from ops.store.jpeg import decode as decode_jpeg

        decode = decode_jpeg
    elif chain == ("bytes", "zstd"):
        from numcodecs.zstd import decompress  # type: ignore[import-untyped]

        def decode(chunk: memoryview, out: np.ndarray) -> None:
            _raw(memoryview(decompress(bytes(chunk))), out)
    elif chain == ("bytes",):
        decode = _raw
    else:
        raise ValueError(f"found codecs {names}; allowed: kinograph.jpeg, or bytes with zstd, each with or without crc32c")
    return (lambda chunk, out: decode(without_checksum(chunk), out)) if checked else decode
