"""Which partitions of other assets the features depend on."""

from __future__ import annotations

import configs
from assets.features import features, features_by_dataset, features_by_recipe, features_partitions


def test_features_follow_their_dataset_and_the_recipes_of_their_model() -> None:
    assert set(features_by_dataset()) == set(configs.datasets())
    assert features_by_dataset()["figures"] == {"figures_tsm"}
    by_recipe = features_by_recipe()
    assert set(by_recipe) == set(configs.names())
    model = configs.load("tsm_tiny_figures").gate.registered_model
    for recipe, names in by_recipe.items():  # whichever recipe promotes a champion of that name
        assert names == ({"figures_tsm"} if configs.load(recipe).gate.registered_model == model else set())


def test_one_partition_for_each() -> None:
    assert features.partitions_def is features_partitions
    assert features_partitions.get_partition_keys() == configs.features_names()
