"""Trained weights made ready: for scoring, with what was kept of them before; for serving, with recipe and vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import models
from configs.schema import ConfigError, Recipe, content_hash
from ops.evaluation.kept import Evaluation, Record
from ops.store.files import local_copy, sha256_of
from ops.tasks.protocol import Vocabulary
from ops.training.variants import compiling

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


def begin(recipe: Recipe, weights_uri: str, eval_set: str, split: str, device: str, *also: Any) -> Evaluation | tuple[Record, nn.Module]:
    """The evaluation that is kept of these weights on this set, or the record to keep it in and the model on its device.

    `also` is what else the scores depend on. Raises ConfigError for weights of another recipe, StorageError, FileNotFoundError.
    """
    with local_copy(weights_uri) as weights:
        identity = content_hash([recipe.key(), sha256_of(weights), split, *also])
        record = Record(weights_uri.rpartition("/")[0], identity, eval_set)
        if (kept := record.kept()) is not None:
            return kept
        model = load_weights(recipe, weights).to(device)
        compiling(model, recipe.scale)
        return record, model


def served(kind: type[R], weights: Path, recipe: Path, vocabulary: Path) -> tuple[nn.Module, R, Vocabulary]:
    """The model of model.safetensors, recipe.json and vocabulary.json. Raises ConfigError where they do not belong together."""
    loaded = kind.model_validate_json(recipe.read_text(encoding="utf-8"))
    words = json.loads(vocabulary.read_text(encoding="utf-8"))
    if (found := len(words["labels"])) != loaded.num_classes:
        raise ConfigError(str(vocabulary), "labels", f"{found} labels", f"{loaded.num_classes}, the recipe's num_classes")
    return load_weights(loaded, weights), loaded, words
