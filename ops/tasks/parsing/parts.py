"""Persons, parts and part states of frames: the parts table joined with the stored frames, and its vocabularies.

Boxes are xyxy in pixels of the original video; what the store holds may be smaller. Nothing is dropped in silence: what is odd is
a finding, with the annotation file and the frame that it stands in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import Dataset
from ops.annotations.formats.kinetics_tps_json import words
from ops.data.coverage import Coverage
from ops.data.errors import DataError
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.tables import PARTS, VIDEOS, read_table, read_tables
from ops.tasks.parsing.columns import TrueHumans

PERSON, BOX = ("px1", "py1", "px2", "py2"), ("x1", "y1", "x2", "y2")
LEFT, RIGHT = "left", "right"


class Words(NamedTuple):
    """Names of parts (K) and states (S) in the order of the model's classes."""

    parts: tuple[str, ...]
    states: tuple[str, ...]


class Humans(NamedTuple):
    """The persons of one frame: boxes [G, 4], seen bool [G, K], parts [G, K, 4], states int [G, K] (-1: not in the vocabulary)."""

    boxes: np.ndarray
    seen: np.ndarray
    parts: np.ndarray
    states: np.ndarray


@dataclass(frozen=True)
class PartVideo:
    """One stored video with annotated frames. `key` is the ledger's; `height` and `width` are the original's, upright.

    `frames` int [F], ascending, counts from 0; a frame past the stored ones is scored, and cannot be seen. `starts` int [F + 1] are the
    places of each frame's persons in `humans`.
    """

    video_id: str
    action: str
    uri: str
    key: str
    num_frames: int
    height: int
    width: int
    frames: np.ndarray
    starts: np.ndarray
    humans: Humans

    def humans_of(self, place: int) -> Humans:
        """The persons of frame number `frames[place]`."""
        own = slice(self.starts[place], self.starts[place + 1])
        return Humans(*(values[own] for values in self.humans))

    @property
    def stored(self) -> np.ndarray:
        """Places in `frames` of those that the store holds."""
        return np.nonzero(self.frames < self.num_frames)[0]


class Finding(NamedTuple):
    """Something odd in the annotations: what kind, where, and what was found."""

    kind: str
    source: str
    frame: int
    found: str

    def __str__(self) -> str:
        return f"{self.source}, frame {self.frame}: {self.found}"


@dataclass(frozen=True)
class PartTable:
    """Usable videos by split, sorted by id; coverage in videos by split; the vocabulary; which states each part has; findings."""

    videos: dict[str, list[PartVideo]]
    coverage: dict[str, Coverage]
    words: Words
    pairs: np.ndarray  # bool [K, S]: the pair occurs in the train split (in any, where there is no train split)
    findings: list[Finding] = field(default_factory=list)


def load_parts(layout: Layout, dataset: Dataset, parts: Sequence[str] | None = None, states: Sequence[str] | None = None) -> PartTable:
    """Usable videos of the parts table. `parts` and `states` pin the vocabulary; None takes what the table holds, sorted.

    Raises DataError for a table that is missing, empty or of another version, and for a part that a pinned vocabulary lacks;
    StorageError.
    """
    table = _table(layout, dataset)
    found = words(table)
    vocabulary = Words(tuple(parts or found[0]), tuple(states or found[1]))
    strange = [part for part in found[0] if part not in vocabulary.parts]
    if strange:
        source = next(row["source"] for row in table.select(["part", "source"]).to_pylist() if row["part"] == strange[0])
        raise DataError(f"{source}: part '{strange[0]}' is not known; allowed: {', '.join(vocabulary.parts)} (parts of the recipe)")
    stored = {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist() if row["status"] == "ok"}
    columns = _columns(table, vocabulary)
    findings = _oddities(columns, vocabulary)
    sizes = _sizes(layout, dataset)
    videos, annotated = dict[str, list[PartVideo]](), Counter[str]()
    for number, row in enumerate(columns.video_rows.tolist()):
        split, video_id = columns.split[row].as_py(), columns.video[row].as_py()
        annotated[split] += 1
        if video_id in stored:
            own = _video(columns, number, stored[video_id], sizes)
            findings += _beyond(own, columns, number)
            videos.setdefault(split, []).append(own)
    coverage = {split: Coverage(count, len(videos.get(split, ()))) for split, count in sorted(annotated.items())}
    chosen = videos.get("train") or [video for own in videos.values() for video in own]
    return PartTable(videos, coverage, vocabulary, _pairs(chosen, vocabulary), findings)


