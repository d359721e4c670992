"""Other models and files that a recipe reads: there already, or made before in the same line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product

import configs
import models
from configs.schema import ConfigError, Extraction, Features, Recipe, RecognitionRecipe
from ops.files.storage import exists, list_files
from ops.preflight.about import About
from ops.preflight.places import _not_made

ALIAS = re.compile(r"models:/([^/@]+)@([\w-]+)$")


def model(about: About, field: str, reference: str) -> Iterator[ConfigError]:
    """A model by its name in the registry, as the folder of a training, or (of features) as the
    name of a recipe.
    """
    if not reference.startswith("models:/"):
        recipe = field == "features" and reference in configs.names("recognition")
        if not recipe and not exists(f"{reference.rstrip('/')}/recipe.json"):
            yield about.wrong(
                field, reference, "models:/<name>@<alias>, or the folder of a finished training run"
            )
        return
    makers = _makers(about, reference)
    for maker in makers:
        if maker.task != "recognition":
            yield about.wrong(
                field,
                reference,
                f"a recognition model; recipe {maker.name} registers {maker.task} models by this"
                " name",
            )
    if makers:
        return
    if _not_made(about.settings.tracking_uri) or not _registered(about, reference):
        others = [
            name
            for name in configs.names("recognition")
            if f"models:/{configs.load(name).gate.registered_model}@" in reference
        ]
        way = f"; promote one first, by recipe {' or '.join(others[:4])}" if others else ""
        yield about.wrong(
            field,
            reference,
            f"a model of the registry, or one that is trained before in the same line{way}",
        )


def _makers(about: About, reference: str) -> list[Recipe]:
    """Recipes of this line that register a model by the name and come before."""
    named = ALIAS.match(reference)
    return [recipe for recipe in about.before if named and recipe.gate.registered_model == named[1]]


def _registered(about: About, reference: str) -> bool:
    from mlflow.exceptions import MlflowException

    from ops.tracking.connect import client

    named = ALIAS.match(reference)
    name, _, version = reference.removeprefix("models:/").partition("/")
    store = client(about.settings.tracking_uri)
    try:
        if named:
            store.get_model_version_by_alias(named[1], named[2])
        else:
            store.get_model_version(name, version)
    except MlflowException:
        return False
    return True


def widths(about: About, extraction: Extraction) -> set[int]:
    """Channels of a model's features; several where several recipes of the line may become that
    model; none where it is not known.
    """
    if extraction.model in configs.names("recognition"):
        return _width(configs.load(extraction.model))
    return set().union(*(_width(maker) for maker in _makers(about, extraction.model)))


def _width(recipe: Recipe) -> set[int]:
    import torch

    from ops.training.cases import of_recipe

    if not isinstance(recipe, RecognitionRecipe):
        return set()
    with torch.device("meta"):
        network = models.build(recipe).to("meta")
    if not hasattr(network, "features"):
        return set()
    try:
        return {int(network.eval().features(of_recipe(recipe).inputs[0].to("meta")).shape[-1])}  # type: ignore[operator]
    except (NotImplementedError, RuntimeError):  # said where that recipe is looked at
        return set()


def combinations(of_streams: Sequence[set[int]]) -> list[tuple[int, ...]]:
    """Every choice of one width for each stream."""
    return list(product(*of_streams))


def files(about: About, features: Features) -> Iterator[ConfigError]:
    """Below the dataset's root some file lies where each stream's template begins."""
    root = about.layout.dataset_root(about.dataset)
    for stream in features.files:
        folder = stream.path.split("{")[0].rpartition("/")[0]
        if not list_files(f"{root}/{folder}".rstrip("/")):
            allowed = f"features whose files are there: none lies below {root}/{folder}"
            yield about.wrong("features", f"{features.name} ({stream.path})", allowed)
