"""Several recognition models, trained apart, scored as one: the mean of their scores, clip by clip.

A recipe names its members in `fusion`. Each sees its own frames, in the views of the fusion's
recipe, one member after another. With `views.average: score` the scores are logits and no softmax
comes between (PAN Full and En).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import configs
import models
from configs.schema import ConfigError, Dataset, RecognitionRecipe, content_hash
from models.checkpoints import read_checkpoint
from models.weights import fit, load_published
from ops.evaluation.cache import Evaluation, EvaluationCache
from ops.files.storage import local_copy, sha256_of
from ops.store.layout import Layout
from ops.tasks.recognition.report import Report, clips_at_once
from ops.tasks.recognition.task import Recognition
from ops.training.inference import Place, predict
from ops.training.run_folder import finished, plan_run
from ops.training.task import info

Rows = list[dict[str, Any]]
Progress = Callable[[str, int, int], None]


def members(recipe: RecognitionRecipe) -> list[RecognitionRecipe]:
    """The recipes that a fusion averages, as they are trained.

    Raises ConfigError for a recipe without any, for one that is unknown, and for one of other
    labels.
    """
    where, found = f"recipe '{recipe.name}'", []
    if not recipe.fusion:
        raise ConfigError(where, "fusion", "nothing", "names of the recipes to average")
    for name in recipe.fusion:
        member = configs.load(name)
        if not isinstance(member, RecognitionRecipe):
            raise ConfigError(where, "fusion", name, "recipes of recognition")
        for field in ("dataset", "target", "num_classes"):
            if getattr(member, field) != getattr(recipe, field):
                raise ConfigError(
                    f"recipe '{name}'",
                    field,
                    getattr(member, field),
                    f"{getattr(recipe, field)}, as {recipe.name} has",
                )
        found.append(member)
    return found


def fuse(
    recipe: RecognitionRecipe,
    parts: Sequence[tuple[RecognitionRecipe, str]],
    layout: Layout,
    *,
    coefficients: Sequence[float] | None = None,
    dataset: Dataset | None = None,
    split: str = "val",
    device: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score the mean of several models on a split; kept in a folder of the fusion's own, as
    `evaluate` keeps it. One member is in memory at a time.

    Args:
        recipe: of the fusion; its `views` are those of every member.
        parts: recipes with the URI of their weights, in this project's names or the original
            authors'.
        layout: of the store that has the data and gets the result.
        coefficients: one of at least 0 for each part, not all 0; None are equal ones.
        dataset: defaults to the one that the recipe names.
        split: whose clips are scored.
        device: by torch's name; None is a GPU where there is one.
        progress: is told (member, done, all) clips.

    Raises:
        ConfigError: recipes, weights and coefficients do not belong together.
        DataError: the split has no clips.
        PublishedWeightsError: weights do not fit.
        StorageError: a store does not answer.
    """
    weigh, place = _coefficients(recipe, len(parts), coefficients), _device(device)
    dataset = dataset or configs.dataset(recipe.dataset)
    report = Report(Recognition(recipe, layout, dataset), split)
    identity = _identity(recipe, parts, weigh, split)
    cache = EvaluationCache(
        layout.run(recipe.name, identity), identity, report.eval_set, info(recipe.task).sample_unit
    )
    if (found := cache.load()) is not None:
        return found
    scored: list[Rows] = []
    for member, uri in parts:
        task = Recognition(member.model_copy(update={"views": recipe.views}), layout, dataset)
        scored.append(_scored(task, uri, split, place, progress))
    return cache.save(report.results(mean_rows(scored, weigh)))


def _device(asked: str | None) -> str:
    """Where to compute. Raises ConfigError for what this machine does not have."""
    there = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    if asked is not None and asked.partition(":")[0] not in there:
        raise ConfigError("fusion", "--device", asked, " or ".join(there))
    return asked or there[0]


