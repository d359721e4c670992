"""Key frames: the boxes table joined with the frames ledger, persons with all that they do, and what cannot be used, by reason.

Rows of one key frame with the same box are one person; in datasets of tubes one person is one tube. Excluded key frames are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from configs.schema import Dataset
from configs.schema.detection import KeyFrames
from ops.data.ends import ends, surely
from ops.data.errors import DataError
from ops.store.files import StorageError
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.tables import BOXES, ENTRIES, EXCLUDED, read_table

REASONS = ("not_stored", "outside_video", "boxes_without_area", "boxes_outside")
EDGE = 1e-3  # shares of the frame: annotations round


class Video(NamedTuple):
    """A stored video. `key` is the ledger's: the hash of content and decoding; sizes are those of the stored frames."""

    video_id: str
    uri: str
    num_frames: int
    fps: float
    height: int
    width: int
    key: str


class KeyFrame(NamedTuple):
    """One key frame, at a time or at a frame. `boxes` float32 [P, 4] xyxy as shares of the frame, `labels` bool [P, classes]: a person
    may do several things, or nothing of the list; `persons` int64 [P] are the annotation's numbers, -1 for none."""

    video: Video
    timestamp_s: float | None
    frame: int | None
    boxes: np.ndarray
    labels: np.ndarray
    persons: np.ndarray


@dataclass
class Coverage:
    """Key frames of a split: annotated, usable, and what was left out by reason (see REASONS; boxes count singly)."""

    annotated: int = 0
    usable: int = 0
    persons: int = 0
    left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))

    @property
    def share(self) -> float:
        """Usable share, 0 when nothing is annotated."""
        return self.usable / self.annotated if self.annotated else 0.0


@dataclass(frozen=True)
class KeyFrameList:
    """Key frames of a split as flat arrays: a loader process gets them in no time, however many they are.

    Key frame i stands at `times[i]` ms of video `videos[video[i]]` or, where `tubes`, at frame `times[i]`; its persons are rows
    `starts[i]:starts[i + 1]` of `boxes` and `persons`, and pairs of (row, class) of `acts` say what they do.
    """

    videos: Sequence[Video]
    tubes: bool
    num_classes: int
    video: np.ndarray
    times: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    persons: np.ndarray
    acts: np.ndarray

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, index: int) -> KeyFrame:
        low, high = int(self.starts[index]), int(self.starts[index + 1])
        first, last = np.searchsorted(self.acts[:, 0], [low, high])
        labels = np.zeros((high - low, self.num_classes), bool)
        labels[self.acts[first:last, 0] - low, self.acts[first:last, 1]] = True
        time = int(self.times[index])
        at_s, frame = (None, time) if self.tubes else (time / 1000, None)
        return KeyFrame(self.videos[self.video[index]], at_s, frame, self.boxes[low:high], labels, self.persons[low:high])

    def digest(self) -> str:
        """Hash of every key frame, with its video's content and all that is known of its persons."""
        found = hashlib.sha256("\n".join(f"{own.video_id} {own.key}" for own in self.videos).encode())
        for array in (self.video, self.times, self.starts, self.boxes, self.persons, self.acts):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


class KeyFrameTable(NamedTuple):
    """Of every split the key frames to train on and those to evaluate on, and the coverage."""

    training: dict[str, KeyFrameList]
    evaluation: dict[str, KeyFrameList]
    coverage: dict[str, Coverage]


def load_key_frames(layout: Layout, dataset: Dataset, class_of: Mapping[int, int], num_classes: int, rules: KeyFrames) -> KeyFrameTable:
    """Key frames of every split, sorted by video and time. `class_of` gives the model's class for a label id.

    Raises DataError for a table that is missing or of another version, for a label id without a class (naming the row), and for
    timestamps and frames in one dataset; StorageError when a table cannot be read.
    """
    rows = _rows(layout, dataset)
    stored = {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist() if row["status"] == "ok"}
    entries = _table(layout.entries_table(dataset.name), ENTRIES)
    annotated = {(row["video_id"], row["split"]) for row in entries.to_pylist() if row["table"] == "boxes"}
    excluded = {(row["video_id"], row["split"], round(1000 * row["timestamp_s"])) for row in _excluded(layout, dataset).to_pylist()}
    columns = _Columns(rows, dataset, class_of)
    training, evaluation, coverage = {}, {}, {}
    splits = sorted({*columns.splits, *(split for _, split in annotated)})
    for split in splits:
        maker = _Split(columns, split, stored, rules, num_classes, {pair[0] for pair in annotated if pair[1] == split}, excluded)
        coverage[split] = maker.coverage
        training[split], evaluation[split] = maker.made(training=True), maker.made(training=False)
    return KeyFrameTable(training, evaluation, coverage)


