"""Untrimmed videos with labelled segments and stored features: the segments and entries tables joined with the features' ledger.

What cannot be learnt or is not there is never dropped in silence: it gives a row of `SegmentTable.left_out`, and the coverage counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from configs.schema import BUCKETS, Dataset, Features
from configs.schema.localization import Steps
from ops.data.errors import DataError, SampleError
from ops.data.feature_grid import covered_frames, to_grid
from ops.store.features import FeatureReader
from ops.store.layout import Layout
from ops.store.ledger import read_ledgers
from ops.store.tables import ENTRIES, FEATURES, SEGMENTS, read_table
from ops.tasks.localization.metric import SAME_S, kept_segments

READS_AT_ONCE = 16
BEYOND_S = 0.5  # annotations are rounded, and durations are those of another container


class Grid(NamedTuple):
    """How steps of a feature sequence lie in time: step i is at (i * stride + 0.5 * num_frames) / fps seconds. Strides may be fractions."""

    stride: float
    num_frames: float
    fps: float
    duration_s: float

    @property
    def offset(self) -> float:
        """Half a window, in steps."""
        return 0.5 * self.num_frames / self.stride


class Video(NamedTuple):
    """One video with features. Segments float64 [G, 2] in seconds, sorted by start, without repeats; `key` is the ledger's."""

    video_id: str
    split: str
    uri: str
    key: str
    num_steps: int
    channels: int
    fps: float
    duration_s: float
    segments: np.ndarray
    labels: np.ndarray


class LeftOut(NamedTuple):
    """A video or segment that is not used, or that is not as it should be, and why."""

    video_id: str
    split: str
    label: str
    start_s: float | None
    end_s: float | None
    source: str
    reason: str


