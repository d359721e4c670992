"""Every YAML of the project: it validates, its dataset is there, and its model builds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import configs
from configs.loading import HERE
from configs.schema import TASKS, Dataset


def _yaml_recipes() -> dict[str, tuple[str, str]]:
    """Recipe name -> (task, file stem), read from the text of the files: a recipe is a name at the
    start of a line.
    """
    return {
        line.split(":")[0]: (task, path.stem)
        for task in TASKS
        for path in (HERE / task).glob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line[:1].isalnum()
    }


@pytest.mark.parametrize("name", sorted(_yaml_recipes()))
def test_a_recipe_validates_and_its_dataset_is_there(name: str) -> None:
    recipe = configs.load(name)
    task, stem = _yaml_recipes()[name]
    assert (recipe.name, recipe.task, recipe.family) == (name, task, stem)
    assert recipe.dataset in configs.datasets()
    assert name in configs.names(task) and name in configs.names()


@pytest.mark.parametrize("name", sorted(_yaml_recipes()))
def test_a_recipes_model_builds(name: str) -> None:
    import torch

    import models

    with torch.device("meta"):  # shapes alone: no memory, no initial weights
        model = models.build(configs.load(name))
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("name", configs.datasets())
def test_a_dataset_validates(name: str) -> None:
    dataset = configs.dataset(name)
    assert isinstance(dataset, Dataset) and dataset.name == name and dataset.annotations
    for file in dataset.annotations:
        reader = import_module(f"ops.annotations.formats.{file.format}")
        assert file.table in getattr(reader, "TABLES", (reader.TABLE,))


@pytest.mark.parametrize("name", configs.features_names())
def test_features_validate_and_their_dataset_is_there(name: str) -> None:
    assert configs.features(name).dataset in configs.datasets()


def test_no_file_of_the_folder_is_passed_over() -> None:
    found = {path for path in Path(HERE).rglob("*.yaml")}
    known = {
        path
        for folder in (*TASKS, "datasets", "features")
        for path in (HERE / folder).glob("*.yaml")
    }
    assert found == known and sorted(_yaml_recipes()) == configs.names()
