"""Trained weights made ready: for an evaluation, and for serving with recipe and vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import configs
import models
from configs.schema import ConfigError, Frames, Provenance, Recipe
from ops.files.storage import sha256_of
from ops.training.inference import device_of
from ops.training.run_folder import PROVENANCE, read_as, read_recipe, read_words
from ops.training.task import Vocabulary


def load_weights(recipe: Recipe, weights: Path) -> nn.Module:
    """The recipe's model in evaluation mode with these safetensors weights, all of them and no
    others. Raises ConfigError.
    """
    model = models.build(recipe)
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()
        raise ConfigError(
            str(weights),
            "(whole file)",
            " ".join(first)[:300],
            f"the weights of recipe {recipe.name}",
        ) from error
    return model.eval()


class Served(NamedTuple):
    """A trained model with all that its answers depend on; `provenance` is None for models of
    before.
    """

    model: nn.Module
    recipe: Any
    vocabulary: Vocabulary
    provenance: Provenance | None


def served(
    weights: Path,
    recipe: Path,
    vocabulary: Path,
    provenance: Path | None = None,
    device: torch.device | None = None,
) -> Served:
    """The model of model.safetensors, recipe.json, vocabulary.json and provenance.json.

    Args:
        weights: model.safetensors.
        recipe: recipe.json.
        vocabulary: vocabulary.json.
        provenance: provenance.json; None is the one beside the weights, where there is one.
        device: where the model lies; None is where its recipe's networks are served on this
            machine.

    Raises:
        ConfigError: the files do not belong together, or are not those that the provenance was
            written for.
        StorageError: a file is cut short.
    """
    beside, known = provenance or weights.with_name(PROVENANCE), None
    if beside.is_file():
        known = read_as(Provenance, str(beside))
        for path in (weights, recipe, vocabulary):
            if (wanted := known.files.get(path.name)) is not None and sha256_of(path) != wanted:
                raise ConfigError(
                    str(path),
                    "(whole file)",
                    "another sha256",
                    f"the file that {PROVENANCE} beside it was written for",
                )
    loaded, words = read_recipe(str(recipe)), read_words(str(vocabulary))
    if (found := len(words["labels"])) != loaded.num_classes:
        raise ConfigError(
            str(vocabulary),
            "labels",
            f"{found} labels",
            f"{loaded.num_classes}, the recipe's num_classes",
        )
    return Served(
        load_weights(loaded, weights).to(device or device_of(loaded.scale)), loaded, words, known
    )


def frames_of(recipe: Recipe, provenance: Provenance | None) -> Frames:
    """How the frames were stored that training saw; for a model of before as its dataset stores
    them now.

    Raises ConfigError where neither is known.
    """
    if provenance is not None:
        return provenance.frames
    try:
        return configs.dataset(recipe.dataset).frames
    except ConfigError as error:
        allowed = (
            "a dataset of that name in KINOGRAPH_CONFIGS: this model was kept without"
            f" {PROVENANCE}; or train it again"
        )
        raise ConfigError(
            f"model of recipe {recipe.name}", "dataset", recipe.dataset, allowed
        ) from error