@dataclass
class SegmentTable:
    """Usable videos by split; what is left out, or strange; numbers of annotated and usable videos and segments; label names by id."""

    videos: dict[str, list[Video]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    coverage: dict[str, float] = field(default_factory=dict)
    label_ids: dict[str, int] = field(default_factory=dict)


def load_segments(layout: Layout, dataset: Dataset, features: Features, target: str = "label") -> SegmentTable:
    """Videos of one label space with their features.

    Raises DataError for tables that are missing, of another version or without this target, and where no features are stored;
    StorageError when they cannot be read.
    """
    segments = [row for row in _table(layout, dataset, "segments").to_pylist() if row["target"] == target]
    entries = [row for row in _table(layout, dataset, "entries").to_pylist() if row["table"] == "segments"]
    if not segments:
        raise DataError(f"dataset '{dataset.name}': no segment has a label of target '{target}'; read the annotations first")
    uris = (layout.features_manifest(dataset.name, features.key(), number) for number in range(BUCKETS))
    ledger = {row["video_id"]: row for row in read_ledgers(uris, FEATURES).to_pylist()}
    if not any(row["status"] == "ok" for row in ledger.values()):
        raise DataError(f"dataset '{dataset.name}': no stored features '{features.name}'; make them: kinograph features {features.name}")
    table = SegmentTable(label_ids={row["label"]: row["label_id"] for row in segments})
    by_video: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in segments:
        by_video.setdefault((row["split"], row["video_id"]), []).append(row)
    places = {(row["split"], row["video_id"]): row for row in entries}
    places |= {place: {"duration_s": None, "fps": None} for place in by_video if place not in places}
    grids = _grids(ledger, places, features)
    for (split, video), entry in sorted(places.items()):
        own = sorted(by_video.get((split, video), ()), key=lambda row: (row["start_s"], row["end_s"], row["label_id"]))
        _add(table, split, video, own, ledger.get(video), grids.get(video), entry, features)
    _strangers(table, ledger, {video for _, video in places})
    _count(table, by_video, places)
    return table


def _table(layout: Layout, dataset: Dataset, name: str) -> Any:
    uri = layout.annotation_table(dataset.name, "segments") if name == "segments" else layout.entries_table(dataset.name)
    schema = SEGMENTS if name == "segments" else ENTRIES
    try:
        table = read_table(uri)
    except FileNotFoundError as error:
        raise DataError(f"dataset '{dataset.name}': no {name} table at {uri}; read the annotations first") from error
    if table.schema.names != schema.names:
        raise DataError(f"dataset '{dataset.name}': {uri} was written by another version of this code; read the annotations again")
    return table


def _grids(ledger: dict[str, Any], places: dict[tuple[str, str], Any], features: Features) -> dict[str, tuple[float | None, float | None]]:
    """(rate, duration) of every video: the features' own, else those of the annotation file, else what the stored array says."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for (_, video), entry in places.items():
        found[video] = (features.fps or entry["fps"], entry["duration_s"])
    extracted = bool(features.extract)  # these know the video better than the annotation file
    unknown = [
        (video, row["uri"])
        for video, row in ledger.items()
        if video in found and row["status"] == "ok" and (extracted or None in found[video])
    ]
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        attributes = threads.map(lambda item: FeatureReader(item[1]).attributes, unknown)
        for (video, _), own in zip(unknown, attributes, strict=True):
            fps, duration = found[video]
            stored = (own.get("fps"), own.get("duration_s"))
            found[video] = (stored[0] or fps, stored[1] or duration) if extracted else (fps or stored[0], duration or stored[1])
    return found


def _add(
    table: SegmentTable, split: str, video: str, rows: list[dict[str, Any]], stored: dict[str, Any] | None,
    grid: tuple[float | None, float | None] | None, entry: dict[str, Any], features: Features,
) -> None:  # fmt: skip
    """Adds the video, or says why not."""
    fps, duration = grid or (None, None)
    reason = ""
    if stored is None:
        reason = f"annotated, and no features '{features.name}' are stored"
    elif stored["status"] != "ok":
        reason = f"its features are refused: {stored['reason']}"
    elif fps is None:
        reason = "neither the features nor the annotations say its frame rate"
    if reason or stored is None or fps is None:
        table.left_out.append(LeftOut(video, split, "", None, None, rows[0]["source"] if rows else "", reason))
        return
    covered = covered_frames(stored["num_steps"], features.stride, features.num_frames) / fps
    if stored["num_steps"] == 1:
        table.left_out.append(LeftOut(video, split, "", None, None, "", "its features have one step only (kept, though nothing fits in)"))
    spans = np.array([[row["start_s"], row["end_s"]] for row in rows], np.float64).reshape(-1, 2)
    labels = np.array([row["label_id"] for row in rows], np.int64)
    kept = kept_segments(spans[:, 0], spans[:, 1], labels)
    for row, keep in zip(rows, kept.tolist(), strict=True):
        reason = "" if keep else "shorter than a millisecond" if row["end_s"] - row["start_s"] < SAME_S else "the same segment again"
        reason = reason or _beyond(row, duration, covered)
        if reason:
            table.left_out.append(LeftOut(video, split, row["label"], row["start_s"], row["end_s"], row["source"], reason))
    facts = (stored["uri"], stored["key"], stored["num_steps"], stored["channels"], float(fps), float(duration or covered))
    table.videos.setdefault(split, []).append(Video(video, split, *facts, spans[kept], labels[kept]))


def _beyond(row: dict[str, Any], duration: float | None, covered: float) -> str:
    """Why a segment lies outside the video or its features; such a segment is kept as it is annotated, and training cuts it."""
    if duration is not None and row["end_s"] > duration + BEYOND_S:
        return f"beyond the end of the video, {duration:.2f} s (kept; training sees what lies inside)"
    if row["start_s"] >= covered:
        return f"beyond the end of the features, {covered:.2f} s (kept; training leaves it out)"
    return ""


def _strangers(table: SegmentTable, ledger: dict[str, Any], annotated: set[str]) -> None:
    for video, row in sorted(ledger.items()):
        if video not in annotated:
            reason = "features are stored, and no annotation names this video" if row["status"] == "ok" else row["reason"]
            table.left_out.append(LeftOut(video, "", "", None, None, row["uri"], reason))


def _count(table: SegmentTable, by_video: dict[tuple[str, str], list[Any]], places: Iterable[tuple[str, str]]) -> None:
    annotated = Counter(split for split, _ in places)
    rows = Counter({split: 0 for split in annotated})
    for (split, _), own in by_video.items():
        rows[split] += len(own)
    for split, count in sorted(annotated.items()):
        usable = table.videos.get(split, [])
        segments = sum(len(video.labels) for video in usable)
        table.coverage |= {
            f"{split}_annotated": count,
            f"{split}_usable": len(usable),
            f"{split}_share": len(usable) / count,
            f"{split}_segments_annotated": rows[split],
            f"{split}_segments_usable": segments,
        }
    table.coverage["features_without_annotation"] = sum(not row.split for row in table.left_out)


# ------------------------------------------------------------------------------------------------------------- items


class SegmentDataset:
    """Videos as feature sequences; fits `ops.training.task.Samples`.

    Items hold `features` float32 (C, T), `segments` float32 [G, 2] on the grid of these T steps, `labels` int64 [G], and of the whole
    video `true_segments` float64 [G, 2] (s), `true_labels`, `grid`, `video_id`. In training T is a window of at most `max_length` steps
    that depends on seed, epoch and index alone; segments of it may start a little before 0. Otherwise T is the whole video. Raises
    SampleError for features that cannot be read, or are not finite: none is replaced.
    """

    def __init__(
        self, videos: Sequence[Video], features: Features, steps: Steps, *, max_length: int, training: bool, one_class: bool = False,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.videos, self.stride, self.num_frames, self.steps = list(videos), features.stride, features.num_frames, steps
        self.max_length, self.training, self.one_class, self.seed = max_length, training, one_class, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # seen by loader processes that outlive an epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the windows of this epoch; has no effect outside training."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        video, epoch = self.videos[index], int(self._epoch[0])
        grid, steps = self.grid_of(video)
        segments = to_grid(video.segments, grid.fps, grid.stride, grid.num_frames).astype(np.float32)
        labels = np.zeros_like(video.labels) if self.one_class else video.labels
        first, last = 0, steps
        if self.training:
            if self.steps.resample is not None:
                segments, labels = _inside(segments, labels, steps + grid.offset, self.steps.keep_share)
            rng = np.random.default_rng((self.seed, epoch, index))
            first, last, segments, labels = cut(segments, labels, steps, self.max_length, grid.offset, self.steps, rng)
        try:
            features = self._read(video, first, last)
        except (OSError, ValueError, IndexError) as error:
            raise SampleError(f"video '{video.video_id}' at {video.uri}: {type(error).__name__}: {error}") from error
        item = {"features": features, "segments": segments, "labels": labels, "video_id": video.video_id, "grid": grid}
        return {**item, "true_segments": video.segments, "true_labels": video.labels, "index": index, "epoch": epoch}

    def grid_of(self, video: Video) -> tuple[Grid, int]:
        """The grid that the video's sequence lies on, and how many steps it has."""
        return grid_of(video.num_steps, self.stride, self.num_frames, video.fps, video.duration_s, self.steps.resample)

    def _read(self, video: Video, first: int, last: int) -> np.ndarray:
        reader = FeatureReader(video.uri)
        if self.steps.resample is None:
            found = reader.read(first, last).astype(np.float32)
        else:
            found = resampled(reader.read().astype(np.float32), self.steps.resample)[first:last]
        if not np.isfinite(found).all():
            raise ValueError("values that are not finite")
        return np.ascontiguousarray(found.T)


def grid_of(num_steps: int, stride: int, num_frames: int, fps: float, duration_s: float, resample: int | None) -> tuple[Grid, int]:
    """Grid and number of steps of a sequence; resampled, its steps share the frames that the features cover evenly."""
    if resample is None:
        return Grid(stride, num_frames, fps, duration_s), num_steps
    even = covered_frames(num_steps, stride, num_frames) / resample
    return Grid(even, even, fps, duration_s), resample


def resampled(features: np.ndarray, steps: int) -> np.ndarray:
    """Features float32 [T, C] -> [steps, C] by linear interpolation between the steps' middles."""
    if len(features) == steps:
        return features
    return interpolate(torch.from_numpy(features.T.copy())[None], size=steps, mode="linear", align_corners=False)[0].numpy().T


def _inside(segments: np.ndarray, labels: np.ndarray, end: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Segments of which at least this share lies before `end` (steps), cut there."""
    length = segments[:, 1] - segments[:, 0]
    kept = (segments[:, 0] < end) & (np.minimum(segments[:, 1], end) - segments[:, 0] >= share * length)
    return np.minimum(segments[kept], np.float32(end)), labels[kept]


def cut(
    segments: np.ndarray, labels: np.ndarray, num_steps: int, max_length: int, offset: float, steps: Steps, rng: np.random.Generator
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """A random window for training: (first step, end, segments on the window's grid, their labels).

    The window is drawn until it holds `keep_share` of at least one segment, `tries` times at most. Held segments are cut to the window,
    widened by `offset` on both sides; the others are left out.
    """
    length = max_length
    if num_steps <= max_length:
        length = num_steps
        if steps.crop_ratio is not None:
            low, high = (round(share * num_steps) for share in steps.crop_ratio)
            length = int(rng.integers(max(low, 1), min(high, num_steps) + 1))
        if length == num_steps:
            return 0, num_steps, segments, labels
    span = segments[:, 1] - segments[:, 0]
    for _ in range(steps.tries):
        first = int(rng.integers(0, num_steps - length + 1))
        left = np.maximum(segments[:, 0], np.float32(first - offset))
        right = np.minimum(segments[:, 1], np.float32(first + length + offset))
        held = np.maximum(right - left, 0) / span >= steps.keep_share
        if held.any():
            break
    return first, first + length, np.stack([left[held], right[held]], 1) - np.float32(first), labels[held]
