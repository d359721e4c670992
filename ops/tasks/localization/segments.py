"""Untrimmed videos with labelled segments and stored features: the segments and entries tables
joined with the features' ledger.

What cannot be learnt or is not there is never dropped in silence: it gives a row of
`SegmentTable.left_out`, and the coverage counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn.functional import interpolate

from configs.schema import BUCKETS, Dataset, Features
from configs.schema.localization import Steps
from ops.data.errors import DataError, SampleError
from ops.data.feature_grid import covered_frames, to_grid
from ops.data.tables import (
    Made,
    floats,
    joined,
    label_ids_of,
    ranked,
    read_annotations,
    row_of,
    rows_of,
)
from ops.store.features import FeatureReader
from ops.store.layout import Layout
from ops.store.ledger import read_ledgers
from ops.store.tables import FEATURES
from ops.tasks.localization.metric import SAME_S, kept_segments

READS_AT_ONCE = 16
BEYOND_S = 0.5  # annotations are rounded, and durations are those of another container


class Grid(NamedTuple):
    """How steps of a feature sequence lie in time: step i is at (i * stride + 0.5 * num_frames) /
    fps seconds. Strides may be fractions.
    """

    stride: float
    num_frames: float
    fps: float
    duration_s: float

    @property
    def offset(self) -> float:
        """Half a window, in steps."""
        return 0.5 * self.num_frames / self.stride


class FeatureVideo(NamedTuple):
    """One video with features. Segments float64 [G, 2] in seconds, sorted by start, without
    repeats; `key` is the ledger's.
    """

    video_id: str
    split: str
    array_uri: str
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


@dataclass(frozen=True, eq=False)
class VideoList(Made[FeatureVideo]):
    """Videos of a split as columns, sorted by id.

    `columns` has a row per video, named as FeatureVideo's fields are; its segments are rows
    `starts[i]:starts[i + 1]` of `segments` float64 [S, 2] (s) and `labels` int64 [S].
    """

    split: str
    columns: pa.Table
    starts: np.ndarray
    segments: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return self.columns.num_rows

    def item(self, index: int) -> FeatureVideo:
        """Video `index`."""
        own = slice(self.starts[index], self.starts[index + 1])
        return FeatureVideo(
            split=self.split,
            **row_of(self.columns, index),
            segments=self.segments[own],
            labels=self.labels[own],
        )


@dataclass
class SegmentTable:
    """Usable videos by split; what is left out, or strange; numbers of annotated and usable videos
    and segments; label names by id.
    """

    videos: dict[str, VideoList]
    left_out: list[LeftOut]
    coverage: dict[str, float]
    label_ids: dict[str, int]


def load_segments(
    layout: Layout, dataset: Dataset, features: Features, target: str = "label"
) -> SegmentTable:
    """Videos of one label space with their features.

    Args:
        layout: of the store that has features and annotations.
        dataset: whose segments are read.
        features: that are stored of its videos.
        target: name of the label space.

    Raises:
        DataError: a table is missing, of another version or without this target, or no features are
            stored.
        StorageError: a table cannot be read.
    """
    segments, entries = (
        read_annotations(layout, dataset, name) for name in ("segments", "entries")
    )
    segments = segments.filter(pc.equal(segments["target"], target))
    if not segments.num_rows:
        raise DataError(
            f"dataset '{dataset.name}': no segment has a label of target '{target}'; read the"
            " annotations first"
        )
    uris = (
        layout.features_manifest(dataset.name, features.key(), number) for number in range(BUCKETS)
    )
    ledger = read_ledgers(
        uris,
        FEATURES,
        ("video_id", "array_uri", "key", "num_steps", "channels", "status", "reason"),
    )
    if not pc.any(pc.equal(ledger["status"], "ok")).as_py():
        raise DataError(
            f"dataset '{dataset.name}': no stored features '{features.name}'; make them: kinograph"
            f" features {features.name}"
        )
    places = _Places(
        segments, entries.filter(pc.equal(entries["table"], "segments")), ledger, features
    )
    videos = places.videos()
    return SegmentTable(videos, places.left_out(), places.coverage(videos), label_ids_of(segments))


class _Places:
    """Every annotated video of every split (P of them, sorted by split and id), its row of the
    ledger, and its own segments.

    `split` and `video` int64 [P] are ranks in `splits` and `names`; `row` [P] is the ledger's, -1
    for none; `fps` and `duration` float64 [P] are NaN where nobody says them. The S segments are
    sorted by place, start, end and label: `place` [S] is theirs, `source` [S] their row of the
    table.
    """

    def __init__(
        self, segments: pa.Table, entries: pa.Table, ledger: pa.Table, features: Features
    ) -> None:
        self.table, self.ledger, self.features = segments, ledger, features
        many = entries.num_rows
        self.splits, split = ranked(joined(entries["split"], segments["split"]))
        self.names, video = ranked(joined(entries["video_id"], segments["video_id"]))
        # One number a pair, so that its unique values are the places in order; `place` says for
        # each row of both tables which is its own.
        pairs, place = np.unique(split * len(self.names) + video, return_inverse=True)
        self.split, self.video = np.divmod(pairs, len(self.names))
        self.row = rows_of(pa.array(self.names, pa.string()), ledger)[self.video]
        self.stored = np.append(pc.equal(ledger["status"], "ok").to_numpy(), False)[self.row]
        entry = np.full(len(pairs), -1)
        entry[place[:many]] = np.arange(many)  # of an entry that stands twice the last one counts
        fps, duration = (
            np.append(floats(entries[name]), np.nan)[entry] for name in ("fps", "duration_s")
        )
        first = np.full(len(pairs), len(place))
        first[place[::-1]] = np.arange(len(place))[::-1]  # its first row in both tables
        self.fps, self.duration = self._grids(fps, duration, np.argsort(first))
        self.steps = np.append(pc.fill_null(ledger["num_steps"], 0).to_numpy(), 0)[self.row]
        # s; what the features reach to
        self.covered = covered_frames(self.steps, features.stride, features.num_frames) / self.fps
        self._segments(place[many:])

    def _grids(
        self, fps: np.ndarray, duration: np.ndarray, order: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rate, duration) [P] of every video: the features' own, else those of the annotation
        file, else what the stored array says.

        `order`: a video that stands in several splits has what its last entry says.
        """
        last = np.empty(len(self.names), np.int64)
        last[self.video[order]] = order
        fps, duration = fps[last], duration[last]  # now of videos, not of places
        if self.features.fps:
            fps = np.full(len(fps), float(self.features.fps))
        # these know the video better than the annotation file
        extracted = bool(self.features.extract)
        stored = self.stored[last] & (extracted | np.isnan(fps) | np.isnan(duration))
        asked = np.flatnonzero(stored)
        uris = self.ledger["array_uri"].take(pa.array(self.row[last][asked])).to_pylist()
        with ThreadPoolExecutor(READS_AT_ONCE) as threads:
            found = list(threads.map(lambda uri: FeatureReader(uri).attributes, uris))
        for values, name in ((fps, "fps"), (duration, "duration_s")):
            own = np.array([attributes.get(name) or np.nan for attributes in found], np.float64)
            said = np.where(values[asked] == 0, np.nan, values[asked])
            values[asked] = (
                np.where(np.isnan(own), values[asked], own)
                if extracted
                else np.where(np.isnan(said), own, said)
            )
        return fps[self.video], duration[self.video]

    def _segments(self, place: np.ndarray) -> None:
        start, end = (self.table[name].to_numpy() for name in ("start_s", "end_s"))
        label = self.table["label_id"].to_numpy().astype(np.int64)
        self.source = np.lexsort((label, end, start, place))
        self.place, self.label = place[self.source], label[self.source]
        self.start, self.end = start[self.source], end[self.source]
        self.bounds = np.searchsorted(self.place, np.arange(len(self.row) + 1))
        self.usable = self.stored & ~np.isnan(self.fps)
        self.kept = (self.end - self.start) >= SAME_S
        # Only where two of one place and label start together can one be there twice: there, and
        # nowhere else, all pairs are looked at.
        order = np.lexsort((self.start, self.label, self.place))
        alike = (
            (np.diff(self.place[order]) == 0)
            & (np.diff(self.label[order]) == 0)
            & (np.diff(self.start[order]) <= SAME_S)
        )
        for number in np.unique(self.place[order[1:][alike]]).tolist():
            own = slice(self.bounds[number], self.bounds[number + 1])
            self.kept[own] = kept_segments(self.start[own], self.end[own], self.label[own])

    def videos(self) -> dict[str, VideoList]:
        """The usable ones by split."""
        found = {}
        for number, name in enumerate(self.splits):
            chosen = np.flatnonzero(self.usable & (self.split == number))
            if not len(chosen):
                continue
            columns = self.ledger.select(
                ["video_id", "array_uri", "key", "num_steps", "channels"]
            ).take(pa.array(self.row[chosen]))
            duration = self.duration[chosen]
            duration = np.where(
                np.isnan(duration) | (duration == 0), self.covered[chosen], duration
            )
            columns = columns.append_column("fps", pa.array(self.fps[chosen])).append_column(
                "duration_s", pa.array(duration)
            )
            rows = np.flatnonzero(self.kept & np.isin(self.place, chosen))
            starts = np.searchsorted(self.place[rows], np.append(chosen, len(self.row)))
            spans = np.stack([self.start[rows], self.end[rows]], axis=1)
            found[name] = VideoList(name, columns.combine_chunks(), starts, spans, self.label[rows])
        return found

    def left_out(self) -> list[LeftOut]:
        """What is not used, or strange: by place, of its segments in their order, and at last the
        features of no annotated video.
        """
        found: list[tuple[int, int, LeftOut]] = []  # the place, the segment's row or -1
        for number in np.flatnonzero(~self.usable | (self.steps == 1)).tolist():
            source, reason = "", "its features have one step only (kept, though nothing fits in)"
            if not self.usable[number]:
                own = self.source[self.bounds[number] : self.bounds[number + 1]]
                source, reason = (
                    self.table["source"][int(own[0])].as_py() if len(own) else "",
                    self._why_not(number),
                )
            found.append((number, -1, LeftOut(*self._name(number), "", None, None, source, reason)))
        outside = (self.end > self.duration[self.place] + BEYOND_S) | (
            self.start >= self.covered[self.place]
        )
        facts = self.table.select(["label", "start_s", "end_s", "source"])
        for row in np.flatnonzero(self.usable[self.place] & (~self.kept | outside)).tolist():
            number = int(self.place[row])
            segment = row_of(facts, int(self.source[row]))
            found.append(
                (number, row, LeftOut(*self._name(number), **segment, reason=self._odd(row)))
            )
        return [one for *_, one in sorted(found, key=lambda one: one[:2])] + self._strangers()

    def _name(self, number: int) -> tuple[str, str]:
        return self.names[self.video[number]], self.splits[self.split[number]]

    def _why_not(self, number: int) -> str:
        if self.row[number] < 0:
            return f"annotated, and no features '{self.features.name}' are stored"
        if not self.stored[number]:
            return (
                f"its features are refused: {self.ledger['reason'][int(self.row[number])].as_py()}"
            )
        return "neither the features nor the annotations say its frame rate"

    def _odd(self, row: int) -> str:
        """Why a segment does not count, or lies outside: such a one is kept as it is annotated, and
        training cuts it.
        """
        if not self.kept[row]:
            return (
                "shorter than a millisecond"
                if self.end[row] - self.start[row] < SAME_S
                else "the same segment again"
            )
        duration, covered = self.duration[self.place[row]], self.covered[self.place[row]]
        if self.end[row] > duration + BEYOND_S:
            return (
                f"beyond the end of the video, {duration:.2f} s (kept; training sees what lies"
                " inside)"
            )
        return f"beyond the end of the features, {covered:.2f} s (kept; training leaves it out)"

    def _strangers(self) -> list[LeftOut]:
        known = pc.is_in(self.ledger["video_id"], value_set=pa.array(self.names, pa.string()))
        rows = (
            self.ledger.filter(pc.invert(known))
            .sort_by("video_id")
            .select(["video_id", "array_uri", "status", "reason"])
            .to_pylist()
        )
        nobody = "features are stored, and no annotation names this video"
        return [
            LeftOut(
                row["video_id"],
                "",
                "",
                None,
                None,
                row["array_uri"],
                nobody if row["status"] == "ok" else row["reason"],
            )
            for row in rows
        ]

    def coverage(self, videos: Mapping[str, VideoList]) -> dict[str, float]:
        """Annotated and usable videos and segments by split."""
        annotated = np.bincount(self.split, minlength=len(self.splits)).tolist()
        segments = np.bincount(self.split[self.place], minlength=len(self.splits)).tolist()
        found: dict[str, float] = {}
        for number, split in enumerate(self.splits):
            usable, kept = (
                (len(videos[split]), len(videos[split].labels)) if split in videos else (0, 0)
            )
            found |= {
                f"{split}_annotated": annotated[number],
                f"{split}_usable": usable,
                f"{split}_share": usable / annotated[number],
                f"{split}_segments_annotated": segments[number],
                f"{split}_segments_usable": kept,
            }
        known = pc.is_in(self.ledger["video_id"], value_set=pa.array(self.names, pa.string()))
        return {**found, "features_without_annotation": int(len(known) - pc.sum(known).as_py())}


