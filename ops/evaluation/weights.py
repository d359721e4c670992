"""Trained weights made ready: for an evaluation, and for serving with recipe and vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import configs
import models
from configs.schema import ConfigError, Frames, Provenance, Recipe
from ops.files.storage import sha256_of
from ops.training.inference import device_of
from ops.training.run_folder import PROVENANCE, read_as, read_words
from ops.training.task import Vocabulary

R = TypeVar("R", bound=Recipe)


def load_weights(recipe: Recipe, weights: Path) -> nn.Module:
    """The recipe's model in evaluation mode with these safetensors weights, all of them and no others. Raises ConfigError."""
    model = models.build(recipe)
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()
        raise ConfigError(str(weights), "(whole file)", " ".join(first)[:300], f"the weights of recipe {recipe.name}") from error
    return model.eval()


class Files(NamedTuple):
    """A trained model's files on this machine; `provenance` None where there is none: models of before have none."""

    weights: Path
    recipe: Path
    vocabulary: Path
    provenance: Path | None = None


def files_of(weights: Path, recipe: Path, vocabulary: Path, provenance: Path | None = None) -> Files:
    """The files, with the provenance that lies beside the weights where none is given."""
    beside = provenance or weights.with_name(PROVENANCE)
    return Files(weights, recipe, vocabulary, beside if beside.is_file() else None)


def served(
    kind: type[R], files: Files, device: torch.device | None = None
) -> tuple[nn.Module, R, Vocabulary, Provenance | None]:  # fmt: skip
    """The model of model.safetensors, recipe.json, vocabulary.json and provenance.json; the last is None for models of before.

    It lies on the device; None is where its recipe's networks are served on this machine. Raises ConfigError where the files do not belong
    together, or are not those that the provenance was written for, StorageError for a file that is cut short.
    """
    provenance = None
    if files.provenance is not None:
        provenance = read_as(Provenance, str(files.provenance))
        for path in files[:3]:
            if (wanted := provenance.files.get(path.name)) is not None and sha256_of(path) != wanted:
                raise ConfigError(str(path), "(whole file)", "another sha256", f"the file that {PROVENANCE} beside it was written for")
    loaded, words = read_as(kind, str(files.recipe)), read_words(str(files.vocabulary))
    if (found := len(words["labels"])) != loaded.num_classes:
        raise ConfigError(str(files.vocabulary), "labels", f"{found} labels", f"{loaded.num_classes}, the recipe's num_classes")
    return load_weights(loaded, files.weights).to(device or device_of(loaded.scale)), loaded, words, provenance


def frames_of(recipe: Recipe, provenance: Provenance | None) -> Frames:
    """How the frames were stored that training saw; for a model of before as its dataset stores them now.

    Raises ConfigError where neither is known.
    """
    if provenance is not None:
        return provenance.frames
    try:
        return configs.dataset(recipe.dataset).frames
    except ConfigError as error:
        allowed = f"a dataset of that name in KINOGRAPH_CONFIGS: this model was kept without {PROVENANCE}; or train it again"
        raise ConfigError(f"model of recipe {recipe.name}", "dataset", recipe.dataset, allowed) from error
