"""Evaluation: the trained model on the frozen validation set."""

import dagster as dg

import configs
from assets.failures import reported
from assets.layout import layout_of
from assets.metadata import picture
from assets.partitions import parsing_by_recipe, recipe_partitions
from configs import versions

PICTURES = {
    "recognition": "Metrics, confusion matrix and worst clips",
    "localization": "Metrics, precision and recall, time lines and false positives by kind",
    "detection": "Metrics, precision per class and boxes on key frames",
    "parsing": "Metrics, the curve of Acc^p, and persons with parts and states on frames",
}


def _models(task: str) -> list[dg.AssetDep]:
    """The trained model; parsing also asks the promoted recognition model for each video's action."""
    own = dg.AssetDep(dg.AssetKey([task, "trained_model"]))
    if task != "parsing":
        return [own]
    told = dg.StaticPartitionMapping(parsing_by_recipe())
    return [own, dg.AssetDep(dg.AssetKey(["recognition", "promotion"]), partition_mapping=told)]


def evaluation_of(task: str) -> dg.AssetsDefinition:
    """The asset `<task>/evaluation`."""

    @dg.asset(
        key_prefix=task,
        group_name=task,
        deps=_models(task),
        partitions_def=recipe_partitions[task],
        kinds={"pytorch", "mlflow"},
        owners=["team:models"],
        code_version=versions.EVALUATION,
        description=f"{PICTURES[task]} of the recipe's model on the validation split.",
    )
    def evaluation(context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.MaterializeResult:
        """Score the recipe's newest weights; the same weights on the same set are not scored twice."""
        from ops.flow.recipe import evaluate_recipe

        with reported(context):
            result = evaluate_recipe(configs.load(context.partition_key), layout_of(settings), settings)
        numbers = {name: float(value) for name, value in result.metrics.items()}
        return dg.MaterializeResult(
            # The page shows them in this order: headline numbers and pictures first, the numbers of single parts ("a/b") last.
            metadata={
                **{name: value for name, value in numbers.items() if "/" not in name},
                result.noun.replace(" ", "_"): result.num_samples,
                "mlflow": dg.MetadataValue.url(result.run_url),
                **{name: picture(png, name) for name, png in result.pictures.items()},
                "evaluation_set": result.eval_set,
                **{name: value for name, value in numbers.items() if "/" in name},
            }
        )

    return evaluation


evaluations = [evaluation_of(task) for task in configs.TASKS]
