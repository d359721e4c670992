"""Recognition: one label per clip."""

from __future__ import annotations

import logging
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import models
from configs.schema import ConfigError, Dataset, Provenance, Recipe, RecognitionRecipe, Views
from ops.annotations.read import labels
from ops.data.buffers import stacked
from ops.data.errors import DataError
from ops.data.mixing import batch_generator, mix, soft_labels
from ops.data.test_views import FrozenViews
from ops.store.layout import Layout
from ops.tasks.recognition.clips import ClipDataset, ClipList, ClipTable, load_clips, version_of
from ops.tasks.recognition.images import ClipsAndImages, ImageFolder, check_images, read_folder
from ops.tasks.recognition.metric import RecognitionMetric
from ops.tasks.recognition.views import view_scores
from ops.training.init_weights import head_channels, load_initial, scale_head
from ops.training.task import Mode, Row, Stateless, Vocabulary, of_kind

log = logging.getLogger(__name__)
SPLITS = ("train", "val")
TOLD = 20  # clips that the log names


class Recognition(Stateless):
    """The recognition task on one recipe's clips; fits `ops.training.task.Task`."""

    def __init__(self, recipe: RecognitionRecipe, layout: Layout, dataset: Dataset) -> None:
        self.recipe, self.layout, self.dataset = recipe, layout, dataset

    @cached_property
    def table(self) -> ClipTable:
        """Usable clips, coverage and labels of the dataset, read once."""
        return load_clips(self.layout, self.dataset, self.recipe.target)

    @cached_property
    def images(self) -> ImageFolder | None:
        """The recipe's images beside the clips, listed once."""
        images = self.recipe.images
        return None if images is None else read_folder(self.layout.placed(images.root).rstrip("/"))

    def check(self) -> None:
        """Raise DataError for a split without usable clips or a label beyond num_classes,
        ConfigError for a wrong setting.
        """
        self.check_views()
        if self.images is not None:
            check_images(
                self.recipe.name, self.images, getattr(self.network_config(), "image_classes", None)
            )
        for clip in self.table.beyond_end[:TOLD]:
            log.warning(
                "%s: clip '%s' is left out: %g s is after the last frame of its video",
                clip.source,
                clip.clip_id,
                clip.start_s,
            )
        if len(self.table.beyond_end) > TOLD:
            log.warning(
                "%s: %d more clips begin after their videos' ends",
                self.dataset.name,
                len(self.table.beyond_end) - TOLD,
            )
        for split in SPLITS:
            clips = self._clips(split)
            wrong = np.flatnonzero(
                (clips.label_ids < 0) | (clips.label_ids >= self.recipe.num_classes)
            )
            if len(wrong):
                clip, allowed = (
                    clips[int(wrong[0])],
                    (
                        f"0..{self.recipe.num_classes - 1} (num_classes of recipe"
                        f" '{self.recipe.name}')"
                    ),
                )
                raise DataError(
                    f"{clip.source}: label '{clip.label}' has id {clip.label_id}; allowed:"
                    f" {allowed}"
                )
        self._check_classes()
        self.mirrored_ids()

    def _check_classes(self) -> None:
        if (found := len(self.vocabulary()["labels"])) != self.recipe.num_classes:
            allowed = f"{found}, the labels of {self.dataset.name}"
            raise ConfigError(
                f"recipe '{self.recipe.name}'", "num_classes", self.recipe.num_classes, allowed
            )

    def check_views(self) -> None:
        """Raise ConfigError for views that the sampling or the family cannot give."""
        where, sampling, views = (
            f"recipe '{self.recipe.name}'",
            self.recipe.sampling,
            self.recipe.views,
        )
        if sampling.kind in ("key_frame", "sliding"):
            allowed = (
                "segments, dense, uniform, dense_sample or pan: a labelled clip is seen as a whole"
            )
            raise ConfigError(where, "sampling.kind", sampling.kind, allowed)
        FrozenViews(sampling, self.recipe.transforms, views)
        fixed = self.recipe.model.get("num_segments")
        if views.num_segments not in (None, sampling.num_segments) and fixed not in (
            None,
            views.num_segments,
        ):
            raise ConfigError(
                where,
                "views.num_segments",
                views.num_segments,
                f"{fixed}, which this family is built for, or null",
            )
        if self.recipe.views.average == "feature" and not hasattr(self.model_class(), "classify"):
            raise ConfigError(
                where,
                "views.average",
                "feature",
                f"prob or score for family '{self.recipe.family}'",
            )

    def data_version(self) -> str:
        """Hash of every clip's split, id, content key, label and place in its video, and of the
        list of images where there is one.
        """
        return version_of(
            map(self._clips, SPLITS), None if self.images is None else self.images.version
        )

    def coverage(self) -> dict[str, float]:
        """Annotated and usable clips and the usable share, by split."""
        numbers: dict[str, float] = {}
        for split, found in sorted(self.table.coverage.items()):
            numbers |= {
                f"{split}_annotated": found.annotated,
                f"{split}_usable": found.usable,
                f"{split}_share": found.share,
            }
            if found.beyond_end:
                numbers[f"{split}_beyond_end"] = found.beyond_end
        return numbers

    def vocabulary(self) -> Vocabulary:
        """The dataset's labels by id."""
        return {"labels": labels(self.dataset, "clips", self.layout, self.recipe.target)}

    def provenance(self) -> Provenance:
        """How the clips' frames are stored."""
        return Provenance(dataset=self.dataset.name, frames=self.dataset.frames)

    def mirrored_ids(self) -> dict[int, int]:
        """Label id -> label id in a mirror image, by the recipe's own pairs, else the dataset's.

        Raises ConfigError for a label that the data does not have.
        """
        known, own = self.table.label_ids, self.recipe.transforms.flip_labels
        where, field = f"recipe '{self.recipe.name}'", "transforms.flip_labels"
        if not own:
            where, field = f"dataset '{self.dataset.name}'", "flip_labels"
        pairs: dict[int, int] = {}
        for one, other in (own or self.dataset.flip_labels).items():
            for label in (one, other):
                if label not in known:
                    raise ConfigError(where, field, label, ", ".join(sorted(known)))
            pairs |= {known[one]: known[other], known[other]: known[one]}
        return pairs

    def samples(self, split: str, mode: Mode) -> ClipDataset:
        """The split's clips: one random view ('train', with images where the recipe has them), one
        fixed view ('validate') or the recipe's views ('test').
        """
        views = {
            "train": None,
            "validate": Views(average=self.recipe.views.average),
            "test": self.recipe.views,
        }[mode]
        one_view = {"num_positions": 1} if mode == "validate" else {}
        options: dict[str, Any] = {
            "views": views,
            "seed": self.recipe.training.seed,
            "copies": self.recipe.training.repeated_augmentation,
            "mirrored_ids": self.mirrored_ids() if mode == "train" else {},
        }
        clips, sampling, transforms = (
            self._clips(split),
            self.recipe.sampling.model_copy(update=one_view),
            self.recipe.transforms,
        )
        if mode == "train" and self.images is not None and self.recipe.images is not None:
            return ClipsAndImages(
                self.images, self.recipe.images, clips, sampling, transforms, **options
            )
        return ClipDataset(clips, sampling, transforms, **options)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`frames` float32 (B, V, 3, T, S, S), `label_ids` int64 (B,), `clip_ids` and `video_ids`
        lists, `epoch`, `first_index`.

        With repeated augmentation V are the copies of a training clip, and `label_ids` are (B, V).
        Without a crop the frames of a batch may differ in size; then `frames` is a list of B
        tensors (V, 3, T, H, W). Items with images give `images` (B, K, 3, 1, S, S) and `image_ids`
        (B, K).
        """
        frames: list[np.ndarray] = [item["frames"] for item in items]
        alike = len({clip.shape for clip in frames}) == 1
        more = {
            name: stacked([item[name] for item in items])
            for name in ("images", "image_ids")
            if name in items[0]
        }
        return more | {
            "frames": stacked(frames) if alike else [torch.from_numpy(clip) for clip in frames],
            "label_ids": torch.from_numpy(np.array([item["label_id"] for item in items], np.int64)),
            "clip_ids": [item["clip_id"] for item in items],
            "video_ids": [item["video_id"] for item in items],
            "epoch": items[0]["epoch"],
            "first_index": items[0]["index"],
        }

    def model(self) -> nn.Module:
        """The recipe's network, from published weights where it names some.

        Raises ModelConfigError, ConfigError, StorageError, PublishedWeightsError.
        """
        model, training = models.build(self.recipe), self.recipe.training
        if training.head_scale is not None:
            scale_head(model, training.head_scale, self.recipe)
        wanted = training.init_head if training.init_from else None
        channels = (
            None
            if wanted is None
            else head_channels(wanted, self.vocabulary()["labels"], self.layout, self.recipe)
        )
        load_initial(model, training.init_from, channels, training.init_sha256)
        return model

    def model_class(self) -> type[nn.Module]:
        """Class of the network, found without allocating one."""
        return type(self._on_meta())

    def network_config(self) -> object:
        """Numbers of the network, None for a family that keeps none."""
        return getattr(self._on_meta(), "config", None)

    def _on_meta(self) -> nn.Module:
        with torch.device("meta"):
            return models.build(self.recipe)

    def losses(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Cross entropy with label smoothing, and the share of right answers on the augmented
        clips.

        With mixing the clips are mixed here, by the generator of the batch's seed, epoch and first
        clip, and the label with the larger share is the right answer. Images have a loss of their
        own.
        """
        frames, labels = batch["frames"].flatten(0, 1), batch["label_ids"].flatten()
        training, mixing = self.recipe.training, self.recipe.mixing
        targets, smoothing = labels, training.label_smoothing
        if mixing is not None:
            soft = soft_labels(labels, self.recipe.num_classes, smoothing)
            rng = batch_generator(training.seed, batch["epoch"], batch["first_index"])
            frames, targets = mix(frames, soft, mixing, rng)
            labels, smoothing = targets.argmax(1), 0.0
        images = batch["images"].flatten(0, 1) if "images" in batch else None
        heads = _heads(model, frames, images)
        if images is None or self.recipe.images is None:
            losses = [
                # of other labels
                (
                    weight * cross_entropy(logits, targets, label_smoothing=smoothing)
                    if weight
                    else 0.0 * logits.sum()
                )
                for logits, weight in heads
            ]
        else:
            (logits, _), (of_images, _) = heads
            image_loss = cross_entropy(
                of_images, batch["image_ids"].flatten(), label_smoothing=training.label_smoothing
            )
            losses = [
                cross_entropy(logits, targets, label_smoothing=smoothing),
                self.recipe.images.weight * image_loss,
            ]
        return {
            "loss": torch.stack(losses).sum(),
            "train_top1": (heads[0][0].detach().argmax(1) == labels).float().mean(),
        }

    def predict(self, model: nn.Module, batch: dict[str, Any]) -> list[Row]:
        """Rows clip_id, video_id, label_id and `scores` float32 [classes], averaged over the views
        as the recipe says.
        """
        frames, average = batch["frames"], self.recipe.views.average
        if isinstance(frames, list):
            scores = np.concatenate(
                [view_scores(model, clip, len(clip), average) for clip in frames]
            )
        else:
            scores = view_scores(model, frames.flatten(0, 1), frames.shape[1], average)
        columns = zip(
            batch["clip_ids"], batch["video_ids"], batch["label_ids"].tolist(), scores, strict=True
        )
        return [
            {"clip_id": clip, "video_id": video, "label_id": label, "scores": row}
            for clip, video, label, row in columns
        ]

    def metric(self, split: str) -> RecognitionMetric:
        """Top-1, top-5 and mean class accuracy."""
        return RecognitionMetric()

    def _clips(self, split: str) -> ClipList:
        clips = self.table.clips.get(split)
        if clips is None:
            found = self.table.coverage.get(split)
            splits = ", ".join(sorted(self.table.coverage)) or "none"
            state = f"no clip; its splits: {splits}"
            if found:
                late = (
                    f" ({found.beyond_end} begin after the last frame of their video)"
                    if found.beyond_end
                    else ""
                )
                state = f"{found.annotated} annotated clips, none with stored frames{late}"
            raise DataError(
                f"dataset '{self.dataset.name}', split '{split}': {state}; annotate it and store"
                " its frames first"
            )
        return clips


def _heads(
    model: nn.Module, frames: Tensor, images: Tensor | None = None
) -> list[tuple[Tensor, float]]:
    """Float logits of all heads of a network with the weights of their losses, the one that answers
    first; with images those of the clips and those of the images.
    """
    network = model.module if isinstance(model, DistributedDataParallel) else model
    if images is not None:
        return [(logits.float(), weight) for logits, weight in model(frames, images=images)]
    if "every_head" not in signature(network.forward).parameters:
        return [(model(frames).float(), 1.0)]
    return [(logits.float(), weight) for logits, weight in model(frames, every_head=True)]


def build(recipe: Recipe, layout: Layout, dataset: Dataset) -> Recognition:
    """The task of a recognition recipe. Raises ConfigError for a recipe of another task."""
    return Recognition(of_kind(recipe, RecognitionRecipe), layout, dataset)