def _rows(layout: Layout, dataset: Dataset) -> pa.Table:
    uri = layout.annotation_table(dataset.name, "boxes")
    try:
        table = read_table(uri)
    except FileNotFoundError as error:
        raise DataError(f"dataset '{dataset.name}': no boxes table at {uri}; read the annotations first") from error
    if table.schema.names != BOXES.names:
        raise DataError(f"dataset '{dataset.name}': {uri} was written by another version of this code; read the annotations again")
    return table


def _table(uri: str, schema: pa.Schema) -> pa.Table:
    try:
        table = read_table(uri)
    except FileNotFoundError:
        return schema.empty_table()
    if table.schema.names != schema.names:
        raise StorageError(uri, f"columns {table.schema.names} where {schema.names} are expected; read the annotations again")
    return table


def _excluded(layout: Layout, dataset: Dataset) -> pa.Table:
    return _table(layout.excluded_table(dataset.name), EXCLUDED)


class _Columns:
    """The boxes table as arrays. `time` is ms or, with `tubes`, the frame; `label` is the class, -1 for a person without an action."""

    def __init__(self, table: pa.Table, dataset: Dataset, class_of: Mapping[int, int]) -> None:
        frames, times = table["frame"], table["timestamp_s"]
        self.tubes = table.num_rows > 0 and frames.null_count == 0
        if table.num_rows and not self.tubes and (frames.null_count != table.num_rows or times.null_count):
            raise DataError(f"dataset '{dataset.name}': some boxes stand at a timestamp and others at a frame, or at neither")
        self.videos, self.video = _coded(table["video_id"])
        self.splits, self.split = _coded(table["split"])
        self.time = (
            frames.to_numpy().astype(np.int64) if self.tubes else np.round(1000 * times.to_numpy().astype(np.float64)).astype(np.int64)
        )
        self.boxes = np.stack([table[side].to_numpy().astype(np.float32) for side in ("x1", "y1", "x2", "y2")], axis=1).reshape(-1, 4)
        self.person = table["person_id"].fill_null(-1).to_numpy().astype(np.int64)
        ids = table["label_id"].fill_null(-1).to_numpy().astype(np.int64)
        self.label = np.full(len(ids), -1, np.int64)
        for label_id in np.unique(ids[ids != -1]).tolist():
            rows = ids == label_id
            if label_id not in class_of:
                row = int(np.nonzero(rows)[0][0])
                where = f"{table['source'][row].as_py()}: action id {label_id} ('{table['label'][row].as_py()}')"
                raise DataError(f"{where} is outside the list of dataset '{dataset.name}': {_some(sorted(class_of))}")
            self.label[rows] = class_of[label_id]


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids)) if len(ids) <= 12 else f"{len(ids)} ids from {ids[0]} to {ids[-1]}"


def _coded(column: Any) -> tuple[list[str], np.ndarray]:
    """(values, their places), the values sorted."""
    coded = column.combine_chunks().dictionary_encode()
    values = coded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    rank = np.empty(len(values), np.int64)
    rank[order] = np.arange(len(values))
    return [values[place] for place in order], rank[coded.indices.to_numpy()]


