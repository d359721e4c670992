"""What the assets are partitioned by. One partition per video would drown the UI: videos fall into hash buckets instead."""

import dagster as dg

import configs
from configs.schema import BUCKETS

dataset_partitions = dg.StaticPartitionsDefinition(configs.datasets())
bucket_partitions = dg.StaticPartitionsDefinition([f"{bucket:04d}" for bucket in range(BUCKETS)])
video_partitions = dg.MultiPartitionsDefinition({"dataset": dataset_partitions, "bucket": bucket_partitions})
recipe_partitions = dg.StaticPartitionsDefinition(configs.names())


def buckets_by_dataset(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> dict[str, list[int]]:
    """The run's partitions, as bucket numbers per dataset; a run covers one bucket or a range of them."""
    chosen: dict[str, list[int]] = {}
    for key in context.partition_keys:
        if not isinstance(key, dg.MultiPartitionKey):
            raise TypeError(f"partition key {key!r} is not of dataset x bucket")
        chosen.setdefault(key.keys_by_dimension["dataset"], []).append(int(key.keys_by_dimension["bucket"]))
    return chosen


def video_key(dataset: str, bucket: int) -> dg.MultiPartitionKey:
    """Partition key of one bucket of a dataset."""
    return dg.MultiPartitionKey({"dataset": dataset, "bucket": f"{bucket:04d}"})


def recipes_by_dataset() -> dict[str, set[str]]:
    """The recipes that train on each dataset."""
    recipes = [configs.load(name) for name in configs.names()]
    return {dataset: {recipe.name for recipe in recipes if recipe.dataset == dataset} for dataset in configs.datasets()}
