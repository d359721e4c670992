"""Are frames written, read by us and by zarr, and removed, where the storage is: with both codecs,
on this disk and in the bucket.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from configs.schema import Frames
from configs.settings import Settings
from ops.doctor.finding import Finding, good, wrong

SHAPE = (20, 48, 64, 3)
JPEG_LEVELS = 3.0  # mean difference that quality 95 leaves of smooth pictures, with room
REINSTALL = (
    "install anew what does it: pip install --force-reinstall zarr numcodecs simplejpeg"
    " google-crc32c"
)
PROBE = ".kinograph-doctor"  # folder below the storage root, for the time of the check


def local(settings: Settings) -> Iterator[Finding]:
    """In the temporary folder: the libraries alone."""
    with tempfile.TemporaryDirectory(prefix="kinograph-") as folder:
        yield from _round_trips("frames in the temporary folder", folder, "the libraries alone")


def stored(settings: Settings) -> Iterator[Finding]:
    """At the configured storage."""
    from ops.files.storage import exists, is_local, remove

    there = exists(settings.storage)
    uri = f"{settings.storage}/{PROBE}/{uuid.uuid4().hex[:12]}"
    try:
        yield from _round_trips("frames in the storage", uri, settings.storage)
    finally:
        remove(uri)
        if is_local(uri):
            _forget_empty(uri, settings.storage, there)


def _forget_empty(uri: str, storage: str, keep_storage: bool) -> None:
    from ops.files.storage import local_path

    with suppress(OSError):  # not empty: another's
        local_path(uri).parent.rmdir()
        if not keep_storage:
            local_path(storage).rmdir()


def _round_trips(name: str, uri: str, where: str) -> Iterator[Finding]:
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    frames = np.stack(
        [
            np.stack([rows * 4 + n, columns * 3 + n, rows + columns + 2 * n], 2)
            for n in range(SHAPE[0])
        ]
    ).astype(np.uint8)
    for codec in ("jpeg", "lossless"):
        found = _round_trip(f"{uri}/{codec}.zarr", frames, codec)
        if found:
            yield wrong(name, f"{codec}: {found}", REINSTALL)
            return
    yield good(
        name,
        f"{SHAPE[0]} frames as JPEG and lossless, read back by our reader and by zarr ({where})",
    )


def _round_trip(uri: str, frames: np.ndarray, codec: str) -> str:
    """What is wrong with an array that was written there; "" where nothing is."""
    import zarr

    from ops.files.objects import bucket_store
    from ops.files.storage import is_local
    from ops.store.frames import write_frames
    from ops.store.reader import FrameReader

    write_frames(
        uri, frames, Frames.model_validate({"codec": codec, "frames_per_shard": 8}), {"fps": 25.0}
    )
    order = [3, 17, 8, 8, 0, 19]
    ours = FrameReader(uri).read(order)
    if is_local(uri):
        theirs = np.asarray(zarr.open_array(uri, mode="r")[:])[order]
    else:
        bucket, key = bucket_store(uri)
        theirs = np.asarray(
            zarr.open_array(zarr.storage.ObjectStore(bucket, read_only=True), path=key, mode="r")[:]
        )[order]
    if ours.shape != theirs.shape or (ours != theirs).any():
        return "our reader and zarr's read different frames"
    off = np.abs(ours.astype(int) - frames[order]).mean()
    if off > (JPEG_LEVELS if codec == "jpeg" else 0):
        return f"frames come back {off:.1f} levels off"
    return ""
