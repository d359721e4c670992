"""Training: one Ray Train run and one MLflow run per recipe and data version."""

import dagster as dg

import configs
from assets.annotations import annotations
from assets.failures import reported
from assets.frames import frames
from assets.partitions import recipe_partitions, recipes_by_dataset
from configs import versions


@dg.asset(
    group_name="training",
    deps=[
        dg.AssetDep(frames, partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep(annotations, partition_mapping=dg.StaticPartitionMapping(recipes_by_dataset())),
    ],
    partitions_def=recipe_partitions,
    kinds={"pytorch", "ray", "mlflow"},
    owners=["team:models"],
    code_version=versions.TRAINING,
    description="Weights trained by the recipe on the dataset's frames; resumes where a killed run stopped.",
)
def trained_model(context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.MaterializeResult:
    """Train the partition's recipe, unless exactly this recipe was trained on exactly this data before."""
    from ops.flow import train_recipe
    from ops.store.layout import Layout

    recipe = configs.load(context.partition_key)
    with reported(context):
        trained = train_recipe(recipe, Layout(settings.storage), settings, dagster_run_id=context.run_id)
    result = trained.result
    return dg.MaterializeResult(
        metadata={
            "epochs": result.epochs,
            "seconds": round(result.seconds, 1),
            "resumed_from_epoch": result.resumed_from or 0,
            "trained_now": trained.trained_now,
            "run_folder": dg.MetadataValue.path(result.run_dir),
            "mlflow": dg.MetadataValue.url(trained.run.url),
            **{f"val_{name}": value for name, value in result.metrics.items()},
        },
        data_version=dg.DataVersion(result.run_key),
    )
