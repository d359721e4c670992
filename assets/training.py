"""Training: one Ray Train run and one MLflow run per recipe and data version."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

import configs
from assets.annotations import annotations
from assets.failures import reported
from assets.features import features
from assets.layout import layout_of
from assets.partitions import recipe_partitions, recipes_by_dataset, recipes_by_features
from assets.videos import FRAMES
from configs import versions

PREFLIGHT = "preflight"
READY = (
    "Settings, data, other models, places and room are such that the recipe's line can come to its"
    " end."
)


def _data(task: str) -> list[dg.AssetDep]:
    """What a task's trainings read: annotations, and frames or features."""
    from ops.training.task import info

    read = dg.AssetDep(
        annotations, partition_mapping=dg.StaticPartitionMapping(recipes_by_dataset(task))
    )
    if info(task).reads == "features":
        return [
            dg.AssetDep(
                features, partition_mapping=dg.StaticPartitionMapping(recipes_by_features(task))
            ),
            read,
        ]
    return [dg.AssetDep(FRAMES, partition_mapping=dg.AllPartitionMapping()), read]


def _preflight(
    recipe: configs.Recipe, task: str, settings: configs.Settings
) -> dg.AssetCheckResult:
    """The check `preflight`: passes where nothing stands in the way, else has every mistake in
    words.
    """
    from ops.preflight.run import preflight

    found = preflight(recipe, layout_of(settings), settings)
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey([task, "trained_model"]),
        check_name=PREFLIGHT,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(map(str, found)) or "nothing stands in the way",
        metadata={"mistakes": len(found)},
    )


def trained_model_of(task: str) -> dg.AssetsDefinition:
    """The asset `<task>/trained_model`."""

    @dg.asset(
        key_prefix=task,
        group_name=task,
        deps=_data(task),
        partitions_def=recipe_partitions[task],
        kinds={"pytorch", "ray", "mlflow"},
        owners=["team:models"],
        code_version=versions.TRAINING,
        description=(
            "Weights trained by the recipe on the dataset as it is; resumes where a killed run"
            " stopped."
        ),
        check_specs=[
            dg.AssetCheckSpec(
                PREFLIGHT, asset=dg.AssetKey([task, "trained_model"]), description=READY
            )
        ],
    )
    def trained_model(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]
    ) -> Iterator[Any]:
        """Train the partition's recipe, unless exactly this recipe was trained on exactly this data
        before.

        What would end its line, or spoil its end, is shown as a check before the first step, and
        stops a training that is not done yet.
        """
        from ops.flow.recipe import train_recipe

        recipe = configs.load(context.partition_key)
        yield _preflight(recipe, task, settings)
        with reported(context):
            trained = train_recipe(
                recipe, layout_of(settings), settings, dagster_run_id=context.run_id
            )
        result = trained.result
        yield dg.MaterializeResult(
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

    return trained_model


trained_models = [trained_model_of(task) for task in configs.TASKS]
