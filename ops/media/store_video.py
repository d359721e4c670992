"""Decoding and storing one video, inside a worker process that can be killed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from configs.schema import Frames
from ops.media.pool import quiet_stderr
from ops.store.files import local_copy, sha256_of

Row = dict[str, Any]


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
    """Decodes and stores one video; returns the ledger's fields, or a reason. Raises StorageError when the store fails."""
    job, start = payload[0], time.monotonic()
    try:
        with local_copy(job.source) as path, quiet_stderr():
            if sha256_of(path) != job.sha256:
                return {"reason": "the file changed after it was ingested; ingest again", "seconds": time.monotonic() - start}
            stored = _store(path, job, attempt)
    except FileNotFoundError:
        return {"reason": "the file vanished after it was ingested; ingest again", "seconds": time.monotonic() - start}
    except MemoryError:
        return {"reason": "not enough memory to decode it", "seconds": time.monotonic() - start}
    return {**stored, "seconds": time.monotonic() - start}


def _store(path: Any, job: StoreJob, attempt: str) -> Row:
    from ops.media.decode import DecodeError, attributes, decode, decoders_for, mean_fps, resized
    from ops.media.probe import inspect
    from ops.store.frames import write_frames

    facts = inspect(path)
    decoders = decoders_for(facts) if facts.problem is None else ["pyav"]
    if attempt and attempt not in ("signal 9", "signal 15"):  # the first decoder hung or crashed by itself; those two come from outside
        decoders = decoders[-1:]
    reason = ""
    for decoder in decoders:
        try:
            decoding = decode(path, facts, decoder, job.threads)
            pieces = resized(decoding.pieces, job.frames.short_side)
            about = lambda done=decoding: attributes(facts, done, job.frames, job.source, job.sha256)  # noqa: E731
            stored = write_frames(job.uri, pieces, job.frames, about)
        except DecodeError as error:
            reason = str(error)
            continue
        return {
            "num_frames": stored.num_frames,
            "height": stored.height,
            "width": stored.width,
            "fps": mean_fps(facts, decoding.timestamps_s),
            "status": "ok",
            "reason": "",
            "decoder": decoding.decoder,
            "decoder_version": decoding.decoder_version,
            "bytes": stored.bytes,
        }
    return {"reason": reason}
