"""Reading frames at training speed: shard index and coalesced ranges, without Zarr's indexer.

A reader is cheap to make, opens on first use, can be pickled, and opens again in every process that
uses it.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from ops.files.objects import read_ranges, read_tail, read_whole
from ops.files.storage import StorageError, is_local, local_path, read_bytes
from ops.store.manifest import read_manifest
from ops.store.shards import index_bytes, parse_index, without_checksum
from ops.store.threads import side_by_side

__all__ = ["FrameReadError", "FrameReader", "Readers", "read_manifest"]

LOCAL_GAP = 64 * 1024  # a disk reads over a gap of this many bytes faster than it starts again
MAX_REQUESTS = 8  # to a remote store, in flight
MAX_OPEN = 64  # files at a time
OPEN_READERS = 4096  # each holds an index of its video, no open file
Decode = Callable[[memoryview, np.ndarray], None]
Take = Callable[[int, memoryview], None]  # what is done with a frame's number and its stored chunk


class FrameReadError(StorageError):
    """A frame that the store does not hold whole: names the array's URI, the frame and the
    cause.
    """


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
        self._quality: int | None = None
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
        """What the writer noted: fps, timestamps_s, source_uri, decoder, resize, colour and
        more.
        """
        self._open()
        return self._attributes

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames at `indices`, in their order, repeats allowed (decoded once): uint8
        [len(indices), H, W, 3].

        They are decoded straight into the result, on the threads of `ops.store.threads`. Raises
        IndexError for an index outside [0, T), FrameReadError for a frame that is missing or
        damaged, StorageError.
        """
        self._open()
        wanted = np.asarray(indices, np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= self._shape[0])]
        if outside.size:
            raise IndexError(
                f"{self.uri}: frame {int(outside[0])} is outside the video's {self._shape[0]}"
                " frames"
            )
        frames = np.empty((len(wanted), *self._shape[1:]), np.uint8)
        places: dict[int, int] = {}  # frame -> its first place in the result
        for place, frame in enumerate(wanted.tolist()):
            places.setdefault(frame, place)
        shards: dict[int, list[int]] = {}
        for frame in sorted(places):
            shards.setdefault(frame // self._per_shard, []).append(frame)

        def take(frame: int, chunk: memoryview) -> None:
            self._decode_into(frame, chunk, frames[places[frame]])

        (self._read_local if is_local(self.uri) else self._read_remote)(shards, take)
        for place, frame in enumerate(wanted.tolist()):
            if places[frame] != place:
                frames[place] = frames[places[frame]]
        return frames

    @property
    def jpeg_quality(self) -> int | None:
        """Quality by which the frames became JPEGs; None where they are stored as they were."""
        self._open()
        return self._quality

    # ----------------------------------------------------------------------------------------------
    # opening

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
            if (
                sharding["name"] != "sharding_indexed"
                or inner.get("index_location", "end") != "end"
            ):
                raise ValueError("it is not sharded with the index at the end")
            if (
                inner["chunk_shape"] != [1, *shape[1:]]
                or grid[1:] != list(shape[1:])
                or metadata["data_type"] != "uint8"
            ):
                raise ValueError("it is not uint8 in chunks of one frame")
            self._decode = _decoder([codec["name"] for codec in inner["codecs"]])
            self._quality = inner["codecs"][0].get("configuration", {}).get("quality")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FrameReadError(self.uri, f"not an array of frames: {error}") from error
        self._shape, self._per_shard, self._attributes = (
            shape,
            grid[0],
            metadata.get("attributes", {}),
        )
        self._process = os.getpid()

    def _index(self, shard: int) -> np.ndarray:
        """Int64 [frames of the shard, 2] of (offset, bytes)."""
        if shard not in self._indices:
            sizes = self._attributes.get("frame_bytes")
            if sizes is not None and len(sizes) == self._shape[0]:  # saves a request per shard
                own = np.array(
                    sizes[shard * self._per_shard : (shard + 1) * self._per_shard], np.int64
                )
                self._indices[shard] = np.stack([np.cumsum(own) - own, own], axis=1)
            else:
                try:
                    self._indices[shard] = parse_index(
                        self._get_tail(shard, index_bytes(self._per_shard)), self._per_shard
                    )
                except (FileNotFoundError, ValueError) as error:
                    raise self._error(shard * self._per_shard, error) from error
        return self._indices[shard]

    def _error(self, frame: int, cause: object) -> FrameReadError:
        reason = "its shard is missing" if isinstance(cause, FileNotFoundError) else str(cause)
        return FrameReadError(self.uri, f"frame {frame} cannot be read: {reason}")

    # ----------------------------------------------------------------------------------------------
    # fetching

    def _read_local(self, shards: dict[int, list[int]], take: Take) -> None:
        """Read and decode frame by frame on all threads: a chunk is decoded while it is still in
        the CPU's cache.
        """
        todo = list(shards.items())
        for first in range(0, len(todo), MAX_OPEN):
            with ExitStack() as stack:
                parts: list[tuple[int, int, int, int]] = []
                for shard, frames in todo[first : first + MAX_OPEN]:
                    starts, sizes = self._located(shard, frames)
                    try:
                        handle = os.open(local_path(self._key(shard)), os.O_RDONLY)
                    except FileNotFoundError as error:
                        raise self._error(frames[0], error) from error
                    stack.callback(os.close, handle)
                    _announce(handle, starts, sizes)
                    parts += zip(frames, [handle] * len(frames), starts, sizes, strict=True)

                def one(number: int, parts: list[tuple[int, int, int, int]] = parts) -> None:
                    frame, handle, start, size = parts[number]
                    data = os.pread(handle, size, start)
                    if len(data) != size:
                        raise self._error(frame, "its shard is cut short")
                    take(frame, memoryview(data))

                side_by_side(one, len(parts))

    def _read_remote(self, shards: dict[int, list[int]], take: Take) -> None:
        """One request per shard, all of them side by side, then decode on all threads."""
        if len(shards) == 1:
            stored = self._fetch(*next(iter(shards.items())))
        else:
            with ThreadPoolExecutor(min(len(shards), MAX_REQUESTS)) as threads:
                stored = [
                    pair
                    for pairs in threads.map(self._fetch, shards, shards.values())
                    for pair in pairs
                ]
        side_by_side(lambda number: take(*stored[number]), len(stored))

    def _fetch(self, shard: int, frames: list[int]) -> list[tuple[int, memoryview]]:
        """(frame, stored chunk) of frames of one shard in a remote store."""
        starts, sizes = self._located(shard, frames)
        try:
            chunks = read_ranges(self._key(shard), starts, sizes)
        except FileNotFoundError as error:
            raise self._error(frames[0], error) from error
        for frame, chunk, size in zip(frames, chunks, sizes, strict=True):
            if len(chunk) != size:
                raise self._error(frame, "its shard is cut short")
        return [(frame, memoryview(chunk)) for frame, chunk in zip(frames, chunks, strict=True)]

    def _located(self, shard: int, frames: list[int]) -> tuple[list[int], list[int]]:
        """Offsets and sizes in bytes of frames of one shard."""
        index = self._index(shard)[[frame - shard * self._per_shard for frame in frames]]
        for frame, nbytes in zip(frames, index[:, 1].tolist(), strict=True):
            if nbytes < 0:
                raise self._error(frame, "it was never written")
        return index[:, 0].tolist(), index[:, 1].tolist()

    def _key(self, shard: int) -> str:
        return f"{self.uri}/c/{shard}/0/0/0"

    def _get_tail(self, shard: int, length: int) -> bytes:
        uri = self._key(shard)
        if is_local(uri):
            with open(local_path(uri), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - length))
                return file.read(length)
        return read_tail(uri, length)

    def _get_whole(self, name: str) -> bytes:
        uri = f"{self.uri}/{name}"
        return read_bytes(uri) if is_local(uri) else read_whole(uri)

    def _decode_into(self, frame: int, chunk: memoryview, out: np.ndarray) -> None:
        try:
            self._decode(chunk, out)
        except (ValueError, RuntimeError) as error:
            raise self._error(frame, f"the stored data is damaged ({error})") from error


