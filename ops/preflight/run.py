"""All that is wrong with a recipe, its data and its places, at once, before anything is decoded or
trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import configs
from configs.errors import KinographError
from configs.schema import ConfigError, Recipe
from configs.settings import Settings
from ops.preflight import network, places, settings
from ops.preflight.about import About, Part, gathered
from ops.preflight.facts import Facts, facts_of
from ops.store.layout import Layout
from ops.training.task import Task, wing


class PreflightError(KinographError, ValueError):
    """A recipe that would end badly: the message has every mistake, each with place, field, what
    was found and what is allowed.
    """

    def __init__(self, found: Sequence[ConfigError]) -> None:
        self.mistakes = tuple(found)
        super().__init__("\n".join(map(str, found)))

    def __reduce__(self) -> tuple[type[PreflightError], tuple[tuple[ConfigError, ...]]]:
        return type(self), (self.mistakes,)


def preflight(
    recipe: Recipe,
    layout: Layout,
    settings_: Settings,
    *,
    before: Sequence[Recipe] = (),
    world: Mapping[str, int] | None = None,
    facts: Facts | None = None,
    task: Task | None = None,
) -> list[ConfigError]:
    """Every mistake that would end the recipe's line, or spoil its end, and that can be known now.
    Decodes and trains nothing.

    Args:
        recipe: of any task.
        layout: of the store that the line works on.
        settings_: of this process.
        before: recipes that are trained earlier in the same line.
        world: size of the sample world where it is made first; None where it is not.
        facts: those of the dataset, where they were read already.
        task: the recipe's, where it was checked already.
    """
    found = mistakes(recipe, layout, settings_, before=before, world=world, facts=facts, task=task)
    return list({str(error): error for error in found}.values())


def mistakes(
    recipe: Recipe,
    layout: Layout,
    settings_: Settings,
    *,
    before: Sequence[Recipe] = (),
    world: Mapping[str, int] | None = None,
    facts: Facts | None = None,
    task: Task | None = None,
) -> Iterator[ConfigError]:
    """The same one by one, the cheapest to find first; a mistake may come again in other words.
    Takes what `preflight` takes.
    """
    try:
        dataset = configs.dataset(recipe.dataset)
    except ConfigError as error:
        yield ConfigError(
            _place(recipe),
            "dataset",
            recipe.dataset,
            error.allowed if error.field == "dataset" else str(error),
        )
        return
    facts = (
        facts
        if facts is not None and facts.dataset == dataset.name
        else facts_of(dataset, layout, world)
    )
    about, any_found = (
        About(recipe, _place(recipe), dataset, facts, layout, settings_, tuple(before)),
        False,
    )
    for part in _parts(recipe):
        for mistake in gathered(part, about):
            any_found = True
            yield mistake
        if any_found and part is network.built:  # what follows needs a network
            return
    if facts.made and not any_found:
        yield from gathered(partial(_as_trained, task=task), about)


def require(
    recipes: Sequence[Recipe],
    layout: Layout,
    settings_: Settings,
    world: Mapping[str, int] | None = None,
) -> None:
    """Raise PreflightError with every mistake of a line of recipes.

    Args:
        recipes: in the order in which they are trained; their mistakes stand in the same.
        layout: of the store that the line works on.
        settings_: of this process.
        world: as `preflight` takes it.
    """
    wrong: dict[str, ConfigError] = {}
    facts: dict[str, Facts] = {}
    for place, recipe in enumerate(recipes):
        if recipe.dataset in configs.datasets() and recipe.dataset not in facts:
            facts[recipe.dataset] = facts_of(configs.dataset(recipe.dataset), layout, world)
        found = preflight(
            recipe,
            layout,
            settings_,
            before=recipes[:place],
            world=world,
            facts=facts.get(recipe.dataset),
        )
        wrong |= {str(error): error for error in found}
    if wrong:
        raise PreflightError(list(wrong.values()))


def _place(recipe: Recipe) -> str:
    try:
        return configs.place(recipe.name)
    except ConfigError:  # made in code
        return f"recipe '{recipe.name}'"


def _parts(recipe: Recipe) -> list[Part]:
    own = wing(recipe.task, "preflight").PARTS
    whole = (settings.numbers, settings.times, network.built)
    fitting = (
        settings.gate,
        settings.registered_model,
        network.scale,
        network.optimizer,
        network.shapes,
        network.start,
    )
    return [
        *whole,
        *own,
        *fitting,
        places.storage,
        places.disk,
        places.tracking,
        places.registry,
        places.cluster,
    ]


def _as_trained(about: About, task: Task | None) -> list[ConfigError]:
    """The task's own check on the data as it is stored."""
    from ops.training.loop import check_recipe

    if task is None:
        task = about.task()
        task.check()
    check_recipe(task, about.recipe.scale)
    return []