# --------------------------------------------------------------------------------------------------
# items


class SegmentDataset:
    """Videos as feature sequences; fits `ops.training.task.Samples`.

    Items hold `features` float32 (C, T), `segments` float32 [G, 2] on the grid of these T steps,
    `labels` int64 [G], and of the whole video `true_segments` float64 [G, 2] (s), `true_labels`,
    `grid`, `video_id`. In training T is a window of at most `max_length` steps that depends on
    seed, epoch and index alone; segments of it may start a little before 0. Otherwise T is the
    whole video. Raises SampleError for features that cannot be read, or are not finite: none is
    replaced.
    """

    def __init__(
        self,
        videos: Sequence[FeatureVideo],
        features: Features,
        steps: Steps,
        *,
        max_length: int,
        training: bool,
        one_class: bool = False,
        seed: int = 0,
    ) -> None:
        self.videos, self.stride, self.num_frames, self.steps = (
            videos,
            features.stride,
            features.num_frames,
            steps,
        )
        self.max_length, self.training, self.one_class, self.seed = (
            max_length,
            training,
            one_class,
            seed,
        )
        # seen by loader processes that outlive an epoch
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the windows of this epoch; has no effect outside training."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        video, epoch = self.videos[index], int(self._epoch[0])
        grid, steps = self.grid_of(video)
        segments = to_grid(video.segments, grid.fps, grid.stride, grid.num_frames).astype(
            np.float32
        )
        labels = np.zeros_like(video.labels) if self.one_class else video.labels
        first, last = 0, steps
        if self.training:
            if self.steps.resample is not None:
                segments, labels = _inside(
                    segments, labels, steps + grid.offset, self.steps.keep_share
                )
            rng = np.random.default_rng((self.seed, epoch, index))
            first, last, segments, labels = cut(
                segments, labels, steps, self.max_length, grid.offset, self.steps, rng
            )
        try:
            features = self._read(video, first, last)
        except (OSError, ValueError, IndexError) as error:
            raise SampleError(
                f"video '{video.video_id}' at {video.array_uri}: {type(error).__name__}: {error}"
            ) from error
        item = {
            "features": features,
            "segments": segments,
            "labels": labels,
            "video_id": video.video_id,
            "grid": grid,
        }
        return {
            **item,
            "true_segments": video.segments,
            "true_labels": video.labels,
            "index": index,
            "epoch": epoch,
        }

    def grid_of(self, video: FeatureVideo) -> tuple[Grid, int]:
        """The grid that the video's sequence lies on, and how many steps it has."""
        return grid_of(
            video.num_steps,
            self.stride,
            self.num_frames,
            video.fps,
            video.duration_s,
            self.steps.resample,
        )

    def _read(self, video: FeatureVideo, first: int, last: int) -> np.ndarray:
        reader = FeatureReader(video.array_uri)
        if self.steps.resample is None:
            found = reader.read(first, last).astype(np.float32)
        else:
            found = resampled(reader.read().astype(np.float32), self.steps.resample)[first:last]
        if not np.isfinite(found).all():
            raise ValueError("values that are not finite")
        return np.ascontiguousarray(found.T)


