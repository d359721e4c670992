"""Temporal localization: labelled segments of untrimmed videos, from stored features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import configs
import models
from configs.schema import (
    ConfigError,
    Dataset,
    Extraction,
    Extractor,
    Features,
    Provenance,
    Recipe,
    content_hash_of_rows,
    plain_json,
)
from configs.schema.localization import Decoding, LocalizationRecipe
from ops.annotations.read import labels as dataset_labels
from ops.data.errors import DataError
from ops.store.features import FeatureReader
from ops.store.layout import Layout
from ops.tasks.localization.metric import LocalizationMetric
from ops.tasks.localization.segments import (
    Grid,
    SegmentDataset,
    SegmentTable,
    VideoList,
    load_segments,
)
from ops.tasks.localization.video_scores import VideoScores, read_scores
from ops.training.init_weights import load_initial
from ops.training.task import Mode, Row, Vocabulary, family_of, of_kind

SPLITS = ("train", "val")
ONE_CLASS = "action"
FEATURES_FROM = "features_from"
# What a family exports beside Config, TINY and build.
FAMILY = (
    "Criterion",
    "decode",
    "fuse_scores",
    "in_seconds",
    "next_normaliser",
    "pad",
    "suppress_candidates",
)
log = logging.getLogger(__name__)


class Localization:
    """The localization task on one recipe's videos; fits `ops.training.task.Task`."""

    def __init__(
        self,
        recipe: LocalizationRecipe,
        layout: Layout,
        dataset: Dataset,
        features: Features | None = None,
    ) -> None:
        """`features` None are those that the recipe names, as they are configured now."""
        self.recipe, self.layout, self.dataset, self._features = recipe, layout, dataset, features
        self.config = model_config(recipe)
        loss = recipe.loss
        self.criterion = self.family.Criterion(
            recipe.num_classes,
            self.config.ranges,
            radius=loss.radius,
            label_smoothing=recipe.training.label_smoothing,
            regression_weight=loss.regression_weight,
        )
        self.decoding = recipe.decoding
        self.normaliser = loss.normaliser  # running mean of the positive points of a global batch

    @property
    def family(self) -> ModuleType:
        """The recipe's family; looked up, as a task travels to loader processes and a module does
        not.
        """
        return family_of(self.recipe, *FAMILY)

    # ----------------------------------------------------------------------------------------------
    # data

    @cached_property
    def features(self) -> Features:
        """The recipe's features. Raises ConfigError for those of another dataset."""
        features = self._features or configs.features(self.recipe.features)
        if features.dataset != self.dataset.name:
            allowed = f"features of dataset {self.dataset.name}"
            raise ConfigError(
                f"recipe '{self.recipe.name}'",
                "features",
                f"{features.name}, of {features.dataset}",
                allowed,
            )
        return features

    @cached_property
    def table(self) -> SegmentTable:
        """Usable videos, what is left out, and coverage, read once."""
        return load_segments(self.layout, self.dataset, self.features, self.recipe.target)

    @cached_property
    def labels(self) -> list[str]:
        """The dataset's labels by id."""
        return dataset_labels(self.dataset, "segments", self.layout, self.recipe.target)

    @cached_property
    def scores(self) -> VideoScores | None:
        """Class scores of whole videos that proposals are fused with, where the recipe says so."""
        fusion = self.recipe.fusion
        return (
            None
            if fusion is None
            else read_scores(fusion, self.layout.dataset_root(self.dataset), self.labels)
        )

    def check(self) -> None:
        """Raise DataError for data that cannot be trained on, ConfigError for a wrong setting; log
        what is left out.
        """
        where = f"recipe '{self.recipe.name}'"
        self.check_classes()
        width = (
            self.config.input_dims
            if isinstance(self.config.input_dims, int)
            else sum(self.config.input_dims)
        )
        for split in SPLITS:
            videos = self.videos(split)
            wrong = np.flatnonzero((videos.labels < 0) | (videos.labels >= len(self.labels)))
            odd = {
                int(np.searchsorted(videos.starts, row, side="right")) - 1
                for row in wrong[:1].tolist()
            }
            odd |= set(np.flatnonzero(videos.columns["channels"].to_numpy() != width)[:1].tolist())
            for video in (videos[index] for index in sorted(odd)):
                if video.channels != width:
                    found = (
                        f"{width}, and features '{self.features.name}' of video '{video.video_id}'"
                        f" have {video.channels} channels"
                    )
                    raise ConfigError(where, "model.input_dims", found, f"{video.channels}")
                bad = video.labels[(video.labels < 0) | (video.labels >= len(self.labels))]
                if len(bad):
                    raise DataError(
                        f"video '{video.video_id}': label {int(bad[0])}; allowed:"
                        f" 0..{len(self.labels) - 1}, those of the dataset"
                    )
            if not len(videos.labels):
                raise DataError(
                    f"dataset '{self.dataset.name}', split '{split}': {len(videos)} videos with"
                    " features, none with a segment"
                )
            if self.scores is not None:
                self.scores.require(videos.columns["video_id"].to_pylist())
        for row in self.table.left_out:
            log.info(
                "%s: %s", " ".join(filter(None, (row.split, row.video_id, row.label))), row.reason
            )
        if untrained := self.untrained():
            log.warning("%s: no training segment of %s", where, ", ".join(untrained))

    def check_classes(self) -> None:
        """Raise ConfigError where the recipe's number of classes is not the dataset's."""
        recipe, wanted = self.recipe, 1 if self.recipe.class_agnostic else len(self.labels)
        if recipe.num_classes != wanted:
            allowed = f"{wanted}, " + (
                "for proposals" if recipe.class_agnostic else f"the labels of {self.dataset.name}"
            )
            raise ConfigError(f"recipe '{recipe.name}'", "num_classes", recipe.num_classes, allowed)

    def untrained(self) -> list[str]:
        """Labels without a segment in the training split."""
        seen = (
            set(np.unique(self.table.videos["train"].labels).tolist())
            if "train" in self.table.videos
            else ()
        )
        return [name for label, name in enumerate(self.labels) if label not in seen]

    def data_version(self) -> str:
        """Hash of every video's split, id, features, place in time, segments and labels."""
        rows = (
            [
                split,
                video.video_id,
                video.key,
                video.num_steps,
                video.fps,
                video.duration_s,
                video.segments.tolist(),
                video.labels.tolist(),
            ]
            for split in SPLITS
            for video in self.videos(split)
        )
        return content_hash_of_rows(
            map(plain_json, rows), self.labels, self.scores.sha256 if self.scores else None
        )

    def coverage(self) -> dict[str, float]:
        """Annotated and usable videos and segments by split, and how much is left out."""
        left_out = {
            "left_out": float(len(self.table.left_out)),
            "labels_without_training": float(len(self.untrained())),
        }
        return {**self.table.coverage, **left_out}

    def vocabulary(self) -> Vocabulary:
        """`labels` of the model's classes; of proposals there is one, and `video_labels` are those
        that fusion gives them.

        `features_from` are the sha256 of the weights that made the features it was trained on,
        where models made them.
        """
        names = (
            {"labels": [ONE_CLASS], "video_labels": self.labels}
            if self.recipe.class_agnostic
            else {"labels": self.labels}
        )
        if not self.features.extract:
            return names
        return {**names, FEATURES_FROM: [stream["weights_sha256"] for stream in self._streams()]}

    def provenance(self) -> Provenance:
        """How frames are stored, the features on them, and the very models that made these: by
        version where the registry has them.
        """
        extractors = [
            _extractor(extraction, stream)
            for extraction, stream in zip(self.features.extract, self._streams(), strict=True)
        ]
        dataset = self.dataset
        return Provenance(
            dataset=dataset.name,
            frames=dataset.frames,
            features=self.features,
            extractors=tuple(extractors),
        )

    def _streams(self) -> list[dict[str, Any]]:
        """What is noted of the models behind the features."""
        return (
            FeatureReader(self.videos("train")[0].array_uri).attributes["streams"]
            if self.features.extract
            else []
        )

    @property
    def scored_labels(self) -> list[str]:
        """Labels that predictions have, by id."""
        return (
            [ONE_CLASS]
            if self.recipe.class_agnostic and self.recipe.fusion is None
            else self.labels
        )

    def samples(self, split: str, mode: Mode) -> SegmentDataset:
        """The split's videos: a random window each ('train'), or whole."""
        return SegmentDataset(
            self.videos(split),
            self.features,
            self.recipe.steps,
            max_length=self.config.max_length,
            training=mode == "train",
            one_class=self.recipe.class_agnostic,
            seed=self.recipe.training.seed,
        )

    def videos(self, split: str) -> VideoList:
        """Usable videos of the split, sorted by id. Raises DataError where there is none."""
        videos = self.table.videos.get(split)
        if videos is None:
            found = self.table.coverage.get(f"{split}_annotated")
            state = (
                f"{found:.0f} annotated videos, none with features '{self.features.name}'"
                if found
                else "no annotated video"
            )
            raise DataError(
                f"dataset '{self.dataset.name}', split '{split}': {state}; make them: kinograph"
                f" features {self.features.name}"
            )
        return videos

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`features` float32 (B, C, T), zero behind each video's end, `valid` bool (B, T), lists
        `segments` and `labels` of tensors on the grid, and of the whole videos `true_segments`,
        `true_labels`, `grids`, `video_ids`.
        """
        longest = max(item["features"].shape[1] for item in items)
        features = torch.zeros(len(items), len(items[0]["features"]), longest)
        valid = torch.zeros(len(items), longest, dtype=torch.bool)
        for row, item in enumerate(items):
            steps = item["features"].shape[1]
            features[row, :, :steps] = torch.from_numpy(item["features"])
            valid[row, :steps] = True
        return {
            "features": features,
            "valid": valid,
            "segments": [torch.from_numpy(item["segments"]) for item in items],
            "labels": [torch.from_numpy(item["labels"]) for item in items],
            "true_segments": [item["true_segments"] for item in items],
            "true_labels": [item["true_labels"] for item in items],
            "grids": [tuple(item["grid"]) for item in items],
            "video_ids": [item["video_id"] for item in items],
        }

    # ----------------------------------------------------------------------------------------------
    # model

    def model(self) -> nn.Module:
        """The recipe's network, from published weights where it names some. Classes without any
        segment start as good as never.

        Raises ModelConfigError, StorageError.
        """
        own: dict[str, Any] = dict(self.recipe.model)
        if not self.recipe.class_agnostic:
            seen = {
                label
                for videos in self.table.videos.values()
                for label in np.unique(videos.labels).tolist()
            }
            own["empty_classes"] = tuple(
                label for label in range(self.recipe.num_classes) if label not in seen
            )
        model = models.build(self.recipe.model_copy(update={"model": own}))
        load_initial(model, self.recipe.training.init_from, sha256=self.recipe.training.init_sha256)
        return model

    def losses(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Focal and distance-IoU losses over the running mean of the positive points of all ranks
        together.

        The sums of all ranks are divided by one number, so that many ranks take the step of one.
        `loss` is weighted so that the mean over ranks, each counted by its videos, is that
        quotient.
        """
        pyramid = model(batch["features"], batch["valid"])
        sums = self.criterion(pyramid, batch["segments"], batch["labels"])
        videos = len(batch["video_ids"])
        counts = torch.tensor(
            [float(sums.num_positives), float(videos)],
            dtype=torch.float64,
            device=batch["features"].device,
        )
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
        positives, all_videos = counts.tolist()
        self.normaliser = self.family.next_normaliser(
            self.normaliser, positives, self.recipe.loss.momentum
        )
        divisor = self.normaliser * videos / all_videos
        return {
            "loss": self.criterion.total(sums, divisor),
            "classification": sums.classification.detach() / divisor,
            "regression": sums.regression.detach() / divisor,
            "positives": counts[0].float() / all_videos,
        }

    def predict(self, model: nn.Module, batch: dict[str, Any]) -> list[Row]:
        """Rows video_id, `segments` float32 [N, 2] in seconds, `scores`, `labels` [N], best first,
        `true_segments` and `true_labels`.
        """
        pyramid = model(batch["features"], batch["valid"])
        rows = []
        for index, candidates in enumerate(self.family.decode(pyramid, self.decoding)):
            grid, video = Grid(*batch["grids"][index]), batch["video_ids"][index]
            scores = None if self.scores is None else self.scores.of(video)
            found = self.segments_of(candidates, grid, scores)
            true = np.asarray(batch["true_labels"][index])
            true = (
                np.zeros_like(true)
                if len(self.scored_labels) == 1 and self.recipe.class_agnostic
                else true
            )
            rows.append(
                {
                    "video_id": video,
                    **found,
                    "true_segments": np.asarray(batch["true_segments"][index]),
                    "true_labels": true,
                }
            )
        return rows

    def segments_of(
        self, candidates: Any, grid: Grid, scores: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """`segments` in seconds, `scores` and `labels`, of candidates on the grid; `scores` are the
        video's own, for fusion.
        """
        return placed(candidates, self.decoding, grid, scores, self.recipe)

    def metric(self, split: str) -> LocalizationMetric:
        """Mean average precision and recall at the recipe's thresholds."""
        return LocalizationMetric(len(self.scored_labels), self.recipe.tiou, self.recipe.recall)

    def state_dict(self) -> dict[str, Any]:
        """The running mean that the losses are divided by."""
        return {"normaliser": self.normaliser}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.normaliser = float(state["normaliser"])


def _extractor(extraction: Extraction, stream: Mapping[str, Any]) -> Extractor:
    """The model behind a stream of features; a published checkpoint goes with the recipe that it
    was loaded by.
    """
    recipe = (
        None
        if extraction.checkpoint is None
        else configs.load(extraction.model).model_dump(mode="json")
    )
    model = stream.get("version") or extraction.model  # features of before did not note it
    return Extractor(
        model=model, sha256=stream["weights_sha256"], extraction=extraction, recipe=recipe
    )


def placed(
    candidates: Any,
    decoding: Decoding,
    grid: Grid,
    scores: np.ndarray | None,
    recipe: LocalizationRecipe,
) -> dict[str, np.ndarray]:
    """Candidates on the grid -> suppressed segments in seconds inside the video, best first; those
    that end up without length are gone.

    Args:
        candidates: of one video, as the family's network gives them.
        decoding: how they are suppressed.
        grid: where their steps lie in time.
        scores: [classes], the video's own, for fusion; None leaves the segments' scores.
        recipe: its `fusion` says how scores are joined.
    """
    family = family_of(recipe, *FAMILY)
    kept = family.suppress_candidates(candidates, decoding)
    kept = family.in_seconds(
        kept, stride=grid.stride, window=grid.num_frames, fps=grid.fps, duration_s=grid.duration_s
    )
    if scores is not None and recipe.fusion is not None:
        kept = family.fuse_scores(
            kept,
            torch.from_numpy(scores),
            max_proposals=recipe.fusion.max_proposals,
            top=recipe.fusion.top,
        )
    segments, values, labels = (column.cpu().numpy() for column in kept)
    order = np.argsort(-values, kind="stable")
    order = order[segments[order, 0] < segments[order, 1]]
    return {"segments": segments[order], "scores": values[order], "labels": labels[order]}


def model_config(recipe: LocalizationRecipe) -> Any:
    """The Config of the recipe's model. Raises ModelConfigError."""
    module = family_of(recipe, *FAMILY)
    names = module.Config.__dataclass_fields__
    # models.build refuses the others by name
    own = {name: _tuples(value) for name, value in recipe.model.items() if name in names}
    return module.Config(num_classes=recipe.num_classes, **own)


def _tuples(value: Any) -> Any:
    return (
        tuple(_tuples(item) for item in value)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else value
    )


def build(
    recipe: Recipe, layout: Layout, dataset: Dataset, features: Features | None = None
) -> Localization:
    """The task of a localization recipe; `features` None are those that it names. Raises
    ConfigError for a recipe of another task.
    """
    return Localization(of_kind(recipe, LocalizationRecipe), layout, dataset, features)
