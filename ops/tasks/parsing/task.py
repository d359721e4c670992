"""Part-level action parsing: persons of single frames, ten parts of each, and what every part
does.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import models
from configs.schema import (
    ConfigError,
    Dataset,
    Pinned,
    Provenance,
    Recipe,
    content_hash_of_rows,
    plain_json,
)
from configs.schema.parsing import ParsingRecipe
from ops.data.buffers import stacked
from ops.data.errors import DataError
from ops.store.layout import Layout
from ops.tasks.parsing import part_frames
from ops.tasks.parsing.columns import ParsingMetric, TrueHumans
from ops.tasks.parsing.part_frames import FramesDataset
from ops.tasks.parsing.parts import (
    PartTable,
    PartVideo,
    PartVideoList,
    load_parts,
    mirrored_parts,
    truth_of,
)
from ops.training.init_weights import load_initial
from ops.training.task import Mode, Row, Stateless, Vocabulary, family_of, of_kind

SPLITS = ("train", "val")
# what a family exports beside Config, TINY and build
FAMILY = ("Criterion", "People", "decode", "totals")
TOLD = 20  # findings that the log shows in words
DECIMALS = 2  # of a pixel
log = logging.getLogger(__name__)


class Parsing(Stateless):
    """The parsing task on one recipe's frames; fits `ops.training.task.Task`."""

    def __init__(
        self,
        recipe: ParsingRecipe,
        layout: Layout,
        dataset: Dataset,
        spoken: Vocabulary | None = None,
    ) -> None:
        """`spoken` are parts, states and pairs as a trained model has them; None are those of the
        recipe and the data.
        """
        self.recipe, self.layout, self.dataset, self._spoken = recipe, layout, dataset, spoken
        self.where = f"recipe '{recipe.name}'"
        try:
            self.criterion = self.family.Criterion(self.family.Weights(**recipe.loss_weights))
        except TypeError as error:
            allowed = ", ".join(self.family.Weights.__dataclass_fields__)
            raise ConfigError(
                self.where, "loss_weights", ", ".join(recipe.loss_weights), allowed
            ) from error

    @property
    def family(self) -> ModuleType:
        """The recipe's family; looked up, as a task travels to loader processes and a module does
        not.
        """
        return family_of(self.recipe, *FAMILY)

    # ----------------------------------------------------------------------------------------------
    # data

    @cached_property
    def table(self) -> PartTable:
        """Usable videos, coverage, vocabulary and findings, read once."""
        if self._spoken is None:
            return load_parts(self.layout, self.dataset, self.recipe.parts, self.recipe.states)
        table = load_parts(self.layout, self.dataset, self._spoken["parts"], self._spoken["states"])
        return replace(table, pairs=known_pairs(self._spoken))

    def check(self) -> None:
        """Raise DataError for data that cannot be trained on, ConfigError for a wrong setting; log
        what is odd in the annotations.
        """
        recipe, words = self.recipe, self.table.words
        part_frames.check(recipe.images, self.where)
        mirrored_parts(words.parts, recipe.images.flip_parts, self.where)
        if recipe.training.accumulate > 1:
            raise ConfigError(
                self.where,
                "training.accumulate",
                recipe.training.accumulate,
                "1: the losses count over the whole batch",
            )
        if recipe.num_classes != len(words.states):
            allowed = (
                f"{len(words.states)}, the states of {self.dataset.name}: {', '.join(words.states)}"
            )
            raise ConfigError(self.where, "num_classes", recipe.num_classes, allowed)
        config = self.config()
        if config.num_parts != len(words.parts):
            allowed = (
                f"{len(words.parts)}, the parts of {self.dataset.name}: {', '.join(words.parts)}"
            )
            raise ConfigError(self.where, "model.num_parts", config.num_parts, allowed)
        for split in SPLITS:
            videos = self.videos(split)
            crowded = videos.video[np.diff(videos.starts) > config.queries]
            for video in (videos[index] for index in crowded[:1].tolist()):
                most, frame = (
                    int(np.diff(video.starts).max()),
                    int(video.frames[np.diff(video.starts).argmax()]),
                )
                found = f"{most} persons in frame {frame} of video '{video.video_id}'"
                raise DataError(
                    f"{self.where}: {found}; allowed: at most {config.queries}, model.queries"
                )
        for finding in self.table.findings[:TOLD]:
            log.warning("%s: %s", self.dataset.name, finding)
        if len(self.table.findings) > TOLD:
            log.warning(
                "%s: %d more findings in the annotations",
                self.dataset.name,
                len(self.table.findings) - TOLD,
            )

    def data_version(self) -> str:
        """Hash of every video's split, id, content, action, and annotated frames with all boxes and
        states, and of the vocabulary.
        """
        rows = (
            [split, own.video_id, own.key, own.action, _digest(own)]
            for split in SPLITS
            for own in self.videos(split)
        )
        return content_hash_of_rows(
            map(plain_json, rows), self.table.words, self.table.pairs.tolist()
        )

    def coverage(self) -> dict[str, float]:
        """Annotated and usable videos and the usable share, by split, and odd annotations by
        kind.
        """
        numbers: dict[str, float] = {}
        for split, found in self.table.coverage.items():
            numbers |= {
                f"{split}_annotated": found.annotated,
                f"{split}_usable": found.usable,
                f"{split}_share": found.share,
            }
        for finding in self.table.findings:
            numbers[f"odd_{finding.kind}"] = numbers.get(f"odd_{finding.kind}", 0) + 1
        return numbers

    def vocabulary(self) -> Vocabulary:
        """`labels` and `states` are the states in the order of the classes; `parts`; `pairs` are
        the 'part/state' that training knows.
        """
        words, pairs = self.table.words, np.argwhere(self.table.pairs)
        known = [f"{words.parts[part]}/{words.states[state]}" for part, state in pairs.tolist()]
        return {
            "labels": list(words.states),
            "parts": list(words.parts),
            "states": list(words.states),
            "pairs": known,
        }

    def provenance(self) -> Provenance:
        """How the videos' frames are stored, and the model that names a video's action."""
        named = self.recipe.action_model
        return Provenance(
            dataset=self.dataset.name,
            frames=self.dataset.frames,
            action_model=None if named is None else Pinned(model=named),
        )

    def samples(self, split: str, mode: Mode) -> FramesDataset:
        """Random frames of the split's videos ('train'), or every n-th annotated frame of each."""
        images, training = self.recipe.images, mode == "train"
        mirrored = mirrored_parts(self.table.words.parts, images.flip_parts, self.where)
        return FramesDataset(
            self.videos(split),
            images,
            self.recipe.frames,
            mirrored,
            training=training,
            seed=self.recipe.training.seed,
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """`images` float32 (B, 3, H, W), `padding` bool (B, H, W), `sizes` float32 (B, 2) of the
        originals, `video_ids`, `frames`, and `people`: for each image boxes, parts, seen and states
        as the family's `People` has them.
        """
        images, padding = part_frames.padded([item["pixels"] for item in items])
        people = [
            [torch.from_numpy(item[name]) for name in self.family.People._fields] for item in items
        ]
        return {
            "images": stacked(list(images)),
            "padding": torch.from_numpy(padding),
            "sizes": torch.tensor([item["size"] for item in items], dtype=torch.float32),
            "people": people,
            "video_ids": [item["video_id"] for item in items],
            "frames": [item["frame"] for item in items],
        }

    # ----------------------------------------------------------------------------------------------
    # model

    def config(self) -> Any:
        """The family's numbers. Raises ModelConfigError."""
        with torch.device("meta"):
            network: Any = models.build(self.recipe)
        return network.config

    def model(self) -> nn.Module:
        """The recipe's network, from published weights where it names some: a DETR's, or those of
        the same network or its trunk.

        Raises ModelConfigError, PublishedWeightsError, FileNotFoundError, StorageError.
        """
        model = models.build(self.recipe)
        load_initial(model, self.recipe.training.init_from, sha256=self.recipe.training.init_sha256)
        return model

    def losses(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The criterion's terms, each divided by what all ranks together count, times the number of
        ranks.
        """
        people = [self.family.People(*one) for one in batch["people"]]
        # convolutions are faster so, above all backwards
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        parsed = model(images, batch["padding"])
        counts = self.family.totals(people, parsed.persons.shape[-1]).to(parsed.persons.device)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(counts)
            counts = counts / dist.get_world_size()
        found = self.criterion(parsed, people, counts)
        rest = {name: value.detach() for name, value in found._asdict().items() if name != "total"}
        return {"loss": found.total, **rest}

    def predict(self, model: nn.Module, batch: dict[str, Any]) -> list[Row]:
        """A row a frame: video_id, frame, `scores` (P,), `boxes` (P, 4) and `parts` (P, K, 4) in
        pixels of the original video, `states` (P, K, N) and `state_scores` (P, K, N), best first.
        """
        parsed = model(batch["images"], batch["padding"])
        found = decoded(parsed, batch["sizes"], self.recipe, self.table.pairs)
        names = zip(batch["video_ids"], batch["frames"], found, strict=True)
        return [{"video_id": video_id, "frame": frame, **one} for video_id, frame, one in names]

    # ----------------------------------------------------------------------------------------------
    # scores

    def truth(self, split: str) -> TrueHumans:
        """What evaluation compares with: every n-th frame of the split's usable videos."""
        return truth_of(self.videos(split), self.recipe.frames.every)

    def metric(self, split: str) -> ParsingMetric:
        """Acc^p with every action right, as training cannot know better, and the numbers behind
        it.
        """
        return ParsingMetric(self.truth(split), self.table.words.parts)

    def videos(self, split: str) -> PartVideoList:
        """The split's usable videos. Raises DataError where there is none, or none with a frame
        that can be seen.
        """
        videos = self.table.videos.get(split)
        if videos is None or not videos.seen.any():
            found = self.table.coverage.get(split)
            splits = ", ".join(sorted(self.table.coverage)) or "none"
            state = (
                f"{found.annotated} annotated videos, none with stored frames"
                if found
                else f"no annotated video; its splits: {splits}"
            )
            raise DataError(
                f"dataset '{self.dataset.name}', split '{split}': {state}; annotate it and store"
                " its frames first"
            )
        return videos


def decoded(
    parsed: Any, sizes: Tensor, recipe: ParsingRecipe, pairs: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """What a network says of each picture, as arrays.

    Args:
        parsed: the network's output for B pictures.
        sizes: (B, 2), the height and width in pixels that boxes are wanted for.
        recipe: its `answers` say how many, and how sure.
        pairs: bool [K, S], the states that each part is known to have; a part with too few may have
            all.
    """
    answers = recipe.answers
    allowed = None
    if answers.known_pairs:
        enough = pairs.sum(1, keepdims=True) >= answers.proposals
        allowed = torch.from_numpy(pairs | ~enough)
    found = family_of(recipe, *FAMILY).decode(
        parsed,
        sizes,
        persons=answers.persons,
        proposals=answers.proposals,
        min_score=answers.min_score,
        allowed=allowed,
    )
    arrays = [{name: _array(value) for name, value in one._asdict().items()} for one in found]
    for one in arrays:  # what the prediction files hold: the same numbers are scored
        one |= {name: one[name].astype(np.float64).round(DECIMALS) for name in ("boxes", "parts")}
    return arrays


def known_pairs(vocabulary: Mapping[str, Sequence[str]]) -> np.ndarray:
    """bool [K, S]: the states that each part was seen with in training, of the pairs 'part/state'
    of a vocabulary.
    """
    parts, states = list(vocabulary["parts"]), list(vocabulary["states"])
    known = np.zeros((len(parts), len(states)), bool)
    for pair in vocabulary["pairs"]:
        part, state = next(
            (part, pair[len(part) + 1 :])
            for part in parts
            if pair.startswith(f"{part}/") and pair[len(part) + 1 :] in states
        )
        known[parts.index(part), states.index(state)] = True
    return known


def _array(values: Tensor) -> np.ndarray:
    return (values.float() if values.is_floating_point() else values).cpu().numpy()


def _digest(video: PartVideo) -> str:
    found = hashlib.sha256()
    for values in (video.frames, video.starts, *video.humans):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:16]


def build(recipe: Recipe, layout: Layout, dataset: Dataset) -> Parsing:
    """The task of a parsing recipe. Raises ConfigError for a recipe of another task."""
    return Parsing(of_kind(recipe, ParsingRecipe), layout, dataset)
