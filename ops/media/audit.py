"""Stored frames against a whole second decode of their source, for an asset check and by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from configs.schema import Dataset, content_hash
from ops.compute.pool import Job, quiet_stderr, run_jobs
from ops.files.storage import StorageError, local_copy
from ops.media.decoding import unforeseen
from ops.store import jpeg
from ops.store.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.reader import FrameReader, FrameReadError
from ops.store.tables import VIDEOS, read_tables

MIN_DEADLINE_S = 60.0
SLOWEST_FRAME_S = 0.25
STORED_TOLERANCE = 4.0  # mean difference in brightness that JPEG may make, grey levels


@dataclass(frozen=True)
class Mismatch:
    """A stored video that the check does not confirm. `counted` is None where the second decoder
    gave no count.
    """

    video_id: str
    stored: int
    counted: int | None
    decoder: str
    reason: str


def audit(
    dataset: Dataset, layout: Layout, sample: int | None, workers: int | None = None
) -> list[Mismatch]:
    """Decodes stored videos anew and compares every frame; those that differ.

    The decoder is the one that did not store the video, where it can be asked; else PyAV once more,
    which still tests the store.

    Args:
        dataset: whose videos; they lie where ingest found them.
        layout: where the storage lies.
        sample: how many videos, the same ones for the same ledger; None is all.
        workers: processes; None is one for each CPU that this process may use.
    """
    table = read_manifest(layout, dataset)
    rows = table.filter(pc.equal(table["status"], "ok")).to_pylist()
    rows.sort(key=lambda row: content_hash([row["video_id"], row["key"]]))
    _place_sources(rows[:sample], dataset, layout)
    jobs = [
        Job(row["video_id"], row, max(MIN_DEADLINE_S, SLOWEST_FRAME_S * row["num_frames"]))
        for row in rows[:sample]
    ]
    found = []
    for outcome in run_jobs(check_video, jobs, workers):
        if outcome is None:
            continue
        row = outcome.job.payload
        counted, reason = outcome.value or (None, outcome.failure or "")
        if reason:
            found.append(
                Mismatch(row["video_id"], row["num_frames"], counted, row["decoder"], reason)
            )
    return sorted(found, key=lambda mismatch: mismatch.video_id)


def _place_sources(rows: list[dict[str, Any]], dataset: Dataset, layout: Layout) -> None:
    """Writes into each row where its source lies now: a dataset that has moved is what it was, and
    ingest has found it there.
    """
    tables = [
        layout.video_table(dataset.name, bucket)
        for bucket in sorted({bucket_of(row["video_id"]) for row in rows})
    ]
    table = read_tables(tables, VIDEOS)
    places = dict(zip(table["video_id"].to_pylist(), table["source_uri"].to_pylist(), strict=True))
    for row in rows:
        row["source_uri"] = places.get(row["video_id"])


def check_video(row: dict[str, Any], attempt: str) -> tuple[int | None, str]:
    """(the second decoder's count, what is wrong or "") of one ledger row. Runs in a worker."""
    from ops.media.decode import DecodeError

    reader = FrameReader(row["array_uri"])
    try:
        with (
            local_copy(row.get("source_uri") or reader.attributes["source_uri"]) as path,
            quiet_stderr(),
        ):
            return compare(path, reader, row["decoder"], bool(attempt))
    except FileNotFoundError:
        return None, "the source video is gone"
    except (DecodeError, FrameReadError, IndexError) as error:
        return None, str(error)
    except (StorageError, MemoryError):
        raise
    except Exception as error:
        return None, unforeseen(error)


def compare(
    path: Path, reader: FrameReader, decoder: str, only_pyav: bool = False
) -> tuple[int, str]:
    """As `check_video`, of an array and its source.

    Args:
        path: of the source, a local file.
        reader: of the array.
        decoder: that stored the array, "decord" or "pyav".
        only_pyav: asks no decoder but PyAV.

    Raises:
        DecodeError: the source cannot be decoded.
        FrameReadError: the array cannot be read.
    """
    from ops.media.cross_check import first_difference, thinned
    from ops.media.decode import decode, decoders_for
    from ops.media.probe import inspect

    facts = inspect(path)
    short_side = (reader.attributes["resize"] or {}).get("short_side")
    second = (
        "pyav"
        if decoder == "decord" or only_pyav or facts.problem
        else decoders_for(facts, short_side)[0]
    )
    stored, counted, wrong = len(reader), 0, ""
    for piece in decode(path, facts, second, 1, short_side=short_side):
        last = min(counted + len(piece), stored)
        if not wrong and counted < last:
            kept = {
                counted + at: thinned(frame)
                for at, frame in enumerate(reader.read(range(counted, last)))
            }
            fresh = {
                counted + at: thinned(as_stored(frame, reader.jpeg_quality))
                for at, frame in enumerate(piece)
            }
            wrong = first_difference(kept, fresh, STORED_TOLERANCE)
        counted += len(piece)
    if counted != stored:
        return counted, f"{decoder} gave {stored} frames, {second} {counted}"
    return counted, f"{second} gave {wrong}" if wrong else ""


def as_stored(frame: np.ndarray, quality: int | None) -> np.ndarray:
    """What storing makes of a frame, uint8 [H, W, 3]: strong colours of small frames are other ones
    as a JPEG.
    """
    if quality is None:
        return frame
    stored = np.empty_like(frame, order="C")
    jpeg.decode(jpeg.encode(frame, quality), stored)
    return stored
