"""Asset checks: what must hold of the data and the models before anyone builds on them."""

import dagster as dg

import configs
from assets.annotations import annotations
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


def _clear_of(task: str) -> dg.AssetChecksDefinition:
    """The check `above_chance` of recognition, and `above_floor` of the tasks whose metric is near nothing by guessing."""
    says = "The model beats guessing clearly." if task == "recognition" else "The model is above the floor of its gate."

    @dg.asset_check(
        asset=dg.AssetKey([task, "evaluation"]),
        name="above_chance" if task == "recognition" else "above_floor",
        partitions_def=recipe_partitions[task],
        description=says,
    )
    def clear(context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.AssetCheckResult:
        """Fails when the gate's metric says that the model has learnt nothing worth promoting."""
        from ops import checks
        from ops.flow import evaluate_recipe
        from ops.store.layout import Layout

        recipe = configs.load(context.partition_key)
        gate, metrics = recipe.gate, evaluate_recipe(recipe, Layout(settings.storage), settings).metrics
        if task == "recognition":
            return _result([checks.above_chance(gate.metric, metrics[gate.metric], recipe.num_classes)])
        return _result([checks.above_floor(gate.metric, metrics[gate.metric], gate.floor)])

    return clear


clear_of_guessing = [_clear_of(task) for task in configs.TASKS]


def _result(answers: list) -> dg.AssetCheckResult:
    numbers = {name: value for answer in answers for name, value in answer.numbers.items()}
    return dg.AssetCheckResult(
        passed=all(answer.passed for answer in answers),
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(answer.says for answer in answers),
        metadata=numbers,
    )
