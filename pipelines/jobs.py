"""Jobs: bring in what is new, train and promote one recipe, and the whole line end to end."""

from typing import Any

import dagster as dg

import configs
from assets.partitions import recipe_partitions, video_partitions
from pipelines.line import MODEL_ASSETS, run_stage, stages

DEMO_RECIPES = [
    "tsn_tiny_figures",
    "tsm_tiny_figures",
    "actionformer_tiny_figures",
    "evad_tiny_figures",
    "apct_tiny_figures",
]

ingest = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets("videos", "frames"),
    partitions_def=video_partitions,
    description=(
        "Scan, hash, probe and decode what is new in one bucket of a dataset, or in a range of"
        " them."
    ),
)
train = [
    dg.define_asset_job(
        f"train_{task}",
        selection=dg.AssetSelection.assets(*([task, asset] for asset in MODEL_ASSETS)),
        partitions_def=recipe_partitions[task],
        description=(
            f"Train a {task} recipe, evaluate it, register it as challenger and let it face the"
            " champion."
        ),
    )
    for task in configs.TASKS
]


class Line(dg.Config):
    """What the end-to-end job runs on."""

    dataset: str = "figures"
    recipes: list[str] = DEMO_RECIPES
    figures: dict[str, int] = {}


@dg.op(
    description=(
        "Make the sample world where the dataset is `figures`; then videos, frames and annotations,"
        " as runs of their own."
    )
)
def bring_in(context: dg.OpExecutionContext, config: Line) -> dict[str, Any]:
    """Run every data stage of the line."""
    sized = {"figures": {"config": config.figures}} if config.figures else None
    for stage in stages(config.dataset, []):
        run_id = run_stage(
            stage, context.instance, context.run_id, sized if stage.assets == ("figures",) else None
        )
        context.log.info(f"{stage.title}: run {run_id}")
    return config.model_dump()


@dg.op(description="One run per recipe: training, evaluation, registration, promotion.")
def train_and_promote(context: dg.OpExecutionContext, line: dict[str, Any]) -> None:
    """Run every model stage of the line, in the order of the recipes."""
    data_stages = len(stages(line["dataset"], []))
    for stage in stages(line["dataset"], line["recipes"])[data_stages:]:
        run_id = run_stage(stage, context.instance, context.run_id)
        context.log.info(f"{stage.title}: run {run_id}")


@dg.job(
    executor_def=dg.in_process_executor,
    description=(
        "From raw video to a promoted model: every stage in order, each as a run of its own."
    ),
)
def end_to_end() -> None:
    """The whole line. One process, so that one local Ray serves all trainings."""
    train_and_promote(bring_in())
