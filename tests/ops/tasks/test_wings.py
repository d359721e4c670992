"""Every task keeps to the convention by which others find its parts."""

from __future__ import annotations

from typing import get_args

import pytest

import configs
import models
from configs.schema import RECIPES, TASKS, ConfigError, TableName
from ops.store.layout import Layout
from ops.training.task import build, family_of, info, wing

PARTS = {
    "task": ("build",),
    "report": ("Report",),
    "predictor": ("build",),
    "mlflow_model": ("interface",),
    "preflight": ("PARTS", "metrics", "start"),
    "case": ("view_size", "miniature_size", "inputs"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_wing_has_all_its_parts(task: str) -> None:
    for part, names in PARTS.items():
        lost = [
            name for name in names if part != "mlflow_model" and not hasattr(wing(task, part), name)
        ]
        assert not lost, f"ops.tasks.{task}.{part} lacks {', '.join(lost)}"


@pytest.mark.parametrize("task", TASKS)
def test_what_a_wing_says_of_itself_is_so(task: str) -> None:
    about, recipe = info(task), configs.load(configs.names(task)[0])
    assert type(recipe) is RECIPES[task] and about.headlines and about.table in get_args(TableName)
    for field in (
        *about.question,
        *filter(None, [about.names_model, "features" if about.reads == "features" else None]),
    ):
        value = recipe
        for name in field.split("."):
            assert name in type(value).model_fields, f"{field} is no field of a recipe of {task}"
            value = getattr(value, name)
    for name in configs.names(task):
        metric = configs.load(name).gate.metric
        assert metric.partition("@")[0] in about.headlines, (
            f"recipe {name} is judged by {metric}, which no table shows"
        )


@pytest.mark.parametrize("task", TASKS)
def test_a_recipe_of_another_task_is_refused_alike(task: str) -> None:
    other = next(
        configs.load(name)
        for name in configs.names("recognition" if task != "recognition" else "parsing")
    )
    with pytest.raises(
        ConfigError, match=f"recipe '{other.name}'.*'task': found '{other.task}'; allowed: {task}"
    ):
        wing(task, "task").build(other, Layout("nowhere"), None)


@pytest.mark.parametrize("task", TASKS)
def test_a_family_that_only_its_module_names_is_a_recipes_like_any_other(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new family is one file and one YAML: the file is stood for by the module of a known one
    under another name.
    """
    name = next(name for name in configs.names(task) if configs.load(name).dataset == "figures")
    recipe, known, families = configs.load(name), models.family, models.families
    monkeypatch.setattr(models, "families", lambda asked: [*families(asked), "new_family"])
    monkeypatch.setattr(
        models,
        "family",
        lambda asked, other: known(asked, recipe.family if other == "new_family" else other),
    )
    task_of = build(recipe.model_copy(update={"family": "new_family"}), Layout("nowhere"))
    assert family_of(task_of.recipe, "Config", "TINY", "build") is known(task, recipe.family)


def test_a_family_that_lacks_a_part_is_named_with_those_that_have_it() -> None:
    recipe = configs.load("apct_tiny_figures").model_copy(update={"family": "detr"})
    with pytest.raises(
        ConfigError, match="'family': found 'detr'; allowed: apct: this family has no People"
    ):
        family_of(recipe, "People")
