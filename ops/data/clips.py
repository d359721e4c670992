"""Labelled clips: the clips table joined with the frames ledger, and the dataset that a model trains and is tested on.

A clip is a whole video file, or the place in it that its row names. Only stored videos count, and the coverage says how many
there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from configs.schema import Dataset, Sampling, Transforms, Views
from ops.data.clock import timeline
from ops.data.ends import ends, surely
from ops.data.errors import DataError, SampleError
from ops.data.frozen import FrozenViews
from ops.data.samplers import check_sampling, random_indices
from ops.data.transforms import check, random_view
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.reader import FrameReader, Readers
from ops.store.tables import CLIPS, read_table


class Clip(NamedTuple):
    """One labelled, stored clip. `key` is the ledger's: the hash of content and decoding.

    `num_frames` are the video's; `start_s` and `end_s` are the clip's place in it, None where it starts and ends with the video.
    """

    clip_id: str
    video_id: str
    split: str
    label: str
    label_id: int
    source: str
    uri: str
    num_frames: int
    key: str
    start_s: float | None = None
    end_s: float | None = None

    @property
    def place(self) -> list[float | None]:
        """[start_s, end_s], or nothing for a clip that is the whole video: what a hash of clips has to know of it."""
        return [] if self.start_s is None and self.end_s is None else [self.start_s, self.end_s]


@dataclass(frozen=True)
class Coverage:
    """How many clips of a split are annotated, how many of these have stored frames, and how many begin after the last of these."""

    annotated: int
    usable: int
    beyond_end: int = 0

    @property
    def share(self) -> float:
        """Usable share, 0 when nothing is annotated."""
        return self.usable / self.annotated if self.annotated else 0.0


class ClipTable(NamedTuple):
    """All usable clips of a dataset by split, the coverage by split, every label of the table with its id, and the clips that begin after
    the last stored frame of their video, which are left out."""

    clips: dict[str, list[Clip]]
    coverage: dict[str, Coverage]
    label_ids: dict[str, int]
    beyond_end: list[Clip]


def load_clips(layout: Layout, dataset: Dataset, target: str = "label") -> ClipTable:
    """Usable clips of one label space, sorted by id.

    Raises DataError for a table that is missing, of another version, without this target, or with several labels for a clip;
    StorageError when it cannot be read.
    """
    every = _rows(layout, dataset)
    rows = [row for row in every if row["target"] == target]
    if every and not rows:
        targets = ", ".join(sorted({row["target"] for row in every}))
        raise DataError(f"dataset '{dataset.name}': no clip has a label of target '{target}'; found: {targets}")
    stored = {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist() if row["status"] == "ok"}
    found: dict[str, list[Clip]] = {}
    near: list[Clip] = []  # perhaps beyond the end
    annotated: dict[str, int] = {}
    last: dict[str, Any] | None = None
    own = [name for name in Clip._fields if name not in ("uri", "num_frames", "key")]
    for row in sorted(rows, key=lambda row: (row["split"], row["clip_id"], row["label"])):
        if last is not None and (row["split"], row["clip_id"]) == (last["split"], last["clip_id"]):
            raise _several(dataset, rows, row)
        last, split, video = row, row["split"], stored.get(row["video_id"])
        annotated[split] = annotated.get(split, 0) + 1
        if video is not None:
            fields = {name: row[name] for name in own}
            clip = Clip(**fields, uri=video["uri"], num_frames=video["num_frames"], key=video["key"])
            found.setdefault(split, []).append(clip)
            if clip.start_s is not None and clip.start_s > surely(clip.num_frames, video["fps"]):
                near.append(clip)
    until = ends(clip.uri for clip in near)
    beyond = [clip for clip in near if clip.start_s is not None and clip.start_s > until[clip.uri]]
    clips = _without(found, beyond)
    coverage = {
        split: Coverage(count, len(clips.get(split, ())), sum(clip.split == split for clip in beyond)) for split, count in annotated.items()
    }
    return ClipTable(clips, coverage, {row["label"]: row["label_id"] for row in rows}, beyond)


def _without(found: dict[str, list[Clip]], beyond: Sequence[Clip]) -> dict[str, list[Clip]]:
    if not beyond:
        return found
    out = {(clip.split, clip.clip_id) for clip in beyond}
    return {split: [clip for clip in clips if (split, clip.clip_id) not in out] for split, clips in found.items()}


def _rows(layout: Layout, dataset: Dataset) -> list[dict[str, Any]]:
    uri = layout.annotation_table(dataset.name, "clips")
    try:
        table = read_table(uri)
    except FileNotFoundError as error:
        raise DataError(f"dataset '{dataset.name}': no clips table at {uri}; read the annotations first") from error
    if table.schema.names != CLIPS.names:
        raise DataError(f"dataset '{dataset.name}': {uri} was written by another version of this code; read the annotations again")
    return table.to_pylist()


def _several(dataset: Dataset, rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> DataError:
    same = [other for other in rows if (other["split"], other["clip_id"]) == (row["split"], row["clip_id"])]
    labels = ", ".join(f"'{other['label']}' ({other['source']})" for other in same)
    return DataError(
        f"dataset '{dataset.name}', split '{row['split']}': clip '{row['clip_id']}' has {len(same)} labels: {labels}; "
        "a recognition recipe learns one label per clip"
    )


class ClipDataset(TorchDataset[dict[str, Any]]):
    """Clips as arrays for a recognition model.

    Training items hold `frames` float32 (R, 3, T, S, S): R = `copies` random views that depend on seed, epoch, index and the number
    of the copy alone. Testing items hold (V, 3, T, S, S), the frozen views (`ops.data.frozen`). Items also hold `label_id` (int; int64
    [R] where R is more than 1), `clip_id`, `video_id`, `index` and `epoch`. Raises SampleError for a clip that cannot be read:
    none is replaced.
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
        """`views` None makes random training views; `mirrored_ids` exchanges label ids when a view is mirrored. Raises ConfigError."""
        check_sampling(sampling)
        check(transforms)
        self.clips = list(clips)
        self.sampling, self.transforms = sampling, transforms
        self.frozen = None if views is None else FrozenViews(sampling, transforms, views)
        self.seed, self.copies, self.mirrored_ids = seed, copies, dict(mirrored_ids or {})
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # seen by loader processes that outlive an epoch
        self._readers = Readers()

    def set_epoch(self, epoch: int) -> None:
        """Choose the random views of this epoch; has no effect on fixed views."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip, epoch = self.clips[index], int(self._epoch[0])
        try:
            frames, label_id = self._random(clip, epoch, index) if self.frozen is None else self._fixed(clip, self.frozen)
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            raise SampleError(f"clip '{clip.clip_id}' at {clip.uri}: {type(error).__name__}: {error}") from error
        item = {"frames": frames, "label_id": label_id, "clip_id": clip.clip_id, "video_id": clip.video_id}
        return {**item, "index": index, "epoch": epoch}

    def _random(self, clip: Clip, epoch: int, index: int) -> tuple[np.ndarray, int | np.ndarray]:
        """All copies are read at once: what they share is decoded once."""
        reader = self._readers[clip.uri]
        line = self._timeline(clip, reader)
        generators = [np.random.default_rng((self.seed, epoch, index, copy)) for copy in range(self.copies)]
        wanted = np.stack([line[random_indices(self.sampling, len(line), rng)] for rng in generators])
        views, labels = [], []
        for part, rng in zip(np.split(reader.read(wanted.reshape(-1)), self.copies), generators, strict=True):
            view, mirrored = random_view(part, self.transforms, rng)
            views.append(view)
            labels.append(self.mirrored_ids.get(clip.label_id, clip.label_id) if mirrored else clip.label_id)
        return (views[0][None], labels[0]) if self.copies == 1 else (np.stack(views), np.array(labels))

    def _fixed(self, clip: Clip, frozen: FrozenViews) -> tuple[np.ndarray, int]:
        reader = self._readers[clip.uri]
        line = self._timeline(clip, reader)
        return frozen.pixels(reader.read(line[frozen.indices(len(line))])), clip.label_id

    def _timeline(self, clip: Clip, reader: FrameReader) -> np.ndarray:
        if not clip.place and self.sampling.fps is None:
            return np.arange(clip.num_frames)  # the ledger knows it: nothing has to be opened
        return timeline(clip.num_frames, reader.attributes, start_s=clip.start_s, end_s=clip.end_s, fps=self.sampling.fps)
