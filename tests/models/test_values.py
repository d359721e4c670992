"""Values of a recipe's model section."""

from types import SimpleNamespace

import pytest

import models
from models.errors import ModelConfigError


def test_a_truth_value_is_no_number_of_a_network() -> None:
    recipe = SimpleNamespace(task="recognition", family="tsn", num_classes=2, model={"depth": True})
    with pytest.raises(ModelConfigError, match="depth.*True"):
        models.build(recipe)
