"""Detection: the persons of a key frame, and what each of them does."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import models
from configs.schema import ConfigError, Dataset, DetectionRecipe, Provenance, Recipe, content_hash
from ops.annotations.read import vocabulary
from ops.annotations.vocabulary import Vocabulary, parse
from ops.data.errors import DataError
from ops.files.storage import read_bytes
from ops.store.layout import Layout
from ops.tasks.detection.anchors import typical_boxes
from ops.tasks.detection.family import FAMILY, criterion_of, multi_label, proposals
from ops.tasks.detection.key_frame_clips import KeyFrameClips, padded
from ops.tasks.detection.key_frames import KeyFrameList, KeyFrameTable, load_key_frames
from ops.tasks.detection.metric import GROUPS, DetectionMetric
from ops.training.init_weights import load_initial
from ops.training.task import Mode, Row, Stateless, family_of, of_kind
from ops.training.task import Vocabulary as Words

SPLITS = ("train", "val")
AVA_ACTIONS = 80


class Detection(Stateless):
    """The detection task on one recipe's key frames; fits `ops.training.task.Task`."""

    def __init__(self, recipe: DetectionRecipe, layout: Layout, dataset: Dataset) -> None:
        self.recipe, self.layout, self.dataset = recipe, layout, dataset

    # ----------------------------------------------------------------------------------------------
    # data

    @cached_property
    def actions(self) -> Vocabulary:
        """Actions in the order of the model's classes, with the ids that files call them by."""
        return vocabulary(self.dataset, "boxes", self.layout, self.recipe.target)

    @cached_property
    def table(self) -> KeyFrameTable:
        """Key frames of all splits and their coverage, read once."""
        class_of = {number: place for place, number in enumerate(self.actions.ids)}
        return load_key_frames(
            self.layout, self.dataset, class_of, len(self.actions.ids), self.recipe.key_frames
        )

    def vocabulary(self) -> Words:
        """`labels` in the order of the classes, and `ids`, what files call them."""
        return {
            "labels": list(self.actions.names),
            "ids": [str(number) for number in self.actions.ids],
        }

    def provenance(self) -> Provenance:
        """How the videos' frames are stored."""
        return Provenance(dataset=self.dataset.name, frames=self.dataset.frames)

    def check(self) -> None:
        """Raise DataError for a split without key frames or labels that contradict the recipe,
        ConfigError for a wrong setting.
        """
        self.check_recipe()
        for split in SPLITS:
            frames = self.key_frames(split, training=True)
            if self.recipe.tubes is not None and not frames.tubes:
                raise ConfigError(
                    self._where,
                    "tubes",
                    "a section",
                    f"null: dataset '{self.dataset.name}' has key frames, not tubes",
                )
            if not multi_label(self.recipe):
                self._check_single(frames, split)
        self.mirrored(), self.groups(), self.scored_classes()

    @property
    def _where(self) -> str:
        return f"recipe '{self.recipe.name}'"

    def check_recipe(self) -> None:
        """Raise ConfigError for settings that contradict each other, the model or the dataset's
        actions.
        """
        recipe, found = self.recipe, len(self.actions.names)
        if found != recipe.num_classes:
            raise ConfigError(
                self._where,
                "num_classes",
                recipe.num_classes,
                f"{found}, the actions of dataset '{self.dataset.name}'",
            )
        config = family_of(recipe, *FAMILY).Config(num_classes=recipe.num_classes, **recipe.model)
        if recipe.sampling.clip_len != config.num_frames:
            raise ConfigError(
                self._where,
                "sampling.clip_len",
                recipe.sampling.clip_len,
                f"{config.num_frames}, the model's num_frames",
            )
        if recipe.pictures.pad_to % config.multiple:
            allowed = f"a multiple of {config.multiple}, as the model needs"
            raise ConfigError(self._where, "pictures.pad_to", recipe.pictures.pad_to, allowed)
        if recipe.training.accumulate > 1:
            allowed = (
                "1: the losses are divided by the persons of the whole batch, which parts of it do"
                " not know"
            )
            raise ConfigError(
                self._where, "training.accumulate", recipe.training.accumulate, allowed
            )
        if recipe.training.repeated_augmentation > 1:
            raise ConfigError(
                self._where,
                "training.repeated_augmentation",
                recipe.training.repeated_augmentation,
                "1 for detection",
            )

    def _check_single(self, frames: KeyFrameList, split: str) -> None:
        counts = np.bincount(frames.acts[:, 0], minlength=len(frames.boxes))
        if (counts != 1).any():
            row = int(np.nonzero(counts != 1)[0][0])
            key = frames[int(np.searchsorted(frames.starts, row, side="right")) - 1]
            place = f"{key.timestamp_s} s" if key.frame is None else f"frame {key.frame}"
            where = (
                f"dataset '{self.dataset.name}', split '{split}': a person of"
                f" '{key.video.video_id}' at {place}"
            )
            raise DataError(
                f"{where} has {counts[row]} actions; with model.multi_label false each has one"
            )

    def data_version(self) -> str:
        """Hash of every key frame with its video's content, persons and classes, and of what the
        classes are called.
        """
        frames = [
            [split, self.key_frames(split, training=split == "train").digest()] for split in SPLITS
        ]
        return content_hash([frames, self.vocabulary()])

    def coverage(self) -> dict[str, float]:
        """Annotated and usable key frames, their share and persons, and what was left out by
        reason, by split.
        """
        numbers: dict[str, float] = {}
        for split, found in sorted(self.table.coverage.items()):
            numbers |= {
                f"{split}_annotated": found.annotated,
                f"{split}_usable": found.usable,
                f"{split}_share": found.share,
            }
            numbers |= {f"{split}_persons": found.persons}
            numbers |= {
                f"{split}_{reason}": count for reason, count in found.left_out.items() if count
            }
        return numbers

    def key_frames(self, split: str, training: bool) -> KeyFrameList:
        """Key frames of a split. Raises DataError where there are none."""
        lists = self.table.training if training else self.table.evaluation
        frames = lists.get(split)
        if frames is None or not len(frames):
            found = self.table.coverage.get(split)
            splits = ", ".join(sorted(self.table.coverage)) or "none"
            state = f"no key frame; its splits: {splits}"
            if found is not None:
                state = f"{found.annotated} annotated key frames, none usable ({found.left_out})"
            raise DataError(
                f"dataset '{self.dataset.name}', split '{split}': {state}; annotate it and store"
                " its frames first"
            )
        return frames

    def mirrored(self) -> dict[int, int]:
        """Class -> class in a mirror image, by the recipe's own pairs, else the dataset's that are
        actions.

        Raises ConfigError for a label of the recipe that the data does not have.
        """
        place = {label: index for index, label in enumerate(self.actions.names)}
        own, pairs = self.recipe.pictures.flip_labels, dict[int, int]()
        for one, other in (own or self.dataset.flip_labels).items():
            for label in (one, other):
                if own and label not in place:
                    raise ConfigError(
                        self._where, "pictures.flip_labels", label, ", ".join(sorted(place))
                    )
            if one in place and other in place:
                pairs |= {place[one]: place[other], place[other]: place[one]}
        return pairs

    def groups(self) -> dict[str, list[int]]:
        """Classes by group: the recipe's, else AVA's three. Raises ConfigError for a label that is
        no action.
        """
        place = {label: index for index, label in enumerate(self.actions.names)}
        for members in self.recipe.groups.values():
            for label in members:
                if label not in place:
                    raise ConfigError(self._where, "groups", label, ", ".join(self.actions.names))
        if self.recipe.groups:
            return {
                name: [place[label] for label in members]
                for name, members in self.recipe.groups.items()
            }
        if self.actions.ids != tuple(range(1, AVA_ACTIONS + 1)):
            return {}
        return {name: [number - 1 for number in ids] for name, ids in GROUPS.items()}

    def scored_classes(self) -> list[int] | None:
        """Classes that count in frame-mAP; None is all. Raises ConfigError, AnnotationError for a
        list that does not fit.
        """
        if self.recipe.scored is None:
            return None
        uri = f"{self.layout.dataset_root(self.dataset)}/{self.recipe.scored}"
        try:
            listed = parse(read_bytes(uri), uri, own_ids=True)
        except FileNotFoundError as error:
            raise ConfigError(
                self._where,
                "scored",
                self.recipe.scored,
                f"an existing file; there is none at {uri}",
            ) from error
        place = {number: index for index, number in enumerate(self.actions.ids)}
        unknown = [number for number in listed.ids if number not in place]
        if unknown:
            raise ConfigError(
                uri, "id", unknown[0], f"ids of the actions of dataset '{self.dataset.name}'"
            )
        return [place[number] for number in listed.ids]

    def samples(self, split: str, mode: Mode) -> KeyFrameClips:
        """Key frames of a split, mirrored and coloured at random for 'train'; 'test' has every
        frame of a dataset of tubes.
        """
        return KeyFrameClips(
            self.key_frames(
                split,
                training=mode == "train" or (mode == "validate" and self.recipe.tubes is not None),
            ),
            self.recipe.sampling,
            self.recipe.pictures,
            training=mode == "train",
            seed=self.recipe.training.seed,
            mirrored=self.mirrored() if mode == "train" else {},
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`clips` float32 (B, 3, T, H, W), padded; `sizes` int64 (B, 2); `boxes` and `labels` lists
        of B tensors; `keys` for rows.
        """
        batch = padded([item["clip"] for item in items], self.recipe.pictures.pad_to)
        apart = ("clip", "boxes", "labels")
        return {
            "clips": batch.clips,
            "sizes": batch.sizes,
            "boxes": [torch.from_numpy(np.ascontiguousarray(item["boxes"])) for item in items],
            "labels": [torch.from_numpy(np.ascontiguousarray(item["labels"])) for item in items],
            "keys": [
                {name: value for name, value in item.items() if name not in apart} for item in items
            ],
        }

    # ----------------------------------------------------------------------------------------------
    # model

    def model(self) -> nn.Module:
        """The recipe's network; `training.init_from` is a published detector, or a VideoMAE
        checkpoint for the encoder.

        Raises ModelConfigError, PublishedWeightsError, StorageError.
        """
        model = models.build(self.recipe)
        load_initial(model, self.recipe.training.init_from, sha256=self.recipe.training.init_sha256)
        if self.recipe.start_boxes == "typical":
            self._start_typically(model)
        return model

    def _start_typically(self, model: nn.Module) -> None:
        """Let the proposals start at typical boxes of the training data."""
        table = getattr(model, "proposal_boxes", None)
        if not isinstance(table, nn.Embedding):
            raise ConfigError(
                self._where,
                "start_boxes",
                "typical",
                f"whole: family '{self.recipe.family}' has no proposals to place",
            )
        with torch.no_grad():
            table.weight.copy_(
                torch.from_numpy(
                    typical_boxes(self.key_frames("train", training=True).boxes, len(table.weight))
                )
            )

    def losses(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The mean of all weighted terms, divided by the counts of the whole batch over all ranks;
        beside it the last terms.
        """
        family = family_of(self.recipe, *FAMILY)
        found = model(batch["clips"], batch["sizes"])
        single = not multi_label(self.recipe)
        targets = [
            family.Target(boxes, labels.int().argmax(1) if single else labels.float())
            for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True)
        ]
        counts, share = _global(
            family.counts(targets, found.boxes[0].shape[1]), batch["clips"].device
        )
        losses = criterion_of(self.recipe)(found, targets, counts)
        named = {
            name: getattr(losses, name)[-1].detach() / share
            for name in ("person", "l1", "giou", "action")
        }
        return {"loss": losses.total / share, **named}

    def predict(self, model: nn.Module, batch: dict[str, Any]) -> list[Row]:
        """A row per key frame: its persons by the recipe's threshold, surest first, all proposals,
        and the true persons.
        """
        rows = []
        for key, found, labels in zip(
            batch["keys"],
            proposals(model, batch["clips"], batch["sizes"], self.recipe),
            batch["labels"],
            strict=True,
        ):
            persons, every = (
                found.chosen(self.recipe.detecting.person_threshold).sorted(),
                found.sorted(),
            )
            rows.append(
                {
                    "video_id": key["video_id"],
                    "timestamp_s": key["timestamp_s"],
                    "frame": key["frame"],
                    "height": key["height"],
                    "width": key["width"],
                    "boxes": persons.boxes,
                    "person_scores": persons.person_scores,
                    "scores": persons.scores,
                    "proposals": every.boxes,
                    "proposal_scores": every.person_scores,
                    "true_boxes": key["true_boxes"],
                    "true_labels": labels.cpu().numpy(),
                    "persons": key["persons"],
                }
            )
        return rows

    def metric(self, split: str) -> DetectionMetric:
        """Frame-mAP, person AP and the figures of groups."""
        return DetectionMetric(
            self.actions.names,
            self.groups(),
            scored=self.scored_classes(),
            cap=self.recipe.detecting.cap,
            pixels=self.recipe.tubes is not None,
        )


def _global(own: Any, device: torch.device) -> tuple[Any, float]:
    """The counts of the batch over all ranks, divided by their number, and this rank's share of the
    clips times their number.

    The training loop weights a rank's loss by its share of the clips; a loss that is divided by
    this once before is then the mean over ranks of losses with common divisors: that of the whole
    batch at once.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return own, 1.0
    sums = torch.tensor(list(own), dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    common = type(own)(*(sums / dist.get_world_size()).tolist())
    return common, own.clips / common.clips


def build(recipe: Recipe, layout: Layout, dataset: Dataset) -> Detection:
    """The task of a detection recipe. Raises ConfigError for a recipe of another task."""
    return Detection(of_kind(recipe, DetectionRecipe), layout, dataset)