def truth_of(videos: Sequence[PartVideo], every: int) -> TrueHumans:
    """The truth of every `every`-th frame, from the first on, for the metric; annotated frames that the stored videos lack count too."""
    chosen = [(place, index) for place, video in enumerate(videos) for index in np.nonzero(video.frames % every == 0)[0].tolist()]
    humans = [videos[place].humans_of(index) for place, index in chosen]
    if not humans:
        raise DataError("no annotated frame of these videos is scored")
    joined = Humans(*(np.concatenate(values) for values in zip(*humans, strict=True)))
    return TrueHumans(
        [video.video_id for video in videos],
        [video.action for video in videos],
        np.array([place for place, _ in chosen], np.int64),
        np.array([videos[place].frames[index] for place, index in chosen], np.int64),
        np.array([len(own.boxes) for own in humans], np.int64),
        *joined,
    )


def mirrored_parts(parts: Sequence[str], pairs: Mapping[str, str], where: str) -> np.ndarray:
    """For each part the one that stands in its place in a mirror image, int64 [K].

    `pairs` names them; without any, a name with 'left' has the same name with 'right'. Raises DataError for a part that is not there.
    """
    order = list(range(len(parts)))
    own = dict(pairs) or {name: name.replace(LEFT, RIGHT) for name in parts if LEFT in name and name.replace(LEFT, RIGHT) in parts}
    for one, other in own.items():
        for name in (one, other):
            if name not in parts:
                raise DataError(f"{where}: part '{name}' is not known; allowed: {', '.join(parts)}")
        order[parts.index(one)], order[parts.index(other)] = parts.index(other), parts.index(one)
    return np.array(order, np.int64)


# ------------------------------------------------------------------------------------------------------- rows


def _table(layout: Layout, dataset: Dataset) -> pa.Table:
    uri = layout.annotation_table(dataset.name, "parts")
    try:
        table = read_table(uri)
    except FileNotFoundError as error:
        raise DataError(f"dataset '{dataset.name}': no parts table at {uri}; read the annotations first") from error
    if table.schema.names != PARTS.names:
        raise DataError(f"dataset '{dataset.name}': {uri} was written by another version of this code; read the annotations again")
    if not table.num_rows:
        raise DataError(f"dataset '{dataset.name}': the parts table at {uri} has no row")
    return table


class _Columns(NamedTuple):
    """The table, sorted by split, video, frame and person. `*_rows`: the first row of each video, frame and human."""

    split: pa.ChunkedArray
    video: pa.ChunkedArray
    label: pa.ChunkedArray
    source: pa.ChunkedArray
    frame: np.ndarray
    part: np.ndarray  # number, -1 for none
    state: np.ndarray  # number, -1 for one that is not known
    box: np.ndarray  # float32 [rows, 4]
    person: np.ndarray  # float32 [rows, 4]
    human_of: np.ndarray  # [rows]
    video_rows: np.ndarray
    frame_rows: np.ndarray
    human_rows: np.ndarray
    spoken: pa.ChunkedArray  # states in words
    num_parts: int

    def finding(self, kind: str, row: int, found: str) -> Finding:
        """What is odd in a row."""
        return Finding(kind, self.source[row].as_py(), int(self.frame[row]), found)


def _columns(table: pa.Table, known: Words) -> _Columns:
    table = table.sort_by([(name, "ascending") for name in ("split", "video_id", "frame", "person")])
    numbers = {}
    for name, names in (("part", known.parts), ("state", known.states)):
        numbers[name] = pc.fill_null(pc.index_in(table[name], pa.array(names, pa.string())), -1).to_numpy().astype(np.int64)
    codes = [pc.dictionary_encode(table[name]).combine_chunks().indices.to_numpy() for name in ("split", "video_id")]
    frame, person = (table[name].to_numpy() for name in ("frame", "person"))
    new_video = _steps(*codes)
    new_frame = new_video | _steps(frame)
    new_human = new_frame | _steps(person)
    box, human = (np.stack([table[name].to_numpy() for name in names], 1).astype(np.float32) for names in (BOX, PERSON))
    videos, frames, humans = (np.nonzero(new)[0] for new in (new_video, new_frame, new_human))
    return _Columns(
        table["split"], table["video_id"], table["label"], table["source"], frame.astype(np.int64), numbers["part"], numbers["state"],
        box, human, np.cumsum(new_human) - 1, videos, frames, humans, table["state"], len(known.parts),
    )  # fmt: skip


def _steps(*columns: np.ndarray) -> np.ndarray:
    """Whether a row differs from the one before, bool [rows]; the first one does."""
    different = [np.concatenate([[True], column[1:] != column[:-1]]) for column in columns]
    return np.logical_or.reduce(different)


