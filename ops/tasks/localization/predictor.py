"""A trained localization model with its recipe and labels, ready for features or videos that no
dataset knows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import configs
from configs.schema import ConfigError, Extractor, Features, Frames, Provenance
from configs.schema.localization import LocalizationRecipe
from configs.settings import Settings
from ops.data.feature_grid import covered_frames, end_of
from ops.evaluation.weights import Served, frames_of
from ops.features.extract import features_of
from ops.features.jobs import ExtractJob
from ops.features.network import Network, device, resolve_pinned
from ops.media.decode import DecodeError, attributes, decode, decoders_for
from ops.media.probe import inspect
from ops.store.frames import write_frames
from ops.store.reader import FrameReader
from ops.tasks.localization.segments import Grid, grid_of, resampled
from ops.tasks.localization.task import FAMILY, FEATURES_FROM, model_config, placed
from ops.training.inference import place_of
from ops.training.task import family_of

VIDEOS_AT_ONCE = 4
SURE = 0.2  # below this score a line is not worth a person's time, unless it is the best one
BAR = 30


class Segment(NamedTuple):
    """One action found in a video."""

    label: str
    start_s: float
    end_s: float
    score: float


class Steps(NamedTuple):
    """Features [T, C] of one video, its frame rate and its duration (None: what the features
    cover).
    """

    features: np.ndarray
    fps: float
    duration_s: float | None = None
    scores: np.ndarray | None = None  # of the whole video's classes, for recipes with fusion


@dataclass(frozen=True)
class Localizer:
    """Model in evaluation mode, its recipe, its labels in the order of the classes, and where
    features come from.
    """

    model: nn.Module
    recipe: LocalizationRecipe
    vocabulary: Mapping[str, Sequence[str]]
    settings: Settings | None = None
    provenance: Provenance | None = None

    @cached_property
    def config(self) -> Features:
        """The features that the model was trained on; for a model of before, as they are configured
        now.
        """
        return features_config(self.recipe, self.provenance)

    @property
    def channels(self) -> int:
        """C of the features."""
        width = model_config(self.recipe).input_dims
        return width if isinstance(width, int) else sum(width)

    def on_features(self, sequences: Sequence[Steps]) -> list[list[Segment]]:
        """Segments of each video, best first; of any length, several at a time. Raises ValueError
        for features that do not fit.
        """
        # alike lengths side by side
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index].features))
        by_index: dict[int, list[Segment]] = {}
        for start in range(0, len(order), VIDEOS_AT_ONCE):
            some = order[start : start + VIDEOS_AT_ONCE]
            for index, segments in zip(
                some, self._batch([sequences[index] for index in some]), strict=True
            ):
                by_index[index] = segments  # noqa: PERF403
        return [by_index[index] for index in range(len(sequences))]

    def on_video(self, path: Path) -> list[Segment]:
        """Segments of a video file, best first: decoded, made into features by the model that the
        recipe's features name, localized.

        Raises DecodeError, ConfigError for features that are imported and not made from videos, or
        made by another model now.
        """
        networks = self._networks
        # stored as training saw them: the same features as in the store
        frames = frames_of(self.recipe, self.provenance)
        with tempfile.TemporaryDirectory(prefix="kinograph-") as folder:
            reader = _stored(path, f"{folder}/frames.zarr", frames)
            features = features_of(
                reader, networks, ExtractJob(path.name, self.config, {}, "", "", "", reader.uri)
            )
            rate = float(reader.attributes["fps"])
            duration = end_of(reader.attributes["timestamps_s"], 1 / rate)
        return self.on_features(
            [Steps(features.astype(self.config.dtype), self.config.fps or rate, duration)]
        )[0]

    def lines(self, found: Sequence[Segment]) -> list[str]:
        """A line per segment that the model is fairly sure of (at least one), with a bar as long as
        its score, surest first.
        """
        shown = [one for one in found if one.score >= SURE] or found[:1]
        wide = max((len(one.label) for one in shown), default=0)
        return [
            f"{one.start_s:7.2f} – {one.end_s:7.2f} s  {one.label:<{wide}}  {one.score:6.1%} "
            f" {'█' * round(one.score * BAR)}"
            for one in shown
        ] or ["nothing found"]

    @cached_property
    def _networks(self) -> list[Network]:
        config, settings = self.config, self.settings or configs.settings()
        if not config.extract:
            allowed = (
                "features that are extracted from videos; give the imported ones to on_features"
            )
            raise ConfigError(f"recipe {self.recipe.name}", "features", config.name, allowed)
        extractors = extractors_of(self.recipe, self.vocabulary, self.provenance)
        try:
            sources = [
                resolve_pinned(extractor, config.num_frames, settings) for extractor in extractors
            ]
        except ConfigError as error:
            allowed = (
                "the weights that it was trained on: train it again, or name that model's version"
                f" in the features ({error})"
            )
            found = f"{config.name}, made by other weights now"
            raise ConfigError(f"recipe {self.recipe.name}", "features", found, allowed) from error
        return [Network(source, device()) for source in sources]

    def _batch(self, sequences: Sequence[Steps]) -> list[list[Segment]]:
        grids, videos = zip(*(self._prepared(sequence) for sequence in sequences), strict=True)
        family = family_of(self.recipe, *FAMILY)
        batch = family.pad(videos)
        place = place_of(self.model)
        with torch.inference_mode():
            pyramid = self.model(batch.features.to(place), batch.valid.to(place))
            decoding = self.recipe.decoding
            candidates = family.decode(pyramid, decoding)
        rows = [
            placed(own, decoding, grid, sequence.scores, self.recipe)
            for own, grid, sequence in zip(candidates, grids, sequences, strict=True)
        ]
        return [
            self._segments(row, sequence) for row, sequence in zip(rows, sequences, strict=True)
        ]

    def _segments(self, row: Mapping[str, np.ndarray], sequence: Steps) -> list[Segment]:
        fused = sequence.scores is not None and self.recipe.fusion is not None
        labels = self.vocabulary["video_labels" if fused else "labels"]
        columns = zip(
            row["labels"].tolist(), row["segments"].tolist(), row["scores"].tolist(), strict=True
        )
        return [Segment(labels[label], start, end, score) for label, (start, end), score in columns]

    def _prepared(self, sequence: Steps) -> tuple[Grid, Tensor]:
        features, config = sequence.features, self.config
        if (
            features.ndim != 2
            or features.dtype.kind != "f"
            or 0 in features.shape
            or features.shape[1] != self.channels
        ):
            raise ValueError(
                f"features: found {features.dtype} {list(features.shape)}; allowed: floating point"
                f" [T, {self.channels}], T >= 1"
            )
        bad = ~np.isfinite(features)
        if bad.any():
            raise ValueError(
                f"features: found {int(bad.sum())} values that are not finite, the first at step"
                f" {int(np.argwhere(bad)[0][0])}"
            )
        if not sequence.fps > 0:
            raise ValueError(
                f"features: found a frame rate of {sequence.fps}; allowed: a positive number"
            )
        if sequence.scores is not None and len(sequence.scores) != len(
            self.vocabulary.get("video_labels", ())
        ):
            wanted = len(self.vocabulary.get("video_labels", ()))
            raise ValueError(
                f"scores: found {len(sequence.scores)}; allowed: {wanted}, one per label of whole"
                " videos"
            )
        covered = covered_frames(len(features), config.stride, config.num_frames) / sequence.fps
        duration = covered if sequence.duration_s is None else sequence.duration_s
        resample = self.recipe.steps.resample
        grid, _ = grid_of(
            len(features), config.stride, config.num_frames, sequence.fps, duration, resample
        )
        values = features.astype(np.float32)
        values = values if resample is None else resampled(values, resample)
        return grid, torch.from_numpy(np.ascontiguousarray(values.T))


def features_config(recipe: LocalizationRecipe, provenance: Provenance | None) -> Features:
    """The features that a model was trained on; for a model of before, as they are configured now.
    Raises ConfigError.
    """
    return (
        configs.features(recipe.features)
        if provenance is None or provenance.features is None
        else provenance.features
    )


def extractors_of(
    recipe: LocalizationRecipe,
    vocabulary: Mapping[str, Sequence[str]],
    provenance: Provenance | None,
) -> tuple[Extractor, ...]:
    """The models that made these features, by their weights; a model of before knows their sha256
    alone.
    """
    if provenance is not None:
        return provenance.extractors
    config, made_by = features_config(recipe, None), vocabulary.get(FEATURES_FROM, ())
    known = made_by if len(made_by) == len(config.extract) else [None] * len(config.extract)
    return tuple(
        Extractor(model=own.model, sha256=sha256, extraction=own, recipe=None)
        for own, sha256 in zip(config.extract, known, strict=True)
    )


def _stored(path: Path, uri: str, config: Frames) -> FrameReader:
    """The frames of a video file in a store of their own. Raises DecodeError."""
    facts = inspect(path)
    if facts.problem is not None:
        raise DecodeError(facts.problem)
    last: DecodeError | None = None
    for decoder in decoders_for(facts, config.short_side):
        try:
            decoding = decode(path, facts, decoder, short_side=config.short_side)
            write_frames(
                uri,
                decoding.pieces,
                config,
                partial(attributes, facts, decoding, config, str(path), ""),
            )
            return FrameReader(uri)
        except DecodeError as error:
            last = error
    raise last or DecodeError("no decoder")


def build(served: Served, settings: Settings | None = None) -> Localizer:
    """The predictor of a trained model."""
    return Localizer(served.model, served.recipe, served.vocabulary, settings, served.provenance)
