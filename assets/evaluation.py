"""Evaluation: the trained model on the frozen validation set."""

import dagster as dg

import configs
from assets.failures import reported
from assets.metadata import picture
from assets.partitions import recipe_partitions
from assets.training import trained_model
from configs import versions


@dg.asset(
    group_name="evaluation",
    deps=[trained_model],
    partitions_def=recipe_partitions,
    kinds={"pytorch", "mlflow"},
    owners=["team:models"],
    code_version=versions.EVALUATION,
    description="Metrics, confusion matrix and worst clips of the recipe's model on the validation split.",
)
def evaluation(context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.MaterializeResult:
    """Score the recipe's newest weights; the same weights on the same set are not scored twice."""
    from ops.flow import evaluate_recipe
    from ops.store.layout import Layout

    with reported(context):
        result = evaluate_recipe(configs.load(context.partition_key), Layout(settings.storage), settings)
    numbers = {name: float(value) for name, value in result.metrics.items()}
    return dg.MaterializeResult(
        # The page shows them in this order: headline numbers and pictures first, the numbers of single pairs ("a/b") last.
        metadata={
            **{name: value for name, value in numbers.items() if "/" not in name},
            "clips": result.num_samples,
            "mlflow": dg.MetadataValue.url(result.run_url),
            **{name: picture(png, name) for name, png in result.pictures.items()},
            "evaluation_set": result.eval_set,
            **{name: value for name, value in numbers.items() if "/" in name},
        }
    )
