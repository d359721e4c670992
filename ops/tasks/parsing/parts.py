"""Persons, parts and part states of frames: the parts table joined with the stored frames, and its
vocabularies.

Boxes are xyxy in pixels of the original video; what the store holds may be smaller. Nothing is
dropped in silence: what is odd is a finding, with the annotation file and the frame that it stands
in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import BUCKETS, Dataset
from ops.annotations.formats.kinetics_tps_json import words
from ops.data.coverage import Coverage
from ops.data.errors import DataError
from ops.data.tables import Made, ranked, read_annotations, row_of, rows_of, stored_rows
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.tables import VIDEOS, read_tables
from ops.tasks.parsing.columns import TrueHumans

PERSON, BOX = ("px1", "py1", "px2", "py2"), ("x1", "y1", "x2", "y2")
LEFT, RIGHT = "left", "right"


class Words(NamedTuple):
    """Names of parts (K) and states (S) in the order of the model's classes."""

    parts: tuple[str, ...]
    states: tuple[str, ...]


class Humans(NamedTuple):
    """The persons of one frame: boxes [G, 4], seen bool [G, K], parts [G, K, 4], states int [G, K]
    (-1: not in the vocabulary).
    """

    boxes: np.ndarray
    seen: np.ndarray
    parts: np.ndarray
    states: np.ndarray


@dataclass(frozen=True)
class PartVideo:
    """One stored video with annotated frames. `key` is the ledger's; `height` and `width` are the
    original's, upright.

    `frames` int [F], ascending, counts from 0; a frame past the stored ones is scored, and cannot
    be seen. `starts` int [F + 1] are the places of each frame's persons in `humans`.
    """

    video_id: str
    action: str
    array_uri: str
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