def _announce(handle: int, starts: list[int], sizes: list[int]) -> None:
    """Tell the system what will be read, so that a cold file comes in few large reads while its
    first frames are decoded.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    first = 0
    for last in range(len(starts)):
        end = starts[last] + sizes[last]
        if last + 1 == len(starts) or starts[last + 1] - end > LOCAL_GAP:
            os.posix_fadvise(handle, starts[first], end - starts[first], os.POSIX_FADV_WILLNEED)
            first = last + 1


def _raw(chunk: memoryview, out: np.ndarray) -> None:
    if len(chunk) != out.nbytes:
        raise ValueError(f"{len(chunk)} bytes where a frame has {out.nbytes}")
    out[:] = np.frombuffer(chunk, np.uint8).reshape(out.shape)


def _decoder(names: list[str]) -> Decode:
    """Function from a stored chunk to a frame, for a chain of Zarr codecs. Raises ValueError for an
    unknown chain.
    """
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
        raise ValueError(
            f"found codecs {names}; allowed: kinograph.jpeg, or bytes with zstd, each with or"
            " without crc32c"
        )
    return (lambda chunk, out: decode(without_checksum(chunk), out)) if checked else decode


class Readers:
    """Readers by URI, opened when they are asked for; the last ones used stay. Pickled it is empty:
    every process opens its own.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, FrameReader] = OrderedDict()

    def __getitem__(self, uri: str) -> FrameReader:
        reader = self._open.pop(uri, None)
        reader = self._open[uri] = FrameReader(uri) if reader is None else reader
        if len(self._open) > OPEN_READERS:
            self._open.popitem(last=False)
        return reader

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": OrderedDict()}