def _scored(
    task: Recognition, uri: str, split: str, device: str, progress: Progress | None
) -> Rows:
    """One member's rows; its network is gone when they are there."""
    recipe = task.recipe

    def told(done: int, total: int) -> None:
        if progress is not None:
            progress(recipe.name, done, total)

    with local_copy(uri) as weights:
        model = network(recipe, weights).to(device)
    samples, place = task.samples(split, "test"), Place(0, 1, torch.device(device))
    return predict(
        task,
        model,
        samples,
        place=place,
        batch_size=clips_at_once(samples),
        workers=recipe.scale.loader_workers,
        progress=told,
    )


def mean_rows(parts: Sequence[Rows], coefficients: Sequence[float]) -> Rows:
    """The weighted mean of the members' scores, float32, clip by clip. Raises ValueError where they
    have other clips.
    """
    first = [row["clip_id"] for row in parts[0]]
    for part in parts[1:]:
        if [row["clip_id"] for row in part] != first:
            raise ValueError(
                "the members of a fusion were scored on other clips, or in another order"
            )
    means = []
    for rows in zip(*parts, strict=True):
        scores = np.average(
            [np.asarray(row["scores"], np.float64) for row in rows], axis=0, weights=coefficients
        )
        means.append({**rows[0], "scores": scores.astype(np.float32)})
    return means


def network(recipe: RecognitionRecipe, weights: Path) -> nn.Module:
    """The recipe's model in evaluation mode with weights in our names or the original authors'.
    Raises PublishedWeightsError.
    """
    model = models.build(recipe)
    found = read_checkpoint(weights)
    if set(found) == set(model.state_dict()):
        fit(model, found, {key: key for key in found}, source=str(weights), kind="our own network")
    else:
        load_published(model, weights)
    return model.eval()


def trained_weights(recipe: RecognitionRecipe, layout: Layout) -> str:
    """URI of the weights of the member's own finished training on the data as it is. Raises
    ConfigError when there is none.
    """
    result = finished(plan_run(recipe, layout).run_dir)
    if result is None:
        allowed = f"a finished training of recipe '{recipe.name}', or --weights {recipe.name}=<URI>"
        raise ConfigError("fusion", "weights", "nothing", allowed)
    return result.weights_uri


def _coefficients(
    recipe: RecognitionRecipe, count: int, given: Sequence[float] | None
) -> list[float]:
    where = f"recipe '{recipe.name}'"
    if recipe.views.average == "feature":
        raise ConfigError(
            where,
            "views.average",
            "feature",
            "score or prob: networks apart have no features in common",
        )
    weigh = [1.0] * count if given is None else [float(one) for one in given]
    if not count or len(weigh) != count or min(weigh) < 0 or not 0 < sum(weigh) < math.inf:
        raise ConfigError(
            where,
            "coefficients",
            weigh,
            f"{count} numbers of at least 0, not all 0, one for each member",
        )
    return weigh


def _identity(
    recipe: RecognitionRecipe,
    parts: Sequence[tuple[RecognitionRecipe, str]],
    weigh: Sequence[float],
    split: str,
) -> str:
    """Hash of what decides the fusion's scores: members, their weights, coefficients, views."""
    digests = []
    for member, uri in parts:
        with local_copy(uri) as weights:
            digests.append([member.key(), sha256_of(weights)])
    return content_hash([recipe.key(), digests, list(weigh), split])


def chosen(
    name: str, weights: Sequence[str], layout: Layout
) -> tuple[RecognitionRecipe, list[tuple[RecognitionRecipe, str]]]:
    """A recipe with `fusion`, and its members with the URIs of their weights.

    Args:
        name: of the recipe.
        weights: MEMBER=URI each; members without one have the weights of their own trainings.
        layout: of the store that has those trainings.

    Raises:
        ConfigError: recipe, members and weights do not belong together.
    """
    recipe = configs.load(name)
    if not isinstance(recipe, RecognitionRecipe):
        raise ConfigError("fusion", "recipe", name, "a recipe of recognition")
    recipes, given = members(recipe), _given(weights, recipe.fusion)
    return recipe, [
        (member, given.get(member.name) or trained_weights(member, layout)) for member in recipes
    ]


def _given(pairs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in pairs:
        name, sign, uri = pair.partition("=")
        if not sign or name not in names:
            raise ConfigError(
                "fusion", "--weights", pair, f"MEMBER=URI with a member out of {', '.join(names)}"
            )
        given[name] = uri
    return given
