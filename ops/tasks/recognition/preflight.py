"""Recognition's part: views, labels of the clips, images beside them, recipes to be fused with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import configs
from configs.schema import ConfigError, RecognitionRecipe
from ops.preflight import data
from ops.preflight.about import About
from ops.training.task import of_kind


def _recipe(about: About) -> RecognitionRecipe:
    return of_kind(about.recipe, RecognitionRecipe)


def views(about: About) -> Iterator[ConfigError]:
    """Frames and pixels can be sampled as the recipe says."""
    from ops.data.samplers import check_sampling
    from ops.data.transforms import check

    recipe = _recipe(about)
    check_sampling(recipe.sampling)
    check(recipe.transforms)
    task = about.task()
    task.check_views()
    if task.images is not None:
        from ops.tasks.recognition.images import check_images

        check_images(
            recipe.name, task.images, getattr(task.network_config(), "image_classes", None)
        )
    yield from ()


def labels(about: About) -> Iterator[ConfigError]:
    """As many classes as labels; pairs of mirror images are among them."""
    recipe, words = _recipe(about), data.words(about)
    yield from data.rows(about)
    if words is None:
        return
    yield from data.num_classes(about, len(words.names), "the labels")
    yield from data.known_labels(
        about, "transforms.flip_labels", recipe.transforms.flip_labels, words.names
    )


def fusion(about: About) -> Iterator[ConfigError]:
    """The recipes whose scores are averaged are there, and tell the same classes apart."""
    for name in _recipe(about).fusion:
        if name not in configs.names("recognition"):
            yield about.wrong("fusion", name, "names of recognition recipes")
        elif (other := configs.load(name)).num_classes != about.recipe.num_classes:
            yield about.wrong(
                "fusion",
                f"{name}, of {other.num_classes} classes",
                f"recipes of {about.recipe.num_classes} classes",
            )


PARTS = (data.frames, views, labels, fusion)


def metrics(about: About) -> set[str]:
    """Names of the evaluation's numbers, from an evaluation of nothing: one clip of every label,
    all of them right.
    """
    from ops.tasks.recognition.scores import scores_of

    words = data.words(about)
    names = (
        list(words.names)
        if words is not None
        else [str(number) for number in range(about.recipe.num_classes)]
    )
    pairs = [pair for pair in about.facts.pairs if set(pair) <= set(names)]
    return set(scores_of(np.eye(len(names), dtype=np.float32), np.arange(len(names)), names, pairs))


def start(about: About) -> None:
    """Load the starting weights into a network of this recipe. Raises what the training would."""
    import models
    from ops.training.init_weights import head_channels, load_initial

    recipe, words = _recipe(about), data.words(about)
    wanted = recipe.training.init_head
    ours = list(words.names) if words is not None else []
    channels = (
        None if wanted is None or not ours else head_channels(wanted, ours, about.layout, recipe)
    )
    load_initial(models.build(recipe), recipe.training.init_from, channels)
