"""What differs between a dataset's folder and its tables, from listings alone: no file is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from configs.schema import BUCKETS, Dataset, content_hash
from ops.media.buckets import bucket_of_file
from ops.store.files import list_files
from ops.store.layout import Layout
from ops.store.manifest import frames_key
from ops.store.tables import read_table

Listed = tuple[str, int, str]  # uri, bytes, modified


@dataclass(frozen=True)
class Change:
    """Files of one bucket that are new, changed or gone. `key` names this very difference, so that it is acted on once."""

    num_files: int
    key: str


def changed_buckets(dataset: Dataset, layout: Layout) -> dict[int, Change]:
    """Buckets whose files are not those of the video table. A folder that is missing or empty changes nothing."""
    folder = layout.videos_folder(dataset)
    now: dict[int, set[Listed]] = {bucket: set() for bucket in range(BUCKETS)}
    for info in list_files(folder):
        now[bucket_of_file(info.path_below)].add((info.uri, info.bytes, info.modified))
    if not any(now.values()):
        return {}
    changes: dict[int, Change] = {}
    for bucket, listed in now.items():
        if different := listed ^ _ingested(layout.video_table(dataset.name, bucket)):
            files = {uri for uri, _, _ in different}
            changes[bucket] = Change(len(files), content_hash(sorted(different)))
    return changes


def _ingested(uri: str) -> set[Listed]:
    try:
        table = read_table(uri)
    except FileNotFoundError:
        return set()
    return set(zip(*(table[column].to_pylist() for column in ("uri", "bytes", "modified")), strict=True))


def unstored_videos(dataset: Dataset, layout: Layout, buckets: Iterable[int]) -> int:
    """Usable videos of the video tables that the frames ledger lacks, or holds for another content, configuration or code."""
    lacking = 0
    for bucket in buckets:
        try:
            videos = read_table(layout.video_table(dataset.name, bucket)).select(["video_id", "sha256", "status"]).to_pylist()
        except FileNotFoundError:
            continue
        try:
            ledger = read_table(layout.manifest(dataset.name, dataset.frames.key(), bucket))
            stored = dict(zip(ledger["video_id"].to_pylist(), ledger["key"].to_pylist(), strict=True))
        except FileNotFoundError:
            stored = {}
        usable = [video for video in videos if video["status"] == "ok"]
        lacking += sum(stored.get(video["video_id"]) != frames_key(video["sha256"], dataset) for video in usable)
    return lacking