def grid_of(
    num_steps: int,
    stride: int,
    num_frames: int,
    fps: float,
    duration_s: float,
    resample: int | None,
) -> tuple[Grid, int]:
    """Grid and number of steps of a sequence.

    Args:
        num_steps: of the features as stored.
        stride: frames from one step to the next.
        num_frames: that a step sees.
        fps: of the frames that steps are counted in.
        duration_s: of the video.
        resample: so many steps share the frames that the features cover evenly; None leaves them.
    """
    if resample is None:
        return Grid(stride, num_frames, fps, duration_s), num_steps
    even = covered_frames(num_steps, stride, num_frames) / resample
    return Grid(even, even, fps, duration_s), resample


def resampled(features: np.ndarray, steps: int) -> np.ndarray:
    """Features float32 [T, C] -> [steps, C] by linear interpolation between the steps' middles."""
    if len(features) == steps:
        return features
    return (
        interpolate(
            torch.from_numpy(features.T.copy())[None],
            size=steps,
            mode="linear",
            align_corners=False,
        )[0]
        .numpy()
        .T
    )


def _inside(
    segments: np.ndarray, labels: np.ndarray, end: float, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Segments of which at least this share lies before `end` (steps), cut there."""
    # In steps of the grid: what lies before `end` must be the share of the whole segment.
    length = segments[:, 1] - segments[:, 0]
    kept = (segments[:, 0] < end) & (
        np.minimum(segments[:, 1], end) - segments[:, 0] >= share * length
    )
    return np.minimum(segments[kept], np.float32(end)), labels[kept]


def cut(
    segments: np.ndarray,
    labels: np.ndarray,
    num_steps: int,
    max_length: int,
    offset: float,
    steps: Steps,
    rng: np.random.Generator,
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """A random window for training: (first step, end, segments on the window's grid, their labels).

    Held segments are cut to the window, widened by `offset` on both sides; the others are left out.

    Args:
        segments: [G, 2] in steps of the video.
        labels: [G].
        num_steps: of the video.
        max_length: of the window, in steps.
        offset: half of what a step sees, in steps.
        steps: the window is drawn until it holds `keep_share` of at least one segment, `tries`
            times at most; `crop_ratio` shortens that of a video which would fit.
        rng: draws length and place.
    """
    length = max_length
    if num_steps <= max_length:
        length = num_steps
        if steps.crop_ratio is not None:
            low, high = (round(share * num_steps) for share in steps.crop_ratio)
            length = int(rng.integers(max(low, 1), min(high, num_steps) + 1))
        if length == num_steps:
            return 0, num_steps, segments, labels
    # Lengths [G] in steps; the window [first - offset, first + length + offset] is widened to what
    # its steps see.
    span = segments[:, 1] - segments[:, 0]
    for _ in range(steps.tries):
        first = int(rng.integers(0, num_steps - length + 1))
        left = np.maximum(segments[:, 0], np.float32(first - offset))
        right = np.minimum(segments[:, 1], np.float32(first + length + offset))
        # Share of each segment inside the window, bool [G]; a segment beyond it has right < left.
        held = np.maximum(right - left, 0) / span >= steps.keep_share
        if held.any():
            break
    return (
        first,
        first + length,
        np.stack([left[held], right[held]], 1) - np.float32(first),
        labels[held],
    )
