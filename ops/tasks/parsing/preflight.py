"""Parsing's part: parts and states, sizes of pictures, and where the actions of videos come
from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from configs.schema import ConfigError, ParsingRecipe
from ops.preflight import data, sources
from ops.preflight.about import About
from ops.training.task import of_kind


def _recipe(about: About) -> ParsingRecipe:
    return of_kind(about.recipe, ParsingRecipe)


def words(about: About) -> Iterator[ConfigError]:
    """Classes and parts are those of the tables, pictures have possible sizes, mirrored parts are
    there.
    """
    from ops.tasks.parsing import part_frames
    from ops.tasks.parsing.parts import mirrored_parts

    recipe = _recipe(about)
    yield from data.rows(about)
    config = about.task().config()
    part_frames.check(recipe.images, about.where)
    parts, states = recipe.parts or about.facts.parts, recipe.states or about.facts.states
    yield from data.num_classes(about, len(states), "the states")
    if parts and config.num_parts != len(parts):
        yield about.wrong(
            "model.num_parts",
            config.num_parts,
            f"{len(parts)}, the parts of {recipe.dataset}: {', '.join(parts)}",
        )
    if parts:
        mirrored_parts(parts, recipe.images.flip_parts, about.where)
    if recipe.training.accumulate > 1:
        yield about.wrong(
            "training.accumulate",
            recipe.training.accumulate,
            "1: the losses count over the whole batch",
        )
    if recipe.training.repeated_augmentation > 1:
        yield about.wrong(
            "training.repeated_augmentation", recipe.training.repeated_augmentation, "1 for parsing"
        )


def actions(about: About) -> Iterator[ConfigError]:
    """The model or the file that names each video's action is there, or is made before in this
    line.
    """
    recipe = _recipe(about)
    if recipe.action_model is not None:
        yield from sources.model(about, "action_model", recipe.action_model)
        return
    from ops.files.storage import exists

    assert recipe.action_file is not None
    uri = recipe.action_file.format(storage=about.layout.root)
    if not exists(uri):
        yield about.wrong("action_file", uri, "an existing json file {video: action}")


PARTS = (data.frames, words, actions)


def metrics(about: About) -> set[str]:
    """Names of the evaluation's numbers, from an evaluation of one person of whom nothing was
    found.
    """
    from ops.tasks.parsing.columns import ParsingMetric, TrueHumans

    parts = _recipe(about).parts or about.facts.parts or ("part",)
    count = len(parts)
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    truth = TrueHumans(
        ["video"],
        ["action"],
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        np.ones(1, np.int64),
        box,
        np.ones((1, count), bool),
        np.tile(box[:, None], (1, count, 1)),
        np.zeros((1, count), np.int64),
    )
    metric = ParsingMetric(truth, parts)
    return {
        *metric.compute(),
        "acc_p_true_actions",
        *(f"{what}/{part}" for what in ("state_accuracy", "found") for part in parts),
    }


def start(about: About) -> None:
    """Load the starting weights into a network of this recipe. Raises what the training would."""
    about.task().model()
