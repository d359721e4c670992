"""Localization's part: segments' labels, the features and their width, class scores of whole
videos.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import configs
from configs.schema import ConfigError, Features, LocalizationRecipe
from ops.preflight import data, sources
from ops.preflight.about import About
from ops.training.task import of_kind


def _recipe(about: About) -> LocalizationRecipe:
    return of_kind(about.recipe, LocalizationRecipe)


def labels(about: About) -> Iterator[ConfigError]:
    """As many classes as labels, or one for proposals."""
    yield from data.rows(about)
    words = data.words(about)
    if words is not None:
        wanted = 1 if _recipe(about).class_agnostic else len(words.names)
        yield from data.num_classes(
            about, wanted, "the class of proposals" if wanted == 1 else "the labels"
        )
    about.task()  # its model's and its losses' settings


def features(about: About) -> Iterator[ConfigError]:
    """The features are of this dataset, their model is there or comes before, and they are as wide
    as the network expects.
    """
    recipe, name = _recipe(about), _recipe(about).features
    if name not in configs.features_names():
        yield about.wrong("features", name, ", ".join(configs.features_names()))
        return
    found = about.task().features
    # then these are read, and the task's own check knows their width
    if about.facts.made and _stored(about, found):
        return
    dims = recipe.model.get("input_dims", 0)
    width = dims if isinstance(dims, int) else sum(dims)
    wide: set[int] = set()
    if found.files:
        wide = {sum(stream.channels for stream in found.files)}
        yield from sources.files(about, found)
    else:
        of_streams = []
        for extraction in found.extract:
            yield from sources.model(about, "features", extraction.model)
            of_streams.append(sources.widths(about, extraction))
        if all(of_streams):
            wide = {sum(chosen) for chosen in sources.combinations(of_streams)}
    if wide and width not in wide:
        yield about.wrong(
            "model.input_dims",
            width,
            f"{' or '.join(map(str, sorted(wide)))}, the channels of features {name}",
        )


def _stored(about: About, found: Features) -> bool:
    from ops.features.materialize import read_rows

    return any(row["status"] == "ok" for row in read_rows(found, about.layout))


def scores(about: About) -> Iterator[ConfigError]:
    """The file of class scores is there."""
    from ops.files.storage import exists

    fusion = _recipe(about).fusion
    if fusion is not None and not exists(
        uri := f"{about.layout.dataset_root(about.dataset)}/{fusion.scores}"
    ):
        yield about.wrong(
            "fusion.scores", fusion.scores, f"an existing file; there is none at {uri}"
        )


PARTS = (labels, features, scores)


def metrics(about: About) -> set[str]:
    """Names of the evaluation's numbers, from an evaluation of one segment that was found."""
    from ops.tasks.localization.errors import KINDS
    from ops.tasks.localization.metric import LocalizationMetric

    recipe, segment = _recipe(about), np.array([[0.0, 1.0]], np.float32)
    metric = LocalizationMetric(1, recipe.tiou, recipe.recall)
    zero = np.zeros(1, np.int64)
    metric.update(
        [
            {
                "video_id": "v",
                "segments": segment,
                "scores": np.ones(1),
                "labels": zero,
                "true_segments": segment,
                "true_labels": zero,
            }
        ]
    )
    return {*metric.compute(), *(f"gain_without/{name.replace(' ', '_')}" for name in KINDS)}


def start(about: About) -> None:
    """Load the starting weights into a network of this recipe. Raises what the training would."""
    import models
    from ops.training.init_weights import load_initial

    load_initial(models.build(about.recipe), about.recipe.training.init_from)
