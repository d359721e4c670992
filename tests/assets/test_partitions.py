"""Partitions follow the configured datasets and recipes."""

from __future__ import annotations

import configs
from assets.partitions import bucket_partitions, recipes_by_dataset, video_key, video_partitions
from configs.schema import BUCKETS


def test_every_dataset_has_every_bucket() -> None:
    assert len(bucket_partitions.get_partition_keys()) == BUCKETS
    keys = {str(video_key(name, bucket)) for name in ("figures", "kinetics400") for bucket in range(BUCKETS)}
    assert keys <= {str(key) for key in video_partitions.get_partition_keys()}


def test_a_recipe_hangs_on_its_own_dataset() -> None:
    by_dataset = recipes_by_dataset()
    assert "tsm_tiny_figures" in by_dataset["figures"] and "tsm_tiny_figures" not in by_dataset["kinetics400"]
    assert {name for names in by_dataset.values() for name in names} == set(configs.names())