@dataclass(frozen=True, eq=False)
class PartVideoList(Made[PartVideo]):
    """Videos of a split as columns, sorted by id: V videos with F annotated frames and G persons in
    them.

    `columns` has a row per video, named as PartVideo's fields are. Its frames are `first[i]:first[i
    + 1]` of `frames`, and the persons of frame f are rows `starts[f]:starts[f + 1]` of `humans`.
    """

    columns: pa.Table
    first: np.ndarray
    frames: np.ndarray
    starts: np.ndarray
    humans: Humans

    def __len__(self) -> int:
        return self.columns.num_rows

    def item(self, index: int) -> PartVideo:
        """Video `index`."""
        low, high = self.first[index], self.first[index + 1]
        starts = self.starts[low : high + 1]
        own = Humans(*(values[starts[0] : starts[-1]] for values in self.humans))
        return PartVideo(
            **row_of(self.columns, index),
            frames=self.frames[low:high],
            starts=starts - starts[0],
            humans=own,
        )

    @property
    def video(self) -> np.ndarray:
        """Which video each frame is of, int64 [F]."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))

    @property
    def seen(self) -> np.ndarray:
        """Whether the store holds each frame, bool [F]."""
        return self.frames < self.columns["num_frames"].to_numpy()[self.video]


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
    """Usable videos by split, sorted by id; coverage in videos by split; the vocabulary; which
    states each part has; findings.
    """

    videos: dict[str, PartVideoList]
    coverage: dict[str, Coverage]
    words: Words
    # bool [K, S]: the pair occurs in the train split (in any, where there is no train split)
    pairs: np.ndarray
    findings: list[Finding] = field(default_factory=list)


def load_parts(
    layout: Layout,
    dataset: Dataset,
    parts: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
) -> PartTable:
    """Usable videos of the parts table.

    Args:
        layout: of the store that has frames and annotations.
        dataset: whose parts table is read.
        parts: pin the vocabulary; None takes what the table holds, sorted.
        states: as `parts`.

    Raises:
        DataError: the table is missing, empty or of another version, or a pinned vocabulary lacks a
            part.
        StorageError: the table cannot be read.
    """
    table = read_annotations(layout, dataset, "parts")
    if not table.num_rows:
        raise DataError(
            f"dataset '{dataset.name}': the parts table at"
            f" {layout.annotation_table(dataset.name, 'parts')} has no row"
        )
    found = words(table)
    vocabulary = Words(tuple(parts or found[0]), tuple(states or found[1]))
    strange = [part for part in found[0] if part not in vocabulary.parts]
    if strange:
        source = table["source"][pc.index(table["part"], strange[0]).as_py()]
        raise DataError(
            f"{source}: part '{strange[0]}' is not known; allowed: {', '.join(vocabulary.parts)}"
            " (parts of the recipe)"
        )
    ledger = read_manifest(
        layout,
        dataset,
        columns=("video_id", "array_uri", "key", "num_frames", "height", "width", "status"),
    )
    columns = _columns(table, vocabulary)
    named = columns.rows.select(["split", "video_id", "label"]).take(pa.array(columns.video_rows))
    stored = stored_rows(named["video_id"], ledger)
    facts = _facts(named, ledger.take(pa.array(stored[stored >= 0])), stored >= 0, layout, dataset)
    videos, coverage = {}, {}
    splits, split = ranked(named["split"])
    for number, name in enumerate(splits):
        own = split[stored >= 0] == number
        coverage[name] = Coverage(int((split == number).sum()), int(own.sum()))
        if own.any():
            videos[name] = _videos(
                columns, facts.filter(pa.array(own)), np.flatnonzero(stored >= 0)[own]
            )
    seen = np.concatenate(
        [own.humans.states for own in ([videos["train"]] if "train" in videos else videos.values())]
        or [columns.none]
    )
    findings = _oddities(columns, vocabulary) + _beyond(columns, facts, stored)
    return PartTable(videos, coverage, vocabulary, _pairs(seen, vocabulary), findings)


def truth_of(videos: PartVideoList, every: int) -> TrueHumans:
    """The truth of every `every`-th frame, from the first on, for the metric; annotated frames that
    the stored videos lack count too.
    """
    chosen, counts = videos.frames % every == 0, np.diff(videos.starts)
    if not chosen.any():
        raise DataError("no annotated frame of these videos is scored")
    persons = np.repeat(chosen, counts)  # bool [G]: those of the chosen frames
    return TrueHumans(
        videos.columns["video_id"].to_pylist(),
        videos.columns["action"].to_pylist(),
        videos.video[chosen],
        videos.frames[chosen],
        counts[chosen],
        *(values[persons] for values in videos.humans),
    )


def mirrored_parts(parts: Sequence[str], pairs: Mapping[str, str], where: str) -> np.ndarray:
    """For each part the one that stands in its place in a mirror image, int64 [K].

    Args:
        parts: names in the order of their numbers.
        pairs: parts that stand in each other's place; without any, a name with 'left' has the same
            name with 'right'.
        where: names the recipe in messages.

    Raises:
        DataError: a part is not there.
    """
    order = list(range(len(parts)))
    own = dict(pairs) or {
        name: name.replace(LEFT, RIGHT)
        for name in parts
        if LEFT in name and name.replace(LEFT, RIGHT) in parts
    }
    for one, other in own.items():
        for name in (one, other):
            if name not in parts:
                raise DataError(f"{where}: part '{name}' is not known; allowed: {', '.join(parts)}")
        order[parts.index(one)], order[parts.index(other)] = parts.index(other), parts.index(one)
    return np.array(order, np.int64)


# --------------------------------------------------------------------------------------------------
# rows


class _Columns(NamedTuple):
    """The table, sorted by split, video, frame and person. `*_rows`: the first row of each video,
    frame and human.
    """

    rows: pa.Table
    frame: np.ndarray
    part: np.ndarray  # number, -1 for none
    state: np.ndarray  # number, -1 for one that is not known
    box: np.ndarray  # float32 [rows, 4]
    person: np.ndarray  # float32 [rows, 4]
    human_of: np.ndarray  # [rows]
    video_rows: np.ndarray
    frame_rows: np.ndarray
    human_rows: np.ndarray
    num_parts: int

    @property
    def none(self) -> np.ndarray:
        """The states of nobody, [0, K]."""
        return np.empty((0, self.num_parts), np.int64)

    def video_of(self, rows: np.ndarray) -> np.ndarray:
        """Which of the videos each row of the table is of."""
        return np.searchsorted(self.video_rows, rows, side="right") - 1

    def finding(self, kind: str, row: int, found: str) -> Finding:
        """What is odd in a row."""
        return Finding(kind, self.rows["source"][row].as_py(), int(self.frame[row]), found)


def _columns(table: pa.Table, known: Words) -> _Columns:
    codes = [ranked(table[name])[1] for name in ("split", "video_id")]
    frame, person = (table[name].to_numpy() for name in ("frame", "person"))
    # by split, video, frame and person; rows that are alike in these stay as they stood
    order = np.lexsort((person, frame, *codes[::-1]))
    table, frame, person, codes = (
        table.take(pa.array(order)),
        frame[order],
        person[order],
        [code[order] for code in codes],
    )
    numbers = {}
    for name, names in (("part", known.parts), ("state", known.states)):
        numbers[name] = (
            pc.fill_null(pc.index_in(table[name], pa.array(names, pa.string())), -1)
            .to_numpy()
            .astype(np.int64)
        )
    # A row that differs from the one before begins a video, a frame or a person; what begins a
    # video begins a frame and a person, too.
    new_video = _steps(*codes)
    new_frame = new_video | _steps(frame)
    new_human = new_frame | _steps(person)
    box, human = (
        np.stack([table[name].to_numpy() for name in names], 1).astype(np.float32)
        for names in (BOX, PERSON)
    )
    videos, frames, humans = (np.nonzero(new)[0] for new in (new_video, new_frame, new_human))
    return _Columns(
        table,
        frame.astype(np.int64),
        numbers["part"],
        numbers["state"],
        box,
        human,
        np.cumsum(new_human) - 1,
        videos,
        frames,
        humans,
        len(known.parts),
    )


def _steps(*columns: np.ndarray) -> np.ndarray:
    """Whether a row differs from the one before, bool [rows]; the first one does."""
    different = [np.concatenate([[True], column[1:] != column[:-1]]) for column in columns]
    return np.logical_or.reduce(different)


def _facts(
    named: pa.Table, stored: pa.Table, chosen: np.ndarray, layout: Layout, dataset: Dataset
) -> pa.Table:
    """A row per stored video, in the order of `named`, of which `chosen` bool [V] says which are
    stored: PartVideo's plain fields.
    """
    height, width = (stored[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    # what is stored may have another size than the original: that one's upright size counts
    if dataset.frames.short_side is not None:
        originals = read_tables(
            (layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)), VIDEOS
        )
        row = rows_of(stored["video_id"], originals)
        known, tall, wide = (
            row >= 0,
            *(
                np.append(pc.fill_null(originals[name], 0).to_numpy(), 0)[row]
                for name in ("height", "width")
            ),
        )
        turned = np.append(pc.fill_null(originals["rotation"], 0).to_numpy() % 180 == 90, False)[
            row
        ]
        height, width = (
            np.where(known, np.where(turned, wide, tall), height),
            np.where(known, np.where(turned, tall, wide), width),
        )
    action = named["label"].filter(pa.array(chosen)).cast(pa.string())
    plain = {name: stored[name] for name in ("video_id", "array_uri", "key", "num_frames")}
    return pa.table({**plain, "action": action, "height": height, "width": width})


def _videos(columns: _Columns, facts: pa.Table, numbers: np.ndarray) -> PartVideoList:
    """The videos of these numbers [V], as the table's rows stand."""
    rows, num_parts = len(columns.frame), columns.num_parts
    video_of = columns.video_of(np.arange(rows))
    own = np.isin(video_of, numbers)  # bool [rows]
    frames, humans = (first[own[first]] for first in (columns.frame_rows, columns.human_rows))
    # `human` [rows]: each row's person among these alone. A row with a part fills that person's
    # place of the part, [G, K].
    human = np.searchsorted(humans, np.arange(rows), side="right") - 1
    seen = np.zeros((len(humans), num_parts), bool)
    parts, states = np.zeros((*seen.shape, 4), np.float32), np.full(seen.shape, -1, np.int64)
    named = np.flatnonzero(own & (columns.part >= 0))
    at = (human[named], columns.part[named])
    seen[at], parts[at], states[at] = True, columns.box[named], columns.state[named]
    return PartVideoList(
        columns=facts.combine_chunks(),
        first=np.searchsorted(video_of[frames], np.append(numbers, len(columns.video_rows))),
        frames=columns.frame[frames],
        starts=np.append(np.searchsorted(humans, frames), len(humans)),
        humans=Humans(columns.person[humans], seen, parts, states),
    )


