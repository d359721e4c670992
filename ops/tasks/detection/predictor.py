"""A trained detection model with its recipe and actions: persons and what they do along a whole
video, a key frame each second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from configs.schema import DetectionRecipe, Provenance
from configs.settings import Settings
from ops.annotations.formats.ava_csv import write
from ops.evaluation.weights import Served, frames_of
from ops.media.decode import DecodeError, Decoding, decode, decoders_for
from ops.media.probe import inspect
from ops.store.tables import BOXES
from ops.tasks.detection.family import Persons, detected
from ops.tasks.detection.key_frame_clips import clip_indices, padded, pixels_of
from ops.training.inference import place_of

BATCH = 8
SHOWN_ACTIONS, LEAST = 3, 0.05


@dataclass(frozen=True)
class KeyFrameFound:
    """The persons of one key frame at `timestamp_s`, surest first."""

    timestamp_s: float
    persons: Persons


@dataclass(frozen=True)
class VideoFound:
    """What was found along a video; `labels` are the actions in the order of the scores, `ids`
    their numbers in files.
    """

    video_id: str
    labels: Sequence[str]
    ids: Sequence[int]
    key_frames: Sequence[KeyFrameFound]

    def table(self, least: float = 0.0) -> pa.Table:
        """A row per person and action of at least this score: BOXES' columns of key frames, and
        `score` and `person_score`.
        """
        names = ("video_id", "timestamp_s", "x1", "y1", "x2", "y2", "label", "label_id")
        columns: dict[str, list[object]] = {name: [] for name in (*names, "score", "person_score")}
        for key in self.key_frames:
            for box, person, scores in zip(*key.persons, strict=True):
                for label in np.nonzero(scores >= least)[0].tolist():
                    values = (
                        self.video_id,
                        key.timestamp_s,
                        *map(float, box),
                        self.labels[label],
                        self.ids[label],
                    )
                    for name, value in zip(
                        columns, (*values, float(scores[label]), float(person)), strict=True
                    ):
                        columns[name].append(value)
        kinds = {name: BOXES.field(name).type for name in names}
        return pa.table(
            {name: pa.array(own, kinds.get(name, pa.float32())) for name, own in columns.items()}
        )

    def csv(self, least: float = 0.0) -> bytes:
        """The same as AVA's evaluators read it: video, timestamp, box, action id, score."""
        table = self.table(least)
        sides = [table[side].to_numpy() for side in ("x1", "y1", "x2", "y2")]
        return write(table.filter(pa.array((sides[2] > sides[0]) & (sides[3] > sides[1]))))


