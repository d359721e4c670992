"""What the assets are partitioned by. One partition per video would drown the UI: videos fall into
hash buckets instead.
"""

import dagster as dg

import configs
from configs.schema import BUCKETS

dataset_partitions = dg.StaticPartitionsDefinition(configs.datasets())
bucket_partitions = dg.StaticPartitionsDefinition([f"{bucket:04d}" for bucket in range(BUCKETS)])
video_partitions = dg.MultiPartitionsDefinition(
    {"dataset": dataset_partitions, "bucket": bucket_partitions}
)
recipe_partitions: dict[str, dg.StaticPartitionsDefinition] = {
    task: dg.StaticPartitionsDefinition(configs.names(task)) for task in configs.TASKS
}
features_partitions = dg.StaticPartitionsDefinition(configs.features_names())


def buckets_by_dataset(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
) -> dict[str, list[int]]:
    """The run's partitions, as bucket numbers per dataset; a run covers one bucket or a range of
    them.
    """
    chosen: dict[str, list[int]] = {}
    for key in context.partition_keys:
        if not isinstance(key, dg.MultiPartitionKey):
            raise TypeError(f"partition key {key!r} is not of dataset x bucket")
        chosen.setdefault(key.keys_by_dimension["dataset"], []).append(
            int(key.keys_by_dimension["bucket"])
        )
    return chosen


def video_key(dataset: str, bucket: int) -> dg.MultiPartitionKey:
    """Partition key of one bucket of a dataset."""
    return dg.MultiPartitionKey({"dataset": dataset, "bucket": f"{bucket:04d}"})


def recipes_by_dataset(task: str) -> dict[str, set[str]]:
    """The task's recipes that train on each dataset."""
    recipes = [configs.load(name) for name in configs.names(task)]
    return {
        dataset: {recipe.name for recipe in recipes if recipe.dataset == dataset}
        for dataset in configs.datasets()
    }


def recipes_by_features(task: str) -> dict[str, set[str]]:
    """The task's recipes that train on each features."""
    named = {name: getattr(configs.load(name), "features", None) for name in configs.names(task)}
    return {
        features: {name for name, own in named.items() if own == features}
        for features in configs.features_names()
    }


def features_by_dataset() -> dict[str, set[str]]:
    """The features of each dataset."""
    found = [configs.features(name) for name in configs.features_names()]
    return {
        dataset: {one.name for one in found if one.dataset == dataset}
        for dataset in configs.datasets()
    }


def users_of_models(users: dict[str, set[str]]) -> dict[str, set[str]]:
    """By recognition recipe: those of the users, each with the models:/ URIs that it takes, that
    its registered model serves.
    """
    models = {
        name: configs.load(name).gate.registered_model for name in configs.names("recognition")
    }
    named = {
        user: {uri.removeprefix("models:/").partition("@")[0] for uri in uris}
        for user, uris in users.items()
    }
    return {
        recipe: {user for user, wanted in named.items() if model in wanted}
        for recipe, model in models.items()
    }


def features_by_recipe() -> dict[str, set[str]]:
    """The features that each recognition recipe's registered model makes."""
    found = [configs.features(name) for name in configs.features_names()]
    return users_of_models(
        {one.name: {extraction.model for extraction in one.extract} for one in found}
    )


def recipes_by_model(task: str, field: str) -> dict[str, set[str]]:
    """The task's recipes whose field names the registered model of each recognition recipe."""
    return users_of_models(
        {name: {getattr(configs.load(name), field) or ""} for name in configs.names(task)}
    )
