"""Which videos there should be features of, and which feature files lie where: one listing per
folder, never one question per video.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow.compute as pc

from configs.schema import ConfigError, Dataset, FeatureFiles, content_hash
from ops.files.storage import FileInfo, list_files
from ops.store.layout import Layout
from ops.store.tables import read_table

FIELDS = ("video", "name")


@dataclass(frozen=True)
class Entry:
    """An annotated video; duration and rate are the annotation file's, None where it has none."""

    video_id: str
    duration_s: float | None = None
    fps: float | None = None


def annotated(dataset: Dataset, layout: Layout) -> dict[str, Entry] | None:
    """The videos that features are for, by id; None where the dataset has no annotation tables yet.

    Features serve untrimmed videos: where the dataset annotates segments they are for the videos of
    that table (those without a single segment included), otherwise for every annotated video.
    """
    try:
        rows = read_table(layout.entries_table(dataset.name)).to_pylist()
    except FileNotFoundError:
        return _from_segments(dataset, layout)
    chosen = [row for row in rows if row["table"] == "segments"] or rows
    found: dict[str, Entry] = {}
    for row in chosen:
        old = found.get(row["video_id"], Entry(row["video_id"]))
        duration = old.duration_s if old.duration_s is not None else row["duration_s"]
        found[row["video_id"]] = Entry(
            row["video_id"], duration, old.fps if old.fps is not None else row["fps"]
        )
    return found


def _from_segments(dataset: Dataset, layout: Layout) -> dict[str, Entry] | None:
    try:
        table = read_table(layout.annotation_table(dataset.name, "segments"))
    except FileNotFoundError:
        return None
    return {video: Entry(video) for video in pc.unique(table["video_id"]).to_pylist()} or None


@dataclass(frozen=True)
class Listing:
    """The files of one stream by the path that its template gives: one file each, or the .npy files
    of a folder.
    """

    stream: FeatureFiles
    files: dict[str, tuple[FileInfo, ...]]

    def of(self, video_id: str) -> tuple[FileInfo, ...]:
        """The video's files; none where they are missing."""
        return self.files.get(rendered(self.stream, video_id), ())

    def videos(self) -> set[str]:
        """The videos that the files are named after; with '{name}' a name stands for the id."""
        pattern = _pattern(self.stream)
        return {match.group(1) for path in self.files if (match := pattern.fullmatch(path))}


def rendered(stream: FeatureFiles, video_id: str) -> str:
    """Path of the video's file or folder below the dataset's root. '{video}' is the id, '{name}'
    its last part.
    """
    return stream.path.format(video=video_id, name=video_id.rpartition("/")[2])


def check_template(where: str, stream: FeatureFiles) -> None:
    """Raises ConfigError for a path that is no template over the video, once."""
    try:
        fields = [
            field for _, field, _, _ in string.Formatter().parse(stream.path) if field is not None
        ]
    except ValueError:
        fields = []
    if len(fields) != 1 or fields[0] not in FIELDS:
        raise ConfigError(
            where,
            "files.path",
            stream.path,
            "a path with '{video}' (or '{name}', the last part of the video's id) once",
        )


def listing(stream: FeatureFiles, root: str) -> Listing:
    """Lists the stream's folder below the dataset's root. Raises StorageError."""
    prefix = stream.path.partition("{")[0].rpartition("/")[0]
    files: dict[str, tuple[FileInfo, ...]] = {}
    for info in list_files(f"{root}/{prefix}".rstrip("/")):
        path = f"{prefix}/{info.path_below}".lstrip("/")
        if path.rpartition("/")[2].startswith("."):
            continue
        if stream.format != "npy_folder":
            files[path] = (info,)
        elif path.endswith(".npy"):
            folder = path.rpartition("/")[0]
            files[folder] = (*files.get(folder, ()), info)
    return Listing(stream, files)


def _pattern(stream: FeatureFiles) -> re.Pattern[str]:
    head, _, tail = stream.path.partition("{")
    inside = "(.+)" if tail.startswith("video") else "([^/]+)"
    return re.compile(re.escape(head) + inside + re.escape(tail.partition("}")[2]))


def stamp(files: Iterable[FileInfo]) -> str:
    """Changes when one of the files does, by name, size and time (or ETag): the cheap test before a
    file is read again.
    """
    return content_hash([(info.path_below, info.bytes, info.modified) for info in files])
