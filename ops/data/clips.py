"""Labelled clips: the clips table joined with the frames ledger, and the dataset that a model trains and is tested on.

A row of the clips table is one file that was trimmed to its clip; its `start_s` and `end_s` name the place in the video it was
cut from, so a clip is always the whole file. Only stored videos count, and the coverage says how many there are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from configs.schema import Dataset, Sampling, Transforms, Views
from ops.data.samplers import fixed_indices, random_indices
from ops.data.transforms import check, fixed_views, random_view
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.reader import FrameReader
from ops.store.tables import read_table

OPEN_READERS = 4096  # each holds an index of its video, no open file


class DataError(ValueError):
    """Data that cannot be trained on: names the dataset, the table and what to do."""


class SampleError(RuntimeError):
    """A sample that the ledger promises and that cannot be read: names the clip and the URI."""


class Clip(NamedTuple):
    """One labelled, stored clip. `key` is the ledger's: the hash of content and decoding."""

    clip_id: str
    video_id: str
    split: str
    label: str
    label_id: int
    source: str
    uri: str
    num_frames: int
    key: str


@dataclass(frozen=True)
class Coverage:
    """How many clips of a split are annotated, and how many of these have stored frames."""

    annotated: int
    usable: int

    @property
    def share(self) -> float:
        """Usable share, 0 when nothing is annotated."""
        return self.usable / self.annotated if self.annotated else 0.0


class ClipTable(NamedTuple):
    """All usable clips of a dataset by split, the coverage by split, and every label of the table with its id."""

    clips: dict[str, list[Clip]]
    coverage: dict[str, Coverage]
    label_ids: dict[str, int]


def load_clips(layout: Layout, dataset: Dataset) -> ClipTable:
    """Usable clips, sorted by id. Raises DataError when the table is missing, StorageError when it cannot be read."""
    uri = layout.annotation_table(dataset.name, "clips")
    try:
        rows = read_table(uri).to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"dataset '{dataset.name}': no clips table at {uri}; read the annotations first") from error
    stored = {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist() if row["status"] == "ok"}
    clips: dict[str, list[Clip]] = {}
    annotated: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: row["clip_id"]):
        split, video = row["split"], stored.get(row["video_id"])
        annotated[split] = annotated.get(split, 0) + 1
        if video is not None:
            own = {name: row[name] for name in ("clip_id", "video_id", "split", "label", "label_id", "source")}
            clips.setdefault(split, []).append(Clip(**own, uri=video["uri"], num_frames=video["num_frames"], key=video["key"]))
    coverage = {split: Coverage(count, len(clips.get(split, ()))) for split, count in annotated.items()}
    return ClipTable(clips, coverage, {row["label"]: row["label_id"] for row in rows})


class ClipDataset(TorchDataset[dict[str, Any]]):
    """Clips as arrays for a recognition model.

    Training items hold `frames` float32 (1, 3, T, S, S): one random view that depends on seed, epoch and index alone.
    Testing items hold (V, 3, T, S, S): V = num_clips x num_crops fixed views, all crops of the first clip first. Items also
    hold `label_id`, `clip_id`, `video_id` and `index`. Raises SampleError for a clip that cannot be read: none is replaced.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        sampling: Sampling,
        transforms: Transforms,
        *,
        views: Views | None = None,
        seed: int = 0,
        mirrored_ids: Mapping[int, int] | None = None,
    ) -> None:
        """`views` None makes random training views; `mirrored_ids` exchanges label ids when a view is mirrored."""
        check(transforms)
        self.clips = list(clips)
        self.sampling, self.transforms, self.views = sampling, transforms, views
        self.seed, self.mirrored_ids = seed, dict(mirrored_ids or {})
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # seen by loader processes that outlive an epoch
        self._readers: OrderedDict[str, FrameReader] = OrderedDict()

    def set_epoch(self, epoch: int) -> None:
        """Choose the random views of this epoch; has no effect on fixed views."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[index]
        try:
            frames, label_id = self._random(clip, index) if self.views is None else self._fixed(clip, self.views)
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            raise SampleError(f"clip '{clip.clip_id}' at {clip.uri}: {type(error).__name__}: {error}") from error
        return {"frames": frames, "label_id": label_id, "clip_id": clip.clip_id, "video_id": clip.video_id, "index": index}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": OrderedDict()}  # every process opens its own

    def _random(self, clip: Clip, index: int) -> tuple[np.ndarray, int]:
        rng = np.random.default_rng((self.seed, int(self._epoch[0]), index))
        frames = self._reader(clip.uri).read(random_indices(self.sampling, clip.num_frames, rng))
        view, mirrored = random_view(frames, self.transforms, rng)
        return view[None], self.mirrored_ids.get(clip.label_id, clip.label_id) if mirrored else clip.label_id

    def _fixed(self, clip: Clip, views: Views) -> tuple[np.ndarray, int]:
        indices = fixed_indices(self.sampling, clip.num_frames, views.num_clips)
        frames = self._reader(clip.uri).read(indices.reshape(-1))
        parts = np.split(frames, views.num_clips)
        return np.concatenate([fixed_views(part, self.transforms, views.num_crops) for part in parts]), clip.label_id

    def _reader(self, uri: str) -> FrameReader:
        reader = self._readers.pop(uri, None) or FrameReader(uri)
        self._readers[uri] = reader
        if len(self._readers) > OPEN_READERS:
            self._readers.popitem(last=False)
        return reader