# --------------------------------------------------------------------------------------------------
# findings


def _oddities(columns: _Columns, known: Words) -> list[Finding]:
    """Persons without parts, parts outside their person, states that are not known, and persons
    that stand twice in a frame.
    """
    named, spoken = columns.part >= 0, columns.rows["state"]
    apart = named & ~_meet(columns.box, columns.person)
    strange = named & (columns.state < 0)
    found = [
        columns.finding("no_parts", row, "a person without parts")
        for row in np.nonzero(~named)[0].tolist()
    ]
    for row in np.nonzero(apart)[0].tolist():
        box, person = columns.box[row].round(1).tolist(), columns.person[row].round(1).tolist()
        what = f"{known.parts[columns.part[row]]} at {box} is outside its person at {person}"
        found.append(columns.finding("part_outside_person", row, what))
    for row in np.nonzero(strange)[0].tolist():
        what = (
            f"{known.parts[columns.part[row]]} has the state '{spoken[row].as_py()}', which the"
            " vocabulary lacks"
        )
        found.append(columns.finding("unknown_state", row, what))
    # Persons by frame and box: one whose frame and all four sides equal those before it stands
    # there twice.
    rows = columns.human_rows
    frame_of = np.searchsorted(columns.frame_rows, rows, side="right")
    order = np.lexsort((*columns.person[rows].T, frame_of))
    same = np.nonzero(
        (np.diff(frame_of[order]) == 0) & (np.diff(columns.person[rows][order], axis=0) == 0).all(1)
    )[0]
    for row in rows[order[same + 1]].tolist():
        what = f"another person has the same box {columns.person[row].round(1).tolist()}"
        found.append(columns.finding("duplicate_person", row, what))
    return found


