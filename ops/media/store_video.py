"""Decoding, storing and confirming one video, inside a worker process that can be killed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.schema import Frames
from ops.media.decoding import unforeseen
from ops.media.pool import Stderr, quiet_stderr
from ops.store.files import StorageError, local_copy, remove, sha256_of
from ops.store.frames import MAX_JPEG_SIDE

if TYPE_CHECKING:
    from ops.media.probe import Facts

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
    Whatever else a video brings about is its reason, with the error's kind, text and place: no video ends the run for the others. Raises
    StorageError when the store fails, MemoryError when the kernel refuses memory.
    """
    job, start = payload[0], time.monotonic()
    try:
        with local_copy(job.source) as path, quiet_stderr() as errors:
            before = _state(path)
            if sha256_of(path) != job.sha256:
                return {"reason": "the file changed after it was ingested; ingest again", "seconds": time.monotonic() - start}
            try:
                stored = _store(path, job, attempt, errors)
                if (after := _state(path)) != before and (after is None or sha256_of(path) != job.sha256):
                    remove(job.uri)
                    stored = {"reason": "the file changed while it was read; ingest again"}
            except (StorageError, MemoryError):
                raise
            except Exception as error:
                stored = {"reason": unforeseen(error)}
    except FileNotFoundError:
        return {"reason": "the file vanished after it was ingested; ingest again", "seconds": time.monotonic() - start}
    except MemoryError:  # PyAV's own kind does not travel between processes
        raise MemoryError("the kernel refuses the decoder more memory") from None
    return {**stored, "seconds": time.monotonic() - start}


def _state(path: Path) -> tuple[int, int, int] | None:
    """What is another where a file was written to, or another put in its place; None where it is gone."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _store(path: Path, job: StoreJob, attempt: str, errors: Stderr) -> Row:
    from ops.media.decode import DecodeError, decoders_for
    from ops.media.probe import inspect_aloud
    from ops.media.recording import Recording

    facts = inspect_aloud(path, errors)
    reason = facts.problem or unstorable(facts, job.frames)
    if reason:
        return {"reason": reason}
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
        except (StorageError, MemoryError):
            raise
        except Exception as error:  # of one decoder: the other one may do better, and the next video has nothing to do with it
            before = DecodeError(f"{decoder}: {unforeseen(error)}")
    return {"reason": str(before)}


def unstorable(facts: Facts, config: Frames) -> str:
    """Why frames of this size cannot be stored; "" where they can."""
    from ops.media.decoding import scaled_size
    from ops.media.probe import MAX_PIXELS

    height, width = scaled_size((facts.height, facts.width), config.short_side)
    if config.codec == "jpeg" and max(height, width) > MAX_JPEG_SIDE:
        return f"a frame of {width}x{height} as stored is too long (JPEG holds at most {MAX_JPEG_SIDE} pixels a side)"
    if height * width > MAX_PIXELS:
        return f"a frame of {width}x{height} as stored is too large (at most {MAX_PIXELS / 1e6:.0f} million pixels)"
    return ""
