"""Labelled clips: the clips table joined with the frames ledger, and the dataset that a model
trains and is tested on.

A clip is a whole video file, or the place in it that its row names. Only stored videos count, and
the coverage says how many there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset as TorchDataset

from configs.schema import Dataset, Sampling, Transforms, Views, content_hash_of_rows
from ops.data.coverage import Coverage
from ops.data.ends import ends, surely
from ops.data.errors import DataError, SampleError
from ops.data.samplers import check_sampling, random_indices
from ops.data.tables import (
    Made,
    as_json,
    floats,
    label_ids_of,
    ranked,
    read_annotations,
    row_of,
    stored_rows,
)
from ops.data.test_views import FrozenViews
from ops.data.timeline import timeline
from ops.data.transforms import check, random_view
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.reader import FrameReader, Readers

BLOCK = 65_536  # clips that are text at a time


class Clip(NamedTuple):
    """One labelled, stored clip. `key` is the ledger's: the hash of content and decoding.

    `num_frames` are the video's; `start_s` and `end_s` are the clip's place in it, None where it
    starts and ends with the video.
    """

    clip_id: str
    video_id: str
    split: str
    label: str
    label_id: int
    source: str
    array_uri: str
    num_frames: int
    key: str
    start_s: float | None = None
    end_s: float | None = None

    @property
    def place(self) -> list[float | None]:
        """[start_s, end_s], or nothing for a clip that is the whole video: what a hash of clips has
        to know of it.
        """
        return [] if self.start_s is None and self.end_s is None else [self.start_s, self.end_s]


@dataclass(frozen=True, eq=False)
class ClipList(Made[Clip]):
    """Clips of a split as columns, sorted by id.

    `columns` has a row per clip, named as Clip's fields are; what belongs to the video is in
    `videos`, and `video` int32 [clips] is each clip's row there.
    """

    split: str
    columns: pa.Table
    video: np.ndarray
    videos: pa.Table

    def __len__(self) -> int:
        return len(self.video)

    def item(self, index: int) -> Clip:
        """Clip `index`."""
        return Clip(
            split=self.split,
            **row_of(self.columns, index),
            **row_of(self.videos, int(self.video[index])),
        )

    @property
    def label_ids(self) -> np.ndarray:
        """int32 [clips]."""
        return self.columns["label_id"].to_numpy()

    def described(self) -> Iterator[str]:
        """JSON, in blocks, of what a data version knows of a clip: [split, id, content key, label,
        its id], and its place if it has one.
        """
        for first in range(0, len(self), BLOCK):
            own = self.columns.slice(first, BLOCK)
            keys = self.videos["key"].take(pa.array(self.video[first : first + BLOCK]))
            facts = [
                as_json(column) for column in (own["clip_id"], keys, own["label"], own["label_id"])
            ]
            start, end = own["start_s"], own["end_s"]
            whole = pc.and_(start.is_null(), end.is_null())
            place = pc.if_else(
                whole, "", pc.binary_join_element_wise("", as_json(start), as_json(end), ",")
            )
            rows = pc.binary_join_element_wise(json.dumps(self.split), *facts, ",")
            yield ",".join(pc.binary_join_element_wise("[", rows, place, "]", "").to_pylist())


class ClipTable(NamedTuple):
    """All usable clips of a dataset by split, the coverage by split, every label of the table with
    its id, and the clips that begin after the last stored frame of their video, which are left out.
    """

    clips: dict[str, ClipList]
    coverage: dict[str, Coverage]
    label_ids: dict[str, int]
    beyond_end: list[Clip]


def load_clips(layout: Layout, dataset: Dataset, target: str = "label") -> ClipTable:
    """Usable clips of one label space, sorted by id.

    Args:
        layout: of the store that has frames and annotations.
        dataset: whose clips table is read.
        target: name of the label space.

    Raises:
        DataError: a table is missing, of another version, without this target, or with several
            labels for a clip.
        StorageError: a table cannot be read.
    """
    rows = read_annotations(layout, dataset, "clips")
    targets, of_target = ranked(rows["target"])
    if targets and target not in targets:
        raise DataError(
            f"dataset '{dataset.name}': no clip has a label of target '{target}'; found:"
            f" {', '.join(targets)}"
        )
    if len(targets) > 1:
        rows = rows.filter(pa.array(of_target == targets.index(target)))
    _labels, label = ranked(rows["label"])
    splits, split = ranked(rows["split"])
    # Sorted by split, id and label, of which two are ranks: `order` int64 [rows] are the rows'
    # numbers, and no row is moved.
    keys = pa.table({"split": split, "clip_id": rows["clip_id"], "label": label})
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names]).to_numpy()
    _check_single(dataset, rows, split, order)
    ledger = read_manifest(
        layout, dataset, columns=("video_id", "array_uri", "num_frames", "key", "fps", "status")
    )
    stored, videos = stored_rows(rows["video_id"], ledger), ledger.drop_columns(["fps", "status"])
    beyond = _beyond_end(floats(rows["start_s"]), stored, ledger)
    rows = rows.select(["clip_id", "label", "label_id", "source", "start_s", "end_s"])
    # where each split begins in that order
    bounds = np.searchsorted(split[order], np.arange(len(splits) + 1))
    clips, coverage, late = dict[str, ClipList](), dict[str, Coverage](), list[Clip]()

    def listed(name: str, chosen: np.ndarray) -> ClipList:
        columns = rows.take(pa.array(chosen)).unify_dictionaries().combine_chunks()
        return ClipList(name, columns, stored[chosen].astype(np.int32), videos)

    for number, name in enumerate(splits):
        own = order[bounds[number] : bounds[number + 1]]
        usable = own[(stored[own] >= 0) & ~beyond[own]]
        late += listed(name, own[beyond[own]])
        coverage[name] = Coverage(len(own), len(usable), int(beyond[own].sum()))
        if len(usable):
            clips[name] = listed(name, usable)
    return ClipTable(clips, coverage, label_ids_of(rows), late)


def _beyond_end(start_s: np.ndarray, stored: np.ndarray, ledger: pa.Table) -> np.ndarray:
    """Which clips begin after the last frame of their video, bool [clips]; `stored` [clips] are the
    videos' rows, -1 for none.
    """
    # -1 looks at the end: never late
    until = np.append(surely(ledger["num_frames"].to_numpy(), floats(ledger["fps"])), np.inf)
    # the ledger's mean rate cannot tell of these: NaN, the video's own start, is none
    near = np.flatnonzero(start_s > until[stored])
    uris = ledger["array_uri"].take(pa.array(stored[near])).to_pylist()
    found = ends(uris)
    beyond = np.zeros(len(start_s), bool)
    beyond[near] = start_s[near] > np.array([found[uri] for uri in uris], np.float64)
    return beyond


def _check_single(dataset: Dataset, rows: pa.Table, split: np.ndarray, order: np.ndarray) -> None:
    """Raise DataError for a clip with several labels; `order` sorts the rows by split, clip and
    label.
    """
    ids, split = rows["clip_id"].take(pa.array(order)), split[order]
    # as the row before
    again = pc.equal(ids.slice(1), ids.slice(0, max(len(ids) - 1, 0))).to_numpy() & (
        split[1:] == split[:-1]
    )
    if not again.any():
        return
    first = row_of(rows, int(order[1:][again][0]))
    own = rows.filter(
        pc.and_(
            pc.equal(rows["split"], first["split"]), pc.equal(rows["clip_id"], first["clip_id"])
        )
    )
    labels = ", ".join(f"'{row['label']}' ({row['source']})" for row in own.to_pylist())
    raise DataError(
        f"dataset '{dataset.name}', split '{first['split']}': clip '{first['clip_id']}' has"
        f" {own.num_rows} labels: {labels}; a recognition recipe learns one label per clip"
    )


def version_of(lists: Iterable[ClipList], images: str | None = None) -> str:
    """`content_hash` of what the lists' clips are described by, and of the version of the images
    where there are some.
    """
    return content_hash_of_rows(
        (block for clips in lists for block in clips.described()),
        *([] if images is None else [images]),
    )


class ClipDataset(TorchDataset[dict[str, Any]]):
    """Clips as arrays for a recognition model.

    Training items hold `frames` float32 (R, 3, T, S, S): R = `copies` random views that depend on
    seed, epoch, index and the number of the copy alone. Testing items hold (V, 3, T, S, S), the
    frozen views (`ops.data.test_views`). Items also hold `label_id` (int; int64 [R] where R is more
    than 1), `clip_id`, `video_id`, `index` and `epoch`. Raises SampleError for a clip that cannot
    be read: none is replaced.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        sampling: Sampling,
        transforms: Transforms,
        *,
        views: Views | None = None,
        seed: int = 0,
        copies: int = 1,
        mirrored_ids: Mapping[int, int] | None = None,
    ) -> None:
        """`views` None makes random training views; `mirrored_ids` exchanges label ids when a view
        is mirrored. Raises ConfigError.
        """
        check_sampling(sampling)
        check(transforms)
        self.clips = clips
        self.sampling, self.transforms = sampling, transforms
        self.frozen = None if views is None else FrozenViews(sampling, transforms, views)
        self.seed, self.copies, self.mirrored_ids = seed, copies, dict(mirrored_ids or {})
        # seen by loader processes that outlive an epoch
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._readers = Readers()

    def set_epoch(self, epoch: int) -> None:
        """Choose the random views of this epoch; has no effect on fixed views."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip, epoch = self.clips[index], int(self._epoch[0])
        try:
            frames, label_id = (
                self._random(clip, epoch, index)
                if self.frozen is None
                else self._fixed(clip, self.frozen)
            )
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            raise SampleError(
                f"clip '{clip.clip_id}' at {clip.array_uri}: {type(error).__name__}: {error}"
            ) from error
        item = {
            "frames": frames,
            "label_id": label_id,
            "clip_id": clip.clip_id,
            "video_id": clip.video_id,
        }
        return {**item, "index": index, "epoch": epoch}

    def _random(self, clip: Clip, epoch: int, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        """All copies are read at once: what they share is decoded once."""
        reader = self._readers[clip.array_uri]
        timeline = self._timeline(clip, reader)
        generators = [
            np.random.default_rng((self.seed, epoch, index, copy)) for copy in range(self.copies)
        ]
        wanted = np.stack(
            [timeline[random_indices(self.sampling, len(timeline), rng)] for rng in generators]
        )
        views, labels = [], []
        for part, rng in zip(
            np.split(reader.read(wanted.reshape(-1)), self.copies), generators, strict=True
        ):
            view, mirrored = random_view(part, self.transforms, rng)
            views.append(view)
            labels.append(
                self.mirrored_ids.get(clip.label_id, clip.label_id) if mirrored else clip.label_id
            )
        return (
            (views[0][None], labels[0]) if self.copies == 1 else (np.stack(views), np.array(labels))
        )

    def _fixed(self, clip: Clip, frozen: FrozenViews) -> tuple[np.ndarray, int]:
        reader = self._readers[clip.array_uri]
        timeline = self._timeline(clip, reader)
        return frozen.pixels(reader.read(timeline[frozen.indices(len(timeline))])), clip.label_id

    def _timeline(self, clip: Clip, reader: FrameReader) -> np.ndarray:
        if not clip.place and self.sampling.fps is None:
            return np.arange(clip.num_frames)  # the ledger knows it: nothing has to be opened
        return timeline(
            clip.num_frames,
            reader.attributes,
            start_s=clip.start_s,
            end_s=clip.end_s,
            fps=self.sampling.fps,
        )
