"""Key frames: the boxes table joined with the frames ledger, persons with all that they do, and
what cannot be used, by reason.

Rows of one key frame with the same box are one person; in datasets of tubes one person is one tube.
Excluded key frames are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import Dataset
from configs.schema.detection import KeyFrames
from ops.data.ends import ends, surely
from ops.data.errors import DataError
from ops.data.tables import Made, Rows, StoredVideo, ranked, read_annotations, rows_of, stored_rows
from ops.files.storage import StorageError
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.tables import ENTRIES, EXCLUDED, read_table

REASONS = ("not_stored", "outside_video", "boxes_without_area", "boxes_outside")
EDGE = 1e-3  # shares of the frame: annotations round


class KeyFrame(NamedTuple):
    """One key frame, at a time or at a frame. `boxes` float32 [P, 4] xyxy as shares of the frame,
    `labels` bool [P, classes]: a person may do several things, or nothing of the list; `persons`
    int64 [P] are the annotation's numbers, -1 for none.
    """

    video: StoredVideo
    timestamp_s: float | None
    frame: int | None
    boxes: np.ndarray
    labels: np.ndarray
    persons: np.ndarray


@dataclass
class KeyFrameCoverage:
    """Key frames of a split: annotated, usable, and what was left out by reason (see REASONS; boxes
    count singly).
    """

    annotated: int = 0
    usable: int = 0
    persons: int = 0
    left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))

    @property
    def share(self) -> float:
        """Usable share, 0 when nothing is annotated."""
        return self.usable / self.annotated if self.annotated else 0.0


@dataclass(frozen=True, eq=False)
class KeyFrameList(Made[KeyFrame]):
    """Key frames of a split as flat arrays.

    Key frame i stands at `times[i]` ms of video `videos[video[i]]` or, where `tubes`, at frame
    `times[i]`; its persons are rows `starts[i]:starts[i + 1]` of `boxes` and `persons`, and pairs
    of (row, class) of `acts` say what they do.
    """

    videos: Rows[StoredVideo]
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

    def item(self, index: int) -> KeyFrame:
        """Key frame `index`."""
        low, high = int(self.starts[index]), int(self.starts[index + 1])
        # `acts` is sorted by person: those of persons low to high are one run.
        first, last = np.searchsorted(self.acts[:, 0], [low, high])
        labels = np.zeros((high - low, self.num_classes), bool)
        labels[self.acts[first:last, 0] - low, self.acts[first:last, 1]] = True
        time = int(self.times[index])
        at_s, frame = (None, time) if self.tubes else (time / 1000, None)
        return KeyFrame(
            self.videos[self.video[index]],
            at_s,
            frame,
            self.boxes[low:high],
            labels,
            self.persons[low:high],
        )

    def digest(self) -> str:
        """Hash of every key frame, with its video's content and all that is known of its
        persons.
        """
        named = pc.binary_join_element_wise(
            self.videos.columns["video_id"], self.videos.columns["key"], " "
        )
        found = hashlib.sha256("\n".join(named.to_pylist()).encode())
        for array in (self.video, self.times, self.starts, self.boxes, self.persons, self.acts):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


class KeyFrameTable(NamedTuple):
    """Of every split the key frames to train on and those to evaluate on, and the coverage."""

    training: dict[str, KeyFrameList]
    evaluation: dict[str, KeyFrameList]
    coverage: dict[str, KeyFrameCoverage]


def load_key_frames(
    layout: Layout,
    dataset: Dataset,
    class_of: Mapping[int, int],
    num_classes: int,
    rules: KeyFrames,
) -> KeyFrameTable:
    """Key frames of every split, sorted by video and time.

    Args:
        layout: of the store that has frames and annotations.
        dataset: whose boxes table is read.
        class_of: the model's class for a label id.
        num_classes: of the model.
        rules: which key frames there are.

    Raises:
        DataError: a table is missing or of another version, a label id has no class (naming the
            row), or timestamps and frames stand in one dataset.
        StorageError: a table cannot be read.
    """
    columns = _Columns(read_annotations(layout, dataset, "boxes"), dataset, class_of)
    ledger = read_manifest(layout, dataset, columns=(*StoredVideo._fields, "status"))
    entries, excluded = (
        _table(layout.entries_table(dataset.name), ENTRIES),
        _table(layout.excluded_table(dataset.name), EXCLUDED),
    )
    annotated = entries.filter(pc.equal(entries["table"], "boxes"))
    training, evaluation, coverage = {}, {}, {}
    for split in sorted({*columns.splits, *annotated["split"].unique().to_pylist()}):
        own, barred = (
            table.filter(pc.equal(table["split"], split)) for table in (annotated, excluded)
        )
        maker = _Split(
            columns, split, ledger, rules, num_classes, own["video_id"].unique().to_pylist(), barred
        )
        coverage[split] = maker.coverage
        training[split], evaluation[split] = maker.made(training=True), maker.made(training=False)
    return KeyFrameTable(training, evaluation, coverage)


def _table(uri: str, schema: pa.Schema) -> pa.Table:
    try:
        table = read_table(uri)
    except FileNotFoundError:
        return schema.empty_table()
    if table.schema.names != schema.names:
        raise StorageError(
            uri,
            f"columns {table.schema.names} where {schema.names} are expected; read the annotations"
            " again",
        )
    return table


class _Columns:
    """The boxes table as arrays. `time` is ms or, with `tubes`, the frame; `label` is the class, -1
    for a person without an action.
    """

    def __init__(self, table: pa.Table, dataset: Dataset, class_of: Mapping[int, int]) -> None:
        frames, times = table["frame"], table["timestamp_s"]
        self.tubes = table.num_rows > 0 and frames.null_count == 0
        if (
            table.num_rows
            and not self.tubes
            and (frames.null_count != table.num_rows or times.null_count)
        ):
            raise DataError(
                f"dataset '{dataset.name}': some boxes stand at a timestamp and others at a frame,"
                " or at neither"
            )
        self.videos, self.video = ranked(table["video_id"])
        self.splits, self.split = ranked(table["split"])
        self.time = (
            frames.to_numpy().astype(np.int64)
            if self.tubes
            else np.round(1000 * times.to_numpy().astype(np.float64)).astype(np.int64)
        )
        self.boxes = np.stack(
            [table[side].to_numpy().astype(np.float32) for side in ("x1", "y1", "x2", "y2")], axis=1
        ).reshape(-1, 4)
        self.person = table["person_id"].fill_null(-1).to_numpy().astype(np.int64)
        ids = table["label_id"].fill_null(-1).to_numpy().astype(np.int64)
        self.label = np.full(len(ids), -1, np.int64)
        for label_id in np.unique(ids[ids != -1]).tolist():
            rows = ids == label_id
            if label_id not in class_of:
                row = int(np.nonzero(rows)[0][0])
                where = (
                    f"{table['source'][row].as_py()}: action id {label_id}"
                    f" ('{table['label'][row].as_py()}')"
                )
                raise DataError(
                    f"{where} is outside the list of dataset '{dataset.name}':"
                    f" {_some(sorted(class_of))}"
                )
            self.label[rows] = class_of[label_id]


def _some(ids: Sequence[int]) -> str:
    return (
        ", ".join(map(str, ids)) if len(ids) <= 12 else f"{len(ids)} ids from {ids[0]} to {ids[-1]}"
    )


class _Split:
    """Key frames of one split."""

    def __init__(
        self,
        columns: _Columns,
        split: str,
        ledger: pa.Table,
        rules: KeyFrames,
        num_classes: int,
        annotated: Sequence[str],
        barred: pa.Table,
    ) -> None:
        self.rules, self.num_classes, self.tubes, self.coverage = (
            rules,
            num_classes,
            columns.tubes,
            KeyFrameCoverage(),
        )
        chosen = np.nonzero(
            columns.split == (columns.splits.index(split) if split in columns.splits else -1)
        )[0]
        named = {columns.videos[code] for code in np.unique(columns.video[chosen]).tolist()}
        rows = stored_rows(pa.array(sorted(named.union(annotated)), pa.string()), ledger)
        videos = ledger.select(StoredVideo._fields).take(pa.array(rows[rows >= 0]))
        fps = pc.fill_null(videos["fps"], 0.0)
        self.videos = Rows(
            videos.set_column(videos.schema.get_field_index("fps"), "fps", fps).combine_chunks(),
            StoredVideo,
        )
        self.num_frames = videos["num_frames"].to_numpy()
        # Where a key frame of each video may stand, in frames or ms: before its stored end, by its
        # frames and their mean rate.
        known = (fps.to_numpy() > 0) & (not self.tubes)
        self.ends = np.where(
            known, 1000 * self.num_frames / np.where(known, fps.to_numpy(), 1.0), self.num_frames
        )
        # ms up to which nobody has to ask the frames' own times
        self.sure = 1000 * surely(self.num_frames, fps.to_numpy())
        self.asked = np.zeros(len(self.videos), bool)
        self.barred = (
            rows_of(barred["video_id"], videos),
            np.round(1000 * barred["timestamp_s"].to_numpy()).astype(np.int64),
        )
        # of every video of the table its place among these, -1 for none
        code = rows_of(pa.array(columns.videos, pa.string()), videos)
        self._persons(columns, chosen, code[columns.video[chosen]])

    def _persons(self, columns: _Columns, rows: np.ndarray, video: np.ndarray) -> None:
        """Rows to persons: one for each box (and tube) of a key frame."""
        # A key frame is a (video, time); its rows are persons and what each does.
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
        self.coverage.left_out["boxes_outside"] = int(
            ((boxes < -EDGE) | (boxes > 1 + EDGE)).any(axis=1).sum()
        )
        boxes = np.clip(boxes, 0.0, 1.0)
        whole = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        self.coverage.left_out["boxes_without_area"] = int((~whole).sum())
        time, person = columns.time[rows], columns.person[rows]
        # A key frame whose boxes are all empty stays a key frame: nobody is known to be there.
        self._frames = np.unique(np.stack([video, time], axis=1), axis=0).reshape(-1, 2)
        rows, video, time, person, boxes = (
            rows[whole],
            video[whole],
            time[whole],
            person[whole],
            boxes[whole],
        )
        # By video, time, tube and box (x1 first), then action: rows of one person follow each
        # other, whatever order they came in.
        number = person if self.tubes else np.zeros_like(person)
        order = np.lexsort((columns.label[rows], *boxes.T[::-1], number, time, video))
        keys = np.stack([video, time, number], axis=1)[order]
        sides = boxes[order]
        # A row begins a person where its key frame, tube or box differs from the row before.
        new = np.ones(len(order), bool)
        new[1:] = (keys[1:] != keys[:-1]).any(axis=1) | (sides[1:] != sides[:-1]).any(axis=1)
        self.boxes, self.person = sides[new], person[order][new]
        self.of = keys[new, :2]
        # (person, class) of each row: persons counted from 0 in that order; rows without an action
        # and repeats go.
        acts = np.stack([np.cumsum(new) - 1, columns.label[rows][order]], axis=1)
        self.acts = np.unique(acts[acts[:, 1] >= 0], axis=0).reshape(-1, 2)
        self.coverage.usable, self.coverage.persons = len(self._frames), len(self.boxes)

    def _outside(self, video: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether each stands beyond its stored video: by the ledger's mean rate, and near the end
        by the times of the frames.
        """
        last = np.append(self.ends, np.inf)
        if not self.tubes:
            near = np.unique(
                video[
                    (video >= 0)
                    & (time > np.append(self.sure, np.inf)[video])
                    & (time < last[video])
                ]
            )
            near = near[~self.asked[near]]
            uris = self.videos.columns["array_uri"].take(pa.array(near)).to_pylist()
            found = ends(uris)
            self.ends[near] = np.minimum(self.ends[near], [1000 * found[uri] for uri in uris])
            self.asked[near] = True
            last = np.append(self.ends, np.inf)
        return (time < 0) | (time >= last[video])

    def _barred(self, video: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether each is a key frame that must not count."""
        if self.tubes:
            return np.zeros(len(video), bool)
        return (
            _find(np.unique(np.stack(self.barred, axis=1), axis=0), np.stack([video, time], axis=1))
            >= 0
        )

    def _empty(self) -> np.ndarray:
        """Every frame or second that could be a key frame, int64 [N, 2] of (video, time)."""
        if self.tubes:
            # The frames of all videos in a row, each counted from the first one of its own video.
            first = np.repeat(np.cumsum(self.num_frames) - self.num_frames, self.num_frames)
            return np.stack(
                [
                    np.repeat(np.arange(len(self.videos)), self.num_frames),
                    np.arange(len(first)) - first,
                ],
                axis=1,
            )
        if self.rules.seconds is None:
            return np.empty((0, 2), np.int64)
        seconds = 1000 * np.arange(self.rules.seconds[0], self.rules.seconds[1] + 1)
        grid = np.stack(
            [
                np.repeat(np.arange(len(self.videos)), len(seconds)),
                np.tile(seconds, len(self.videos)),
            ],
            axis=1,
        )
        return grid[~(self._outside(grid[:, 0], grid[:, 1]) | self._barred(grid[:, 0], grid[:, 1]))]

    def made(self, training: bool) -> KeyFrameList:
        """Key frames for training or for evaluation."""
        rules = self.rules
        with_empty = (
            rules.empty_in_training if training else (rules.empty_in_evaluation or self.tubes)
        )
        frames = (
            np.unique(np.concatenate([self._frames, self._empty()]), axis=0)
            if with_empty
            else self._frames
        )
        if training and self.tubes and rules.every > 1:
            frames = frames[frames[:, 1] % rules.every == 0]
        # Each person's key frame in this list, -1 where the list leaves it out.
        kept = _find(frames, self.of)
        rows = np.nonzero(kept >= 0)[0]
        # Persons are sorted by key frame: those of frame i are starts[i]:starts[i + 1].
        starts = np.searchsorted(kept[rows], np.arange(len(frames) + 1))
        # A person's number among the kept ones, -1 for the others; `acts` is renumbered by it.
        new = np.full(len(self.boxes) + 1, -1, np.int64)
        new[rows] = np.arange(len(rows))
        acts = np.stack([new[self.acts[:, 0]], self.acts[:, 1]], axis=1)
        return KeyFrameList(
            self.videos,
            self.tubes,
            self.num_classes,
            frames[:, 0],
            frames[:, 1],
            starts,
            self.boxes[rows],
            self.person[rows],
            acts[acts[:, 0] >= 0],
        )


def _find(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Place of each of `rows` [N, 2] in the sorted `table` [M, 2], -1 for none."""
    if not len(table) or not len(rows):
        return np.full(len(rows), -1, np.int64)
    # One number a pair, larger for a later pair: the second column stays below `span`.
    span = int(max(table[:, 1].max(), rows[:, 1].max())) + 1
    keys, wanted = table[:, 0] * span + table[:, 1], rows[:, 0] * span + rows[:, 1]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