@dataclass(frozen=True)
class Detector:
    """Model in evaluation mode, its recipe, its actions in the order of the classes, their ids in
    files, and where it comes from.
    """

    model: nn.Module
    recipe: DetectionRecipe
    labels: Sequence[str]
    ids: Sequence[int]
    provenance: Provenance | None = None

    def on_video(self, path: Path, every_s: float = 1.0) -> VideoFound:
        """Persons and actions along a video file, a key frame every so many seconds from the first
        whole one on.

        The video is decoded twice, its timestamps first; what lies in memory is one batch of clips,
        however long it is.

        Args:
            path: of the video, on this machine.
            every_s: seconds between key frames; a video shorter than that has the one key frame in
                its middle.

        Raises:
            DecodeError: the video cannot be decoded.
            ValueError: the distance is not positive.
        """
        if not every_s > 0:
            raise ValueError(f"every_s: found {every_s!r}; allowed: seconds above 0")
        # what training saw
        facts, short_side = inspect(path), frames_of(self.recipe, self.provenance).short_side
        if facts.problem is not None:
            raise DecodeError(facts.problem)
        last: DecodeError | None = None
        for decoder in decoders_for(facts, short_side):
            try:
                decoding = partial(decode, path, facts, decoder)
                found = [
                    key
                    for batch in self._batches(decoding, short_side, every_s)
                    for key in self._detect(batch)
                ]
                return VideoFound(path.stem, self.labels, self.ids, found)
            except DecodeError as error:
                last = error
        raise last or DecodeError("no decoder")

    def lines(self, found: VideoFound) -> list[str]:
        """A line per person, in time: how sure, where (shares of the picture), and what they do."""
        texts = []
        for key in found.key_frames:
            for box, person, scores in zip(*key.persons, strict=True):
                best = [
                    label
                    for label in np.argsort(-scores, kind="stable")[:SHOWN_ACTIONS]
                    if scores[label] >= LEAST
                ]
                acts = (
                    ", ".join(f"{found.labels[label]} {scores[label]:.0%}" for label in best)
                    or "nothing of the list"
                )
                place = " ".join(f"{side:.2f}" for side in box)
                texts.append(f"{key.timestamp_s:7.2f} s  person {person:4.0%}  [{place}]  {acts}")
        return texts or ["nobody"]

    @torch.inference_mode()
    def persons(self, clips: Sequence[np.ndarray]) -> list[Persons]:
        """Persons of clips uint8 RGB [T, H, W, 3], the key frame being number T // 2.

        Raises ValueError for clips of another shape or type.
        """
        length = self.recipe.sampling.clip_len
        for clip in clips:
            if (
                clip.dtype != np.uint8
                or clip.ndim != 4
                or clip.shape[0] != length
                or clip.shape[3] != 3
            ):
                raise ValueError(
                    f"frames: found {clip.dtype} {list(clip.shape)}; allowed: uint8 [{length}, H,"
                    " W, 3]"
                )
        batch = padded(
            [pixels_of(clip, self.recipe.pictures)[0] for clip in clips],
            self.recipe.pictures.pad_to,
        )
        place = place_of(self.model)
        return detected(self.model, batch.clips.to(place), batch.sizes.to(place), self.recipe)

    def _detect(self, batch: Sequence[tuple[float, np.ndarray]]) -> list[KeyFrameFound]:
        times, clips = zip(*batch, strict=True)
        return [
            KeyFrameFound(time, persons.sorted())
            for time, persons in zip(times, self.persons(clips), strict=True)
        ]

    def _batches(
        self, decode_all: Callable[..., Decoding], short_side: int | None, every_s: float
    ) -> Iterator[list[tuple[float, np.ndarray]]]:
        """Batches of (timestamp, clip) along the video; a frame is kept from when it is decoded
        until its last clip is made.
        """
        decoding = decode_all()
        for _ in decoding:
            continue
        times = np.asarray(decoding.timestamps_s, np.float64)
        wanted = [
            (at, clip_indices(self.recipe.sampling, len(times), times, at, None))
            for at in _key_times(times, every_s)
        ]
        batch: list[tuple[float, np.ndarray]] = []
        held: dict[int, np.ndarray] = {}
        seen, place = 0, 0
        needed = set(np.concatenate([indices for _, indices in wanted]).tolist())
        for piece in decode_all(short_side=short_side):
            held |= {
                seen + at: frame.copy() for at, frame in enumerate(piece) if seen + at in needed
            }
            seen += len(piece)
            while place < len(wanted) and wanted[place][1][-1] < seen:
                at_s, indices = wanted[place]
                batch.append((at_s, np.stack([held[index] for index in indices.tolist()])))
                place += 1
                first = int(wanted[place][1][0]) if place < len(wanted) else seen
                held = {index: frame for index, frame in held.items() if index >= first}
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        if place < len(wanted):
            raise DecodeError(f"{seen} frames where {len(times)} were counted")
        if batch:
            yield batch


def _key_times(times: np.ndarray, every_s: float) -> list[float]:
    """Multiples of the distance at which the video shows something, from the first one on; its
    middle where there is none.
    """
    first = max(1, int(np.ceil(times[0] / every_s)))
    found = [round(step * every_s, 6) for step in range(first, int(times[-1] / every_s) + 1)]
    return found or [float((times[0] + times[-1]) / 2)]


def build(served: Served, settings: Settings | None = None) -> Detector:
    """The predictor of a trained model."""
    names = served.vocabulary["labels"]
    ids = [int(number) for number in served.vocabulary.get("ids", range(1, len(names) + 1))]
    return Detector(served.model, served.recipe, names, ids, served.provenance)
