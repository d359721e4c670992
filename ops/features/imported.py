"""Published features of one video: read, checked, put side by side and stored."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from configs.schema import FeatureFiles
from ops.features.files import FeatureFileError, joined, read_stream
from ops.features.jobs import FeaturesJob, FeaturesOutcome, refused, stored
from ops.files.patience import patient
from ops.files.storage import FileInfo, read_bytes
from ops.store.features import write_features

READERS = 8
# a stream, the path its template gives, the files there
Named = tuple[FeatureFiles, str, tuple[FileInfo, ...]]


@dataclass(frozen=True)
class ImportJob(FeaturesJob):
    """From files; `sha256` and `key` are empty, since only the content says them. `old_key` is the
    ledger's.
    """

    streams: tuple[Named, ...]
    old_key: str | None
    key_of: Callable[[str], str]


def import_all(jobs: Iterable[ImportJob]) -> Iterator[tuple[ImportJob, FeaturesOutcome]]:
    """Works on a few videos at a time, and yields them in order; a store that is away is waited
    for. Raises StorageError.
    """
    waiting: deque[tuple[ImportJob, Future[FeaturesOutcome]]] = deque()
    with ThreadPoolExecutor(READERS) as threads:
        try:
            for job in jobs:
                waiting.append(
                    (job, threads.submit(patient, job.array_uri, partial(import_one, job)))
                )
                if len(waiting) >= 2 * READERS:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def import_one(job: ImportJob) -> FeaturesOutcome:
    """Reads, checks and stores one video's features; what is wrong with its files is in the
    outcome. Raises StorageError.
    """
    start = time.monotonic()
    contents: list[list[tuple[str, bytes]]] = []
    try:
        for stream, path, files in job.streams:
            contents.append([(_shown(stream, path, info), read_bytes(info.uri)) for info in files])
    except FileNotFoundError as error:  # gone since the listing
        return refused(f"no file {error.filename}", start)
    digests = [hashlib.sha256(data).hexdigest() for files in contents for _, data in files]
    sha256 = (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
    key = job.key_of(sha256)
    if key == job.old_key:
        return FeaturesOutcome(sha256=sha256, key=key, unchanged=True)
    try:
        arrays = [
            read_stream(stream, files)
            for (stream, _, _), files in zip(job.streams, contents, strict=True)
        ]
        array = joined(arrays, [path for _, path, _ in job.streams], job.features.dtype)
    except FeatureFileError as error:
        return replace(refused(str(error), start), sha256=sha256, key=key)
    facts = [
        {
            "path": path,
            "format": stream.format,
            "channels": stream.channels,
            "key": stream.key,
            "steps": len(found),
        }
        for (stream, path, _), found in zip(job.streams, arrays, strict=True)
    ]
    size = write_features(
        job.array_uri, array, {**job.attributes, "source_key": sha256, "key": key, "streams": facts}
    )
    return replace(stored(array, size, start), sha256=sha256, key=key)


def _shown(stream: FeatureFiles, path: str, info: FileInfo) -> str:
    return f"{path}/{info.uri.rpartition('/')[2]}" if stream.format == "npy_folder" else path
