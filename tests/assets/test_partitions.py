"""Partitions follow the configured datasets and recipes."""

from __future__ import annotations

import configs
from assets.partitions import (
    bucket_partitions,
    features_by_dataset,
    features_by_recipe,
    features_partitions,
    recipes_by_dataset,
    recipes_by_features,
    video_key,
    video_partitions,
)
from configs.schema import BUCKETS


def test_every_dataset_has_every_bucket() -> None:
    assert len(bucket_partitions.get_partition_keys()) == BUCKETS
    keys = {
        str(video_key(name, bucket))
        for name in ("figures", "kinetics400")
        for bucket in range(BUCKETS)
    }
    assert keys <= {str(key) for key in video_partitions.get_partition_keys()}


def test_a_recipe_hangs_on_its_own_dataset() -> None:
    by_dataset = recipes_by_dataset("recognition")
    assert (
        "tsm_tiny_figures" in by_dataset["figures"]
        and "tsm_tiny_figures" not in by_dataset["kinetics400"]
    )
    for task in configs.TASKS:
        assert {name for names in recipes_by_dataset(task).values() for name in names} == set(
            configs.names(task)
        )


def test_features_follow_their_dataset_and_the_recipes_of_their_model() -> None:
    assert set(features_by_dataset()) == set(configs.datasets())
    assert features_by_dataset()["figures"] == {"figures_tsm"}
    by_recipe = features_by_recipe()
    assert set(by_recipe) == set(configs.names("recognition"))
    model = configs.load("tsm_tiny_figures").gate.registered_model
    for recipe, names in by_recipe.items():  # whichever recipe promotes a champion of that name
        assert names == (
            {"figures_tsm"} if configs.load(recipe).gate.registered_model == model else set()
        )
    assert (
        set(recipes_by_features("localization"))
        == set(configs.features_names())
        == set(features_partitions.get_partition_keys())
    )
