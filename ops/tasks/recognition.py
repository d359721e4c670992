"""Recognition: one label per clip."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import models
from configs.schema import ConfigError, Dataset, Recipe, RecognitionRecipe, Views, content_hash
from ops.data.clips import Clip, ClipDataset, ClipTable, DataError, load_clips
from ops.metrics.recognition import RecognitionMetric
from ops.store.layout import Layout
from ops.tasks.initial import load_initial
from ops.tasks.protocol import Mode, Row
from ops.tasks.views import view_scores

SPLITS = ("train", "val")


class Recognition:
    """The recognition task on one recipe's clips; fits `ops.tasks.protocol.Task`."""

    def __init__(self, recipe: RecognitionRecipe, layout: Layout, dataset: Dataset) -> None:
        self.recipe, self.layout, self.dataset = recipe, layout, dataset

    @cached_property
    def table(self) -> ClipTable:
        """Usable clips, coverage and labels of the dataset, read once."""
        return load_clips(self.layout, self.dataset)

    def check(self) -> None:
        """Raise DataError for a split without usable clips or a label beyond num_classes, ConfigError for a wrong flip label."""
        for split in SPLITS:
            for clip in self._clips(split):
                if not 0 <= clip.label_id < self.recipe.num_classes:
                    allowed = f"0..{self.recipe.num_classes - 1} (num_classes of recipe '{self.recipe.name}')"
                    raise DataError(f"{clip.source}: label '{clip.label}' has id {clip.label_id}; allowed: {allowed}")
        self.mirrored_ids()
        if self.recipe.views.average == "feature" and not hasattr(self.model_class(), "classify"):
            allowed = f"prob or score for family '{self.recipe.family}'"
            raise ConfigError(f"recipe '{self.recipe.name}'", "views.average", "feature", allowed)

    def data_version(self) -> str:
        """Hash of every clip's split, id, content key and label."""
        return content_hash([[split, c.clip_id, c.key, c.label, c.label_id] for split in SPLITS for c in self._clips(split)])

    def coverage(self) -> dict[str, float]:
        """Annotated and usable clips and the usable share, by split."""
        numbers: dict[str, float] = {}
        for split, found in sorted(self.table.coverage.items()):
            numbers |= {f"{split}_annotated": found.annotated, f"{split}_usable": found.usable, f"{split}_share": found.share}
        return numbers

    def mirrored_ids(self) -> dict[int, int]:
        """Label id -> label id in a mirror image. Raises ConfigError for a label that the data does not have."""
        known = self.table.label_ids
        pairs: dict[int, int] = {}
        for one, other in self.recipe.transforms.flip_labels.items():
            for label in (one, other):
                if label not in known:
                    where = f"recipe '{self.recipe.name}'"
                    raise ConfigError(where, "transforms.flip_labels", label, ", ".join(sorted(known)))
            pairs |= {known[one]: known[other], known[other]: known[one]}
        return pairs

    def samples(self, split: str, mode: Mode) -> ClipDataset:
        """The split's clips: one random view ('train'), one fixed view ('validate') or the recipe's views ('test')."""
        views = {"train": None, "validate": Views(average=self.recipe.views.average), "test": self.recipe.views}[mode]
        return ClipDataset(
            self._clips(split),
            self.recipe.sampling,
            self.recipe.transforms,
            views=views,
            seed=self.recipe.training.seed,
            mirrored_ids=self.mirrored_ids(),
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`frames` float32 (B, V, 3, T, S, S), `label_ids` int64 (B,), `clip_ids` and `video_ids` lists."""
        return {
            "frames": torch.from_numpy(np.stack([item["frames"] for item in items])),
            "label_ids": torch.tensor([item["label_id"] for item in items]),
            "clip_ids": [item["clip_id"] for item in items],
            "video_ids": [item["video_id"] for item in items],
        }

    def model(self) -> nn.Module:
        """The recipe's network, from published weights where it names some. Raises ModelConfigError, StorageError."""
        model = models.build(self.recipe)
        load_initial(model, self.recipe.training.init_from)
        return model

    def model_class(self) -> type[nn.Module]:
        """Class of the network, found without allocating one."""
        with torch.device("meta"):
            return type(models.build(self.recipe))

    def losses(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Cross entropy with label smoothing, and the share of right answers on the augmented clips."""
        logits = model(batch["frames"].flatten(0, 1)).float()
        labels = batch["label_ids"]
        loss = cross_entropy(logits, labels, label_smoothing=self.recipe.training.label_smoothing)
        return {"loss": loss, "train_top1": (logits.detach().argmax(1) == labels).float().mean()}

    def predict(self, model: nn.Module, batch: dict[str, Any]) -> list[Row]:
        """Rows clip_id, video_id, label_id and `scores` float32 [classes], averaged over the views as the recipe says."""
        frames = batch["frames"]
        scores = view_scores(model, frames.flatten(0, 1), frames.shape[1], self.recipe.views.average)
        columns = zip(batch["clip_ids"], batch["video_ids"], batch["label_ids"].tolist(), scores, strict=True)
        return [{"clip_id": clip, "video_id": video, "label_id": label, "scores": row} for clip, video, label, row in columns]

    def metric(self, split: str) -> RecognitionMetric:
        """Top-1, top-5 and mean class accuracy."""
        return RecognitionMetric()

    def state_dict(self) -> dict[str, Any]:
        """Empty: cross entropy remembers nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take back."""

    def _clips(self, split: str) -> list[Clip]:
        clips = self.table.clips.get(split, [])
        if not clips:
            found = self.table.coverage.get(split)
            splits = ", ".join(sorted(self.table.coverage)) or "none"
            state = f"{found.annotated} annotated clips, none with stored frames" if found else f"no clip; its splits: {splits}"
            raise DataError(f"dataset '{self.dataset.name}', split '{split}': {state}; annotate it and store its frames first")
        return clips


def build(recipe: Recipe, layout: Layout, dataset: Dataset) -> Recognition:
    """The task of a recognition recipe. Raises TypeError for a recipe of another task."""
    if not isinstance(recipe, RecognitionRecipe):
        raise TypeError(f"recipe '{recipe.name}' is of task '{recipe.task}', not recognition")
    return Recognition(recipe, layout, dataset)