class _Split:
    """Key frames of one split."""

    def __init__(
        self,
        columns: _Columns,
        split: str,
        stored: Mapping[str, Mapping[str, Any]],
        rules: KeyFrames,
        num_classes: int,
        annotated: set[str],
        excluded: set[tuple[str, str, int]],
    ) -> None:
        self.rules, self.num_classes, self.tubes, self.coverage = rules, num_classes, columns.tubes, Coverage()
        self.split, self.excluded = split, excluded
        here = columns.split == (columns.splits.index(split) if split in columns.splits else -1)
        names = sorted({columns.videos[code] for code in np.unique(columns.video[here]).tolist()} | annotated)
        self.videos = [
            Video(name, row["uri"], row["num_frames"], row["fps"] or 0.0, row["height"], row["width"], row["key"])
            for name in names if (row := stored.get(name)) is not None
        ]  # fmt: skip
        self._ends = dict[str, float]()
        place = {video.video_id: number for number, video in enumerate(self.videos)}
        code = np.array([place.get(name, -1) for name in columns.videos] or [-1], np.int64)
        chosen = np.nonzero(here)[0]
        self._persons(columns, chosen, code[columns.video[chosen]])

    def _persons(self, columns: _Columns, rows: np.ndarray, video: np.ndarray) -> None:
        """Rows to persons: one for each box (and tube) of a key frame."""
        frames = np.stack([columns.video[rows], columns.time[rows]], axis=1)
        self.coverage.annotated = len(np.unique(frames, axis=0))
        gone = video < 0
        self.coverage.left_out["not_stored"] = len(np.unique(frames[gone], axis=0))
        outside = ~gone & self._outside(video, columns.time[rows])
        self.coverage.left_out["outside_video"] = len(np.unique(frames[outside], axis=0))
        barred = ~gone & self._barred(video, columns.time[rows])
        good = ~(gone | outside | barred)
        rows, video = rows[good], video[good]
        boxes = columns.boxes[rows]
        self.coverage.left_out["boxes_outside"] = int(((boxes < -EDGE) | (boxes > 1 + EDGE)).any(axis=1).sum())
        boxes = np.clip(boxes, 0.0, 1.0)
        whole = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        self.coverage.left_out["boxes_without_area"] = int((~whole).sum())
        time, person = columns.time[rows], columns.person[rows]
        # A key frame whose boxes are all empty stays a key frame: nobody is known to be there.
        self._frames = np.unique(np.stack([video, time], axis=1), axis=0).reshape(-1, 2)
        rows, video, time, person, boxes = rows[whole], video[whole], time[whole], person[whole], boxes[whole]
        number = person if self.tubes else np.zeros_like(person)
        order = np.lexsort((columns.label[rows], *boxes.T[::-1], number, time, video))
        keys = np.stack([video, time, number], axis=1)[order]
        sides = boxes[order]
        new = np.ones(len(order), bool)
        new[1:] = (keys[1:] != keys[:-1]).any(axis=1) | (sides[1:] != sides[:-1]).any(axis=1)
        self.boxes, self.person = sides[new], person[order][new]
        self.of = keys[new, :2]
        acts = np.stack([np.cumsum(new) - 1, columns.label[rows][order]], axis=1)
        self.acts = np.unique(acts[acts[:, 1] >= 0], axis=0).reshape(-1, 2)
        self.coverage.usable, self.coverage.persons = len(self._frames), len(self.boxes)

    def _outside(self, video: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether each stands beyond its stored video: by the ledger's mean rate, and near the end by the times of the frames."""
        if not self.videos:
            return np.zeros(len(video), bool)
        last = np.array([own.num_frames if self.tubes or not own.fps else 1000 * own.num_frames / own.fps for own in self.videos])
        if not self.tubes:
            sure = np.array([1000 * surely(own.num_frames, own.fps) for own in self.videos])
            near = [self.videos[code] for code in np.unique(video[(time > sure[video]) & (time < last[video])]).tolist()]
            self._ends |= ends(own.uri for own in near if own.uri not in self._ends)
            last = np.minimum(last, [1000 * self._ends.get(own.uri, np.inf) for own in self.videos])
        return (time < 0) | (time >= last[video])

    def _barred(self, video: np.ndarray, time: np.ndarray) -> np.ndarray:
        if self.tubes or not self.excluded or not self.videos:
            return np.zeros(len(video), bool)
        pairs = ((self.videos[code].video_id, self.split, at) for code, at in zip(video.tolist(), time.tolist(), strict=True))
        return np.fromiter((pair in self.excluded for pair in pairs), bool, len(video))

    def _empty(self) -> np.ndarray:
        """Every frame or second that could be a key frame, int64 [N, 2] of (video, time)."""
        if self.tubes:
            return _grid([range(own.num_frames) for own in self.videos])
        if self.rules.seconds is None:
            return np.empty((0, 2), np.int64)
        first, last = self.rules.seconds
        grid = _grid([range(1000 * first, 1000 * last + 1, 1000)] * len(self.videos))
        return grid[~(self._outside(grid[:, 0], grid[:, 1]) | self._barred(grid[:, 0], grid[:, 1]))]

    def made(self, training: bool) -> KeyFrameList:
        """Key frames for training or for evaluation."""
        rules = self.rules
        with_empty = rules.empty_in_training if training else (rules.empty_in_evaluation or self.tubes)
        frames = np.unique(np.concatenate([self._frames, self._empty()]), axis=0) if with_empty else self._frames
        if training and self.tubes and rules.every > 1:
            frames = frames[frames[:, 1] % rules.every == 0]
        kept = _find(frames, self.of)
        rows = np.nonzero(kept >= 0)[0]
        starts = np.searchsorted(kept[rows], np.arange(len(frames) + 1))
        new = np.full(len(self.boxes) + 1, -1, np.int64)
        new[rows] = np.arange(len(rows))
        acts = np.stack([new[self.acts[:, 0]], self.acts[:, 1]], axis=1)
        return KeyFrameList(
            self.videos, self.tubes, self.num_classes, frames[:, 0], frames[:, 1], starts, self.boxes[rows], self.person[rows],
            acts[acts[:, 0] >= 0],
        )  # fmt: skip


def _grid(ranges: Sequence[range]) -> np.ndarray:
    parts = [np.stack([np.full(len(own), number), np.array(own, np.int64)], axis=1) for number, own in enumerate(ranges)]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)


def _find(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Place of each of `rows` [N, 2] in the sorted `table` [M, 2], -1 for none."""
    if not len(table) or not len(rows):
        return np.full(len(rows), -1, np.int64)
    span = int(max(table[:, 1].max(), rows[:, 1].max())) + 1
    keys, wanted = table[:, 0] * span + table[:, 1], rows[:, 0] * span + rows[:, 1]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
