"""Evaluation: the trained model on the frozen validation set."""

import dagster as dg

import configs
from assets.failures import reported
from assets.layout import layout_of
from assets.metadata import picture
from assets.partitions import recipe_partitions, recipes_by_model
from configs import versions


def _models(task: str, names_model: str | None) -> list[dg.AssetDep]:
    """The trained model, and the promoted recognition model that the recipe's field names, where it
    has such a field.
    """
    own = dg.AssetDep(dg.AssetKey([task, "trained_model"]))
    if names_model is None:
        return [own]
    asked = dg.StaticPartitionMapping(recipes_by_model(task, names_model))
    return [own, dg.AssetDep(dg.AssetKey(["recognition", "promotion"]), partition_mapping=asked)]


def _clear_of_guessing(
    recipe: configs.Recipe, metrics: dict[str, float], check: str, asset: dg.AssetKey
) -> dg.AssetCheckResult:
    """Fails when the gate's metric says that the model has learnt nothing worth promoting."""
    from ops.flow import data_checks

    answer = getattr(data_checks, check)(recipe, metrics)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check,
        passed=answer.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=answer.says,
        metadata=answer.numbers,
    )


def evaluation_of(task: str) -> dg.AssetsDefinition:
    """The asset `<task>/evaluation`, and its check: `above_chance`, or `above_floor` of a metric
    that is near nothing by guessing.
    """
    from ops.flow import data_checks
    from ops.training.task import info

    about, asset = info(task), dg.AssetKey([task, "evaluation"])
    says = getattr(data_checks, about.floor_check).__doc__

    @dg.asset(
        key_prefix=task,
        group_name=task,
        deps=_models(task, about.names_model),
        partitions_def=recipe_partitions[task],
        kinds={"pytorch", "mlflow"},
        owners=["team:models"],
        code_version=versions.EVALUATION,
        description=f"Metrics, {about.pictures} of the recipe's model on the validation split.",
        check_specs=[dg.AssetCheckSpec(about.floor_check, asset=asset, description=says)],
    )
    def evaluation(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]
    ) -> dg.MaterializeResult:
        """Score the recipe's newest weights; the same weights on the same set are not scored
        twice.
        """
        from ops.flow.recipe import evaluate_recipe

        recipe = configs.load(context.partition_key)
        with reported(context):
            result = evaluate_recipe(recipe, layout_of(settings), settings)
        numbers = {name: float(value) for name, value in result.metrics.items()}
        return dg.MaterializeResult(
            # The page shows them in this order: headline numbers and pictures first, the numbers of
            # single parts ("a/b") last.
            metadata={
                **{name: value for name, value in numbers.items() if "/" not in name},
                result.sample_unit.replace(" ", "_"): result.num_samples,
                "mlflow": dg.MetadataValue.url(result.run_url),
                **{name: picture(png, name) for name, png in result.pictures.items()},
                "evaluation_set": result.eval_set,
                **{name: value for name, value in numbers.items() if "/" in name},
            },
            check_results=[_clear_of_guessing(recipe, result.metrics, about.floor_check, asset)],
        )

    return evaluation


evaluations = [evaluation_of(task) for task in configs.TASKS]
