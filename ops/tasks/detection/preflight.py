"""Detection's part: actions of the boxes, settings of pictures and clips, groups, the file of
scored actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from configs.schema import ConfigError
from ops.preflight import data
from ops.preflight.about import About


def _task(about: About) -> Any:
    """The task, with the words that are known now."""
    task = about.task()
    words = data.words(about)
    if words is not None:
        task.__dict__["actions"] = words  # the cached property: its files may not be there yet
    return task


def actions(about: About) -> Iterator[ConfigError]:
    """Actions are as many as classes, and clips, pictures and network fit."""
    yield from data.rows(about)
    words = data.words(about)
    if words is None:
        return
    yield from data.num_classes(about, len(words.names), "the actions")
    if about.recipe.num_classes == len(words.names):
        _task(about).check_recipe()


def names(about: About) -> Iterator[ConfigError]:
    """Labels that the recipe names are actions of the dataset."""
    if data.words(about) is not None:
        task = _task(about)
        task.mirrored(), task.groups(), task.scored_classes()
    yield from ()


PARTS = (data.frames, actions, names)


def metrics(about: About) -> set[str]:
    """Names of the evaluation's numbers, from an evaluation of one person who does everything."""
    from ops.tasks.detection.report import numbers_of

    words = data.words(about)
    if words is None or about.recipe.num_classes != len(words.names):
        return set()
    box = np.array([[0.1, 0.1, 0.9, 0.9]], np.float32)
    classes = len(words.names)
    row = {
        "video_id": "video",
        "timestamp_s": None,
        "frame": 0,
        "height": 100,
        "width": 100,
        "boxes": box,
        "person_scores": np.ones(1),
        "scores": np.ones((1, classes), np.float32),
        "proposals": box,
        "proposal_scores": np.ones(1),
        "true_boxes": box,
        "true_labels": np.ones((1, classes), bool),
        "persons": np.zeros(1, np.int64),
    }
    return set(numbers_of([row], _task(about))[0])


def start(about: About) -> None:
    """Load the starting weights into a network of this recipe. Raises what the training would."""
    import torch

    task = _task(about)
    # typical boxes are the data's, which may not be there yet
    task.recipe = about.recipe.model_copy(update={"start_boxes": "whole"})
    with torch.no_grad():
        task.model()
