"""Writing the frames of one video as a Zarr v3 array, uint8 [T, H, W, 3]: one-frame chunks in
shards of whole frames.

Frames are encoded as they arrive and every shard is one put, so memory holds one shard of encoded
frames. `zarr.json` is written last: an array that was cut short cannot be opened, by this project's
reader or by any other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from configs.schema import Frames
from ops.files.storage import remove, write_bytes
from ops.store.shards import pack, with_checksum

ZSTD_LEVEL = 3
MAX_JPEG_SIDE = 65500  # libjpeg's own limit


@dataclass(frozen=True)
class StoredFrames:
    """What was written: size of the array, and `bytes` of its shards and metadata."""

    uri: str
    num_frames: int
    height: int
    width: int
    bytes: int
    seconds: float


def write_frames(
    uri: str,
    frames: np.ndarray | Iterable[np.ndarray],
    config: Frames,
    attributes: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
) -> StoredFrames:
    """Writes a video's frames, replacing whatever lies at the URI; after an error nothing is left
    there.

    Args:
        uri: of the Zarr array.
        frames: uint8 [T, H, W, 3] RGB, or its pieces along T one after another.
        config: how frames are coded, and how many are in a shard.
        attributes: what is stored beside them, as JSON; a function is asked after the last frame.

    Raises:
        ValueError: no frames, or frames of another shape.
        StorageError: the store fails (an OSError).
    """
    start = time.monotonic()
    remove(uri)
    try:
        return _write(
            uri, [frames] if isinstance(frames, np.ndarray) else frames, config, attributes, start
        )
    except BaseException:
        remove(uri)
        raise


def _write(
    uri: str, pieces: Iterable[np.ndarray], config: Frames, attributes: Any, start: float
) -> StoredFrames:
    encode = encoder(config)
    size: tuple[int, int] | None = None
    sizes: list[int] = []
    waiting: list[bytes] = []
    stored = 0

    def flush() -> int:
        shard = pack(waiting, config.frames_per_shard)
        write_bytes(f"{uri}/c/{(len(sizes) - 1) // config.frames_per_shard}/0/0/0", shard)
        waiting.clear()
        return len(shard)

    for piece in pieces:
        if (
            piece.dtype != np.uint8
            or piece.ndim != 4
            or piece.shape[3] != 3
            or (size is not None and piece.shape[1:3] != size)
        ):
            raise ValueError(
                f"{uri}: found frames of {piece.dtype} {piece.shape}; allowed: uint8 [T, H, W, 3]"
                f" of one size {size or ''}"
            )
        size = piece.shape[1:3]
        for frame in piece:
            waiting.append(encode(frame))
            sizes.append(len(waiting[-1]))
            if len(waiting) == config.frames_per_shard:
                stored += flush()
    if size is None or not sizes:
        raise ValueError(f"{uri}: no frames")
    if waiting:
        stored += flush()
    own = {
        "axes": ["time", "height", "width", "channel"],
        "channels": "RGB",
        "units": "intensity 0..255",
        "frame_bytes": sizes,
    }
    metadata = array_metadata(
        (len(sizes), *size, 3),
        config,
        {**own, **(attributes() if callable(attributes) else attributes)},
    )
    write_bytes(f"{uri}/zarr.json", metadata)
    return StoredFrames(
        uri, len(sizes), size[0], size[1], stored + len(metadata), time.monotonic() - start
    )


def encoder(config: Frames) -> Callable[[np.ndarray], bytes]:
    """Function from a frame, uint8 [H, W, 3], to its stored chunk."""
    if config.codec == "jpeg":
        from ops.store.jpeg import encode

        return lambda frame: with_checksum(encode(frame, config.quality))
    from numcodecs.zstd import compress  # type: ignore[import-untyped]

    zstd = partial(compress, level=ZSTD_LEVEL)
    return lambda frame: with_checksum(bytes(zstd(np.ascontiguousarray(frame))))


def array_metadata(
    shape: tuple[int, int, int, int], config: Frames, attributes: Mapping[str, Any]
) -> bytes:
    """`zarr.json` of an array of this shape."""
    frame = [1, *shape[1:]]
    little: list[dict[str, Any]] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "crc32c"},
    ]
    if config.codec == "jpeg":
        codecs: list[dict[str, Any]] = [
            {"name": "kinograph.jpeg", "configuration": {"quality": config.quality}}
        ]
    else:
        codecs = [
            {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
        ]
    sharding = {
        "chunk_shape": frame,
        "codecs": [*codecs, {"name": "crc32c"}],
        "index_codecs": little,
        "index_location": "end",
    }
    value = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "uint8",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [config.frames_per_shard, *shape[1:]]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": dict(attributes),
        "dimension_names": ["time", "height", "width", "channel"],
        "storage_transformers": [],
    }
    return json.dumps(value, separators=(",", ":")).encode()