def _beyond(columns: _Columns, facts: pa.Table, stored: np.ndarray) -> list[Finding]:
    """Frames that a stored video does not have, and persons outside its picture: video by video,
    its frames first.

    `stored` [V] is -1 for a video without a row in `facts`.
    """
    # of each video its row in `facts`
    place = np.where(stored >= 0, np.cumsum(stored >= 0) - 1, -1)
    num_frames, width, height = (
        np.append(facts[name].to_numpy(), 0) for name in ("num_frames", "width", "height")
    )
    frames, humans = columns.frame_rows, columns.human_rows
    of_frame, of_human = (place[columns.video_of(rows)] for rows in (frames, humans))
    missing = frames[(of_frame >= 0) & (columns.frame[frames] >= num_frames[of_frame])]
    zero = np.zeros(len(humans))
    # xyxy [G, 4]
    pictures = np.stack([zero, zero, width[of_human], height[of_human]], axis=1).astype(np.float32)
    outside = humans[(of_human >= 0) & ~_meet(columns.person[humans], pictures)]
    found = []
    for kind, rows in (("missing_frame", missing), ("outside_picture", outside)):
        for number, row in zip(columns.video_of(rows).tolist(), rows.tolist(), strict=True):
            own = row_of(facts, int(place[number]))
            what = f"the stored video '{own['video_id']}' has {own['num_frames']} frames"
            if kind == "outside_picture":
                box = columns.person[row].round(1).tolist()
                what = (
                    f"a person at {box} is outside the picture of {own['width']} x {own['height']}"
                )
            found.append((number, columns.finding(kind, row, what)))
    return [finding for _, finding in sorted(found, key=lambda one: one[0])]


def _meet(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether boxes [..., 4] have an area in common."""
    return (
        np.minimum(one[..., 2:], other[..., 2:]) > np.maximum(one[..., :2], other[..., :2])
    ).all(-1)


def _pairs(states: np.ndarray, known: Words) -> np.ndarray:
    """bool [K, S]: which state each part is seen with in `states` [G, K]."""
    pairs = np.zeros((len(known.parts), len(known.states)), bool)
    own = states >= 0
    pairs[np.nonzero(own)[1], states[own]] = True
    return pairs
