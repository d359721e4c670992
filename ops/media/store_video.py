"""Decoding, storing and confirming one video, inside a worker process that can be killed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.schema import Frames
from ops.media.pool import Stderr, quiet_stderr
from ops.store.files import local_copy, sha256_of

Row = dict[str, Any]
FROM_OUTSIDE = ("signal 9", "signal 15")  # ends of a try that say nothing about the decoder


@dataclass(frozen=True)
class StoreJob:
    """What a worker needs to store one video."""

    video_id: str
    source: str
    sha256: str
    uri: str
    frames: Frames
    threads: int


def store_video(payload: tuple[StoreJob, int, Row], attempt: str) -> Row:
    """Decodes and stores one video; returns the ledger's fields, or a reason.

    `attempt` is how the try before this one ended; after a hang, a crash or too much memory only the second decoder is tried.
    Raises StorageError when the store fails, MemoryError when the kernel refuses memory.
    """
    job, start = payload[0], time.monotonic()
    try:
        with local_copy(job.source) as path, quiet_stderr() as errors:
            if sha256_of(path) != job.sha256:
                return {"reason": "the file changed after it was ingested; ingest again", "seconds": time.monotonic() - start}
            stored = _store(path, job, attempt, errors)
    except FileNotFoundError:
        return {"reason": "the file vanished after it was ingested; ingest again", "seconds": time.monotonic() - start}
    except MemoryError:  # PyAV's own kind does not travel between processes
        raise MemoryError("the kernel refuses the decoder more memory") from None
    return {**stored, "seconds": time.monotonic() - start}


def _store(path: Path, job: StoreJob, attempt: str, errors: Stderr) -> Row:
    from ops.media.decode import DecodeError, decoders_for
    from ops.media.probe import inspect
    from ops.media.recording import Recording

    facts = inspect(path)
    if facts.problem is not None:
        return {"reason": facts.problem}
    decoders = decoders_for(facts, job.frames.short_side)
    before: DecodeError | None = None
    if attempt and attempt not in FROM_OUTSIDE:  # nor is decord asked to confirm: it may have ended the try before as the second one
        who = "decord: it" if len(decoders) > 1 else "the try before"
        decoders, before = decoders[-1:], DecodeError(f"{who} ended by {attempt}")
    for decoder in decoders:
        recording = Recording(path, facts, decoder, job, errors, before)
        try:
            return recording.run()
        except DecodeError as error:
            before = error
    return {"reason": str(before)}