def _sizes(layout: Layout, dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Upright (height, width) of the original videos, where what is stored may have another size."""
    if dataset.frames.short_side is None:
        return {}
    from configs.schema import BUCKETS

    table = read_tables((layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)), VIDEOS)
    sizes = {}
    for row in table.select(["video_id", "width", "height", "rotation"]).to_pylist():
        turned = (row["rotation"] or 0) % 180 == 90
        sizes[row["video_id"]] = (row["width"], row["height"]) if turned else (row["height"], row["width"])
    return sizes


def _video(columns: _Columns, number: int, stored: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]]) -> PartVideo:
    """The video that begins in the `number`-th of the video rows."""
    ends = np.append(columns.video_rows, len(columns.frame))
    low, high = int(ends[number]), int(ends[number + 1])
    frames = columns.frame_rows[slice(*np.searchsorted(columns.frame_rows, [low, high]))]
    first, last = np.searchsorted(columns.human_rows, [low, high])
    rows = columns.human_rows[first:last]
    num_parts = columns.num_parts
    seen = np.zeros((len(rows), num_parts), bool)
    parts, states = np.zeros((*seen.shape, 4), np.float32), np.full(seen.shape, -1, np.int64)
    own = np.arange(low, high)[columns.part[low:high] >= 0]
    at = (columns.human_of[own] - first, columns.part[own])
    seen[at], parts[at], states[at] = True, columns.box[own], columns.state[own]
    video_id = columns.video[low].as_py()
    height, width = sizes.get(video_id, (stored["height"], stored["width"]))
    return PartVideo(
        video_id=video_id,
        action=columns.label[low].as_py(),
        uri=stored["uri"],
        key=stored["key"],
        num_frames=stored["num_frames"],
        height=height,
        width=width,
        frames=columns.frame[frames],
        starts=np.append(np.searchsorted(rows, frames), len(rows)),
        humans=Humans(columns.person[rows], seen, parts, states),
    )


# ------------------------------------------------------------------------------------------------------- findings


def _oddities(columns: _Columns, known: Words) -> list[Finding]:
    """Persons without parts, parts outside their person, states that are not known, and persons that stand twice in a frame."""
    named = columns.part >= 0
    apart = named & ~_meet(columns.box, columns.person)
    strange = named & (columns.state < 0)
    found = [columns.finding("no_parts", row, "a person without parts") for row in np.nonzero(~named)[0].tolist()]
    for row in np.nonzero(apart)[0].tolist():
        box, person = columns.box[row].round(1).tolist(), columns.person[row].round(1).tolist()
        what = f"{known.parts[columns.part[row]]} at {box} is outside its person at {person}"
        found.append(columns.finding("part_outside_person", row, what))
    for row in np.nonzero(strange)[0].tolist():
        what = f"{known.parts[columns.part[row]]} has the state '{columns.spoken[row].as_py()}', which the vocabulary lacks"
        found.append(columns.finding("unknown_state", row, what))
    rows = columns.human_rows
    frame_of = np.searchsorted(columns.frame_rows, rows, side="right")
    order = np.lexsort((*columns.person[rows].T, frame_of))
    same = np.nonzero((np.diff(frame_of[order]) == 0) & (np.diff(columns.person[rows][order], axis=0) == 0).all(1))[0]
    for row in rows[order[same + 1]].tolist():
        what = f"another person has the same box {columns.person[row].round(1).tolist()}"
        found.append(columns.finding("duplicate_person", row, what))
    return found


def _beyond(video: PartVideo, columns: _Columns, number: int) -> list[Finding]:
    """Frames that the stored video does not have, and persons outside its picture."""
    start = columns.video_rows[number]
    rows = columns.frame_rows[np.searchsorted(columns.frame_rows, start) :]
    what = f"the stored video '{video.video_id}' has {video.num_frames} frames"
    found = [columns.finding("missing_frame", int(rows[place]), what) for place in np.nonzero(video.frames >= video.num_frames)[0]]
    image = np.array([0, 0, video.width, video.height], np.float32)
    rows = columns.human_rows[np.searchsorted(columns.human_rows, start) :]
    for human in np.nonzero(~_meet(video.humans.boxes, image))[0].tolist():
        box = video.humans.boxes[human].round(1).tolist()
        what = f"a person at {box} is outside the picture of {video.width} x {video.height}"
        found.append(columns.finding("outside_picture", int(rows[human]), what))
    return found


def _meet(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether boxes [..., 4] have an area in common."""
    return (np.minimum(one[..., 2:], other[..., 2:]) > np.maximum(one[..., :2], other[..., :2])).all(-1)


def _pairs(videos: Sequence[PartVideo], known: Words) -> np.ndarray:
    pairs = np.zeros((len(known.parts), len(known.states)), bool)
    for video in videos:
        own = video.humans.states >= 0
        pairs[np.nonzero(own)[1], video.humans.states[own]] = True
    return pairs
