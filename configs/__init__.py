"""Configurations: `names(task)`, `load(name)`, `dataset(name)`, `datasets()` and the process's `settings()`."""

from configs.loading import dataset, datasets, load, names
from configs.schema import ConfigError, Dataset, Recipe, RecognitionRecipe
from configs.settings import Settings, settings

__all__ = ["ConfigError", "Dataset", "Recipe", "RecognitionRecipe", "Settings", "dataset", "datasets", "load", "names", "settings"]
