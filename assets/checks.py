"""Asset checks: what must hold of the data and the models before anyone builds on them."""

import dagster as dg

import configs
from assets.annotations import annotations
from assets.evaluation import evaluation
from assets.frames import frames
from assets.partitions import buckets_by_dataset, dataset_partitions, recipe_partitions, video_partitions


@dg.asset_check(asset=frames, partitions_def=video_partitions, description="Quarantined videos stay below the dataset's floor.")
def quarantine_floor(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.AssetCheckResult:
    """Fails when too many videos of the run's buckets are quarantined."""
    from ops import checks
    from ops.store.layout import Layout

    return _result([checks.quarantine_floor(configs.dataset(name), Layout(settings.storage)) for name in buckets_by_dataset(context)])


@dg.asset_check(asset=frames, partitions_def=video_partitions, description="A second decoder counts the same frames on a sample.")
def second_decoder(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.AssetCheckResult:
    """Fails when a stored array is longer or shorter than PyAV's full decode."""
    from ops import checks
    from ops.store.layout import Layout

    return _result([checks.second_decoder(configs.dataset(name), Layout(settings.storage)) for name in buckets_by_dataset(context)])


@dg.asset_check(asset=annotations, partitions_def=dataset_partitions, description="No content stands in two splits.")
def no_leak(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.AssetCheckResult:
    """Fails when the same bytes are in training and validation."""
    from ops import checks
    from ops.store.layout import Layout

    return _result([checks.no_leak(configs.dataset(context.partition_key), Layout(settings.storage))])


@dg.asset_check(asset=annotations, partitions_def=dataset_partitions, description="Every label can be learnt and none is unknown.")
def label_vocabulary(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.AssetCheckResult:
    """Fails when a label has no training example, or a row was refused for its label."""
    from ops import checks
    from ops.store.layout import Layout

    return _result([checks.label_vocabulary(configs.dataset(context.partition_key), Layout(settings.storage))])


@dg.asset_check(asset=evaluation, partitions_def=recipe_partitions, description="The model beats guessing clearly.")
def above_chance(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.AssetCheckResult:
    """Fails when the gate's metric is not above twice the share of one class."""
    from ops import checks
    from ops.flow import evaluate_recipe
    from ops.store.layout import Layout

    recipe = configs.load(context.partition_key)
    metrics = evaluate_recipe(recipe, Layout(settings.storage), settings).metrics
    return _result([checks.above_chance(recipe.gate.metric, metrics[recipe.gate.metric], recipe.num_classes)])


def _result(answers: list) -> dg.AssetCheckResult:
    numbers = {name: value for answer in answers for name, value in answer.numbers.items()}
    return dg.AssetCheckResult(
        passed=all(answer.passed for answer in answers),
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(answer.says for answer in answers),
        metadata=numbers,
    )
