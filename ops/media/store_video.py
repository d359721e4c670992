"""Probing one file, and decoding, storing and cross-checking its frames, inside a worker process
that can be killed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.schema import Dataset, Frames
from ops.compute.pool import Stderr, quiet_stderr
from ops.files.storage import FileInfo, StorageError, local_copy, remove, sha256_of
from ops.media.decoding import unforeseen
from ops.media.store_job import Row, StoreJob, manifest_row
from ops.store.frames import MAX_JPEG_SIDE
from ops.store.layout import Layout, is_safe
from ops.store.manifest import frames_key

if TYPE_CHECKING:
    from ops.media.probe import Facts

UNREADABLE, UNSAFE = "not readable", "unsafe name"  # how reasons begin
State = tuple[int, int, int]
FROM_OUTSIDE = ("signal 9", "signal 15")  # ends of a try that say nothing about the decoder


def store_video(job: StoreJob, attempt: str) -> Row:
    """Decodes and stores one video; returns the manifest's fields, or a reason.

    Whatever a video brings about is its reason, with the error's kind, text and place: no video
    ends the run for the others.

    Args:
        job: the video, where its frames go and how they are stored.
        attempt: how the try before this one ended; after a hang, a crash or too much memory only
            the second decoder is tried.

    Raises:
        StorageError: the store fails.
        MemoryError: the kernel refuses memory.
    """
    start = time.monotonic()
    try:
        with local_copy(job.source_uri) as path, quiet_stderr() as errors:
            before = state_of(path)
            if sha256_of(path) != job.sha256:
                return {
                    "reason": "the file changed after it was ingested; ingest again",
                    "seconds": time.monotonic() - start,
                }
            return store_frames(path, None, job, attempt, errors, start, before)
    except FileNotFoundError:
        return {
            "reason": "the file vanished after it was ingested; ingest again",
            "seconds": time.monotonic() - start,
        }
    except MemoryError:  # PyAV's own kind does not travel between processes
        raise MemoryError("the kernel refuses the decoder more memory") from None


def store_frames(
    path: Path,
    facts: Facts | None,
    job: StoreJob,
    attempt: str,
    errors: Stderr,
    start: float,
    before: State | None,
) -> Row:
    """As `store_video`, of a local file, with what a probe has found in it (None: not probed yet).

    `start` is on the monotonic clock, and `before` is the file's state when its content was hashed.
    """
    try:
        stored = _store(path, facts, job, attempt, errors)
        if (after := state_of(path)) != before and (after is None or sha256_of(path) != job.sha256):
            remove(job.array_uri)
            stored = {"reason": "the file changed while it was read; ingest again"}
    except (StorageError, MemoryError):
        raise
    except Exception as error:
        stored = {"reason": unforeseen(error)}
    return {**stored, "seconds": time.monotonic() - start}


def state_of(path: Path) -> State | None:
    """What is another where a file was written to, or another put in its place; None where it is
    gone.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _store(path: Path, facts: Facts | None, job: StoreJob, attempt: str, errors: Stderr) -> Row:
    from ops.media.decode import DecodeError, decoders_for
    from ops.media.probe import inspect_aloud
    from ops.media.recording import Recording

    facts = facts or inspect_aloud(path, errors)
    reason = facts.problem or unstorable(facts, job.frames)
    if reason:
        return {"reason": reason}
    decoders = decoders_for(facts, job.frames.short_side)
    before: DecodeError | None = None
    # nor is decord asked to confirm: it may have ended the try before as the second one
    if attempt and attempt not in FROM_OUTSIDE:
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
        # of one decoder: the other one may do better, and the next video has nothing to do with it
        except Exception as error:
            before = DecodeError(f"{decoder}: {unforeseen(error)}")
    return {"reason": str(before)}


def unstorable(facts: Facts, config: Frames) -> str:
    """Why frames of this size cannot be stored; "" where they can."""
    from ops.media.decoding import scaled_size
    from ops.media.probe import MAX_PIXELS

    height, width = scaled_size((facts.height, facts.width), config.short_side)
    if config.codec == "jpeg" and max(height, width) > MAX_JPEG_SIDE:
        return (
            f"a frame of {width}x{height} as stored is too long (JPEG holds at most {MAX_JPEG_SIDE}"
            " pixels a side)"
        )
    if height * width > MAX_PIXELS:
        return (
            f"a frame of {width}x{height} as stored is too large (at most {MAX_PIXELS / 1e6:.0f}"
            " million pixels)"
        )
    return ""


@dataclass(frozen=True)
class StoreTarget:
    """Where the frames of a video go whose content nobody knows yet; `known` is the ledger key of
    the frames that are stored.
    """

    video_id: str
    dataset: Dataset
    layout: Layout
    known: str | None

    def job(self, source_uri: str, sha256: str) -> tuple[str, StoreJob]:
        """(ledger key, what to store), now that the content is known."""
        key = frames_key(sha256, self.dataset)
        uri = self.layout.frames(self.dataset.name, self.dataset.frames.key(), self.video_id, key)
        return key, StoreJob(self.video_id, source_uri, sha256, uri, self.dataset.frames, 1)


def probe_file(payload: tuple[FileInfo, StoreTarget | None], attempt: str) -> dict[str, Any]:
    """What one file's row says beyond its listing, and with a target, in `stored`, the row of its
    frames. Runs in a worker.

    A second try stores nothing: it may have been the decoder that ended the first one. Raises
    StorageError when a remote store fails.
    """
    info, target = payload
    if info.problem:
        return {"reason": info.problem}
    # its id would name a place outside the dataset's; S3 allows such keys
    if not is_safe(info.path_below):
        return {
            "reason": (
                f"{UNSAFE} {info.path_below!r}: an empty, '.' or '..' part, a backslash or NUL;"
                " rename it"
            )
        }
    start = time.monotonic()
    try:
        with local_copy(info.uri) as path, quiet_stderr() as errors:
            before = state_of(path)
            found, facts = _inspected(path, errors)
            if target is None or attempt or found["reason"]:
                return found
            key, job = target.job(info.uri, found["sha256"])
            if key == target.known:
                return {**found, "known": True}
            value = store_frames(path, facts, job, "", errors, start, before)
            return {
                **found,
                "stored": manifest_row(
                    target.dataset, job.video_id, job.sha256, key, job.array_uri, value
                ),
            }
    except FileNotFoundError:
        return {"reason": f"{UNREADABLE}: it vanished while it was read"}
    except StorageError:
        raise
    except OSError as error:  # one bad local file does not stop the others
        return {"reason": f"{UNREADABLE}: {error.strerror}"}
    except MemoryError:  # PyAV's own kind does not travel between processes
        raise MemoryError("the kernel refuses the probe more memory") from None
    except Exception as error:  # nor does one that nobody reckoned with
        return {"reason": unforeseen(error)}


def _inspected(path: Path, errors: Stderr) -> tuple[dict[str, Any], Facts]:
    from ops.media.probe import inspect_aloud

    sha256 = sha256_of(path)
    facts = inspect_aloud(path, errors)
    row = {
        "sha256": sha256,
        "container": facts.container,
        "codec": facts.codec,
        "width": facts.width,
        "height": facts.height,
        "rotation": facts.rotation,
        "fps_num": facts.fps.numerator,
        "fps_den": facts.fps.denominator,
        "num_frames_declared": facts.num_frames_declared,
        "num_frames_packets": facts.num_frames,
        "duration_s": facts.duration_s,
        "reason": facts.problem or "",
    }
    return row, facts
