"""Trained weights made ready: for scoring, with what was kept of them before; for serving, with recipe and vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import configs
import models
from configs.schema import ConfigError, Frames, Provenance, Recipe, content_hash
from ops.evaluation.kept import Evaluation, Record
from ops.store.files import local_copy, sha256_of
from ops.tasks.protocol import Vocabulary
from ops.training.runs import PROVENANCE, read_as, read_words
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


def class_places(own: Sequence[str], labels: Sequence[str]) -> list[int]:
    """For each label its place among the model's own classes, by name. Raises ConfigError for a label that the model does not know."""
    known = {label: place for place, label in enumerate(own)}
    if unknown := [label for label in labels if label not in known]:
        raise ConfigError("model", "labels", ", ".join(unknown), f"labels that the model was trained on: {', '.join(own)}")
    return [known[label] for label in labels]


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


def served(kind: type[R], files: Files) -> tuple[nn.Module, R, Vocabulary, Provenance | None]:
    """The model of model.safetensors, recipe.json, vocabulary.json and provenance.json; the last is None for models of before.

    Raises ConfigError where they do not belong together, or are not those that the provenance was written for, StorageError for a file
    that is cut short.
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
    return load_weights(loaded, files.weights), loaded, words, provenance


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
