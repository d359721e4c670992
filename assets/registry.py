"""Registry: the trained model as challenger, and the gate between it and the champion's alias."""

import dagster as dg

import configs
from assets.failures import reported
from assets.layout import layout_of
from assets.partitions import recipe_partitions
from configs import versions


def challenger_of(task: str) -> dg.AssetsDefinition:
    """The asset `<task>/challenger`."""

    @dg.asset(
        key_prefix=task,
        group_name=task,
        deps=[dg.AssetKey([task, "evaluation"])],
        partitions_def=recipe_partitions[task],
        kinds={"mlflow"},
        owners=["team:models"],
        code_version=versions.EVALUATION,
        description=(
            "The recipe's newest model as a version of the registered model, under the alias"
            " `challenger`."
        ),
    )
    def challenger(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]
    ) -> dg.MaterializeResult:
        """Register the model of the recipe's training run; one run is registered once."""
        from ops.flow.recipe import register_recipe
        from ops.tracking.registry import version_url

        with reported(context):
            version = register_recipe(
                configs.load(context.partition_key), layout_of(settings), settings
            )
        return dg.MaterializeResult(
            metadata={
                "model": version.name,
                "version": version.version,
                "mlflow": dg.MetadataValue.url(version_url(settings, version)),
            }
        )

    return challenger


def promotion_of(task: str) -> dg.AssetsDefinition:
    """The asset `<task>/promotion`."""

    @dg.asset(
        key_prefix=task,
        group_name=task,
        deps=[dg.AssetKey([task, "challenger"])],
        partitions_def=recipe_partitions[task],
        kinds={"mlflow"},
        owners=["team:models"],
        code_version=versions.EVALUATION,
        description=(
            "The gate: challenger and champion on the same frozen set; the alias `champion` moves,"
            " or the reason why not."
        ),
    )
    def promotion(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]
    ) -> dg.MaterializeResult:
        """Decide, move the alias where the challenger is better, and keep decision, numbers and
        reason on the version.
        """
        from ops.flow.recipe import promote_recipe

        with reported(context):
            decision = promote_recipe(
                configs.load(context.partition_key), layout_of(settings), settings
            )
        return dg.MaterializeResult(
            metadata={
                "promoted": decision.promoted,
                "reason": decision.reason,
                "model": decision.name,
                "version": decision.version,
                "metric": decision.metric,
                "challenger": decision.challenger,
                "champion": decision.champion if decision.champion is not None else "none before",
                "evaluation_set": decision.eval_set,
            }
        )

    return promotion


registered = [
    asset_of(task) for task in configs.TASKS for asset_of in (challenger_of, promotion_of)
]
