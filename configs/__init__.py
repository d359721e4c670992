"""Configurations: recipes (`names(task)`, `load(name)`), datasets, features of untrimmed videos,
and the process's `settings()`.
"""

from configs.loading import (
    dataset,
    datasets,
    every_recipe,
    features,
    features_names,
    load,
    names,
    place,
)
from configs.schema import TASKS, ConfigError, Dataset, Features, Recipe, RecognitionRecipe
from configs.settings import Settings, settings

__all__ = [
    "TASKS",
    "ConfigError",
    "Dataset",
    "Features",
    "Recipe",
    "RecognitionRecipe",
    "Settings",
    "dataset",
    "datasets",
    "features",
    "every_recipe",
    "features_names",
    "load",
    "names",
    "place",
    "settings",
]
