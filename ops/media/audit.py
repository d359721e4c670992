"""A sample check of stored frames: another decoder counts them, and the stored array gives its first, middle and last frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from configs.schema import Dataset, content_hash
from ops.media.pool import Job, quiet_stderr, run_jobs
from ops.store.files import local_copy
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.reader import FrameReader, FrameReadError

MIN_DEADLINE_S = 60.0
SLOWEST_FRAME_S = 0.25


@dataclass(frozen=True)
class Mismatch:
    """A stored video that the check does not confirm. `counted` is None where the second decoder gave no count."""

    video_id: str
    stored: int
    counted: int | None
    decoder: str
    reason: str


def audit(dataset: Dataset, layout: Layout, sample: int, workers: int | None = None) -> list[Mismatch]:
    """Checks `sample` stored videos (the same ones for the same ledger) against PyAV's count; returns those that differ."""
    table = read_manifest(layout, dataset)
    rows = table.filter(pc.equal(table["status"], "ok")).to_pylist()
    rows.sort(key=lambda row: content_hash([row["video_id"], row["key"]]))
    jobs = [Job(row["video_id"], row, max(MIN_DEADLINE_S, SLOWEST_FRAME_S * row["num_frames"])) for row in rows[:sample]]
    found = []
    for outcome in run_jobs(check_video, jobs, workers):
        if outcome is None:
            continue
        row = outcome.job.payload
        counted, reason = outcome.value or (None, outcome.failure or "")
        if reason:
            found.append(Mismatch(row["video_id"], row["num_frames"], counted, row["decoder"], reason))
    return sorted(found, key=lambda mismatch: mismatch.video_id)


def check_video(row: dict[str, Any], attempt: str) -> tuple[int | None, str]:
    """(PyAV's count, what is wrong or "") of one ledger row. Runs in a worker."""
    from ops.media.decode import DecodeError, count_frames

    reader = FrameReader(row["uri"])
    try:
        reader.read([0, row["num_frames"] // 2, row["num_frames"] - 1])
        with local_copy(reader.attributes["source_uri"]) as path, quiet_stderr():
            counted = count_frames(path)
    except FileNotFoundError:
        return None, "the source video is gone"
    except (DecodeError, FrameReadError, IndexError) as error:
        return None, str(error)
    if counted != row["num_frames"]:
        return counted, f"{row['decoder']} gave {row['num_frames']} frames, pyav {counted}"
    return counted, ""
