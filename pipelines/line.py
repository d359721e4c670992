"""The whole line, stage by stage: which assets run, over which partitions, in which order.

Assets of different partitions cannot share one Dagster run, so the line is a short list of runs: the sample world, the
videos and frames of all buckets of a dataset, its annotations, then one run per features and per recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import dagster as dg

import configs
from assets.partitions import video_key
from configs.schema import BUCKETS
from pipelines.graph import graph

MODEL_ASSETS = ("trained_model", "evaluation", "challenger", "promotion")
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class Stage:
    """One Dagster run of the line."""

    title: str
    assets: tuple[str, ...]
    partition: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


def stages(dataset: str, recipes: list[str]) -> list[Stage]:
    """Runs of the line for a dataset and the recipes that train on it, in order; features come before the first recipe that uses them."""
    every_bucket = {RANGE_START: str(video_key(dataset, 0)), RANGE_END: str(video_key(dataset, BUCKETS - 1))}
    found = [Stage("sample world", ("figures",))] if dataset == "figures" else []
    found.append(Stage(f"videos and frames of {dataset}", ("videos", "frames"), tags=every_bucket))
    found.append(Stage(f"annotations of {dataset}", ("annotations",), partition=dataset))
    for name in recipes:
        recipe = configs.load(name)
        features = getattr(recipe, "features", None)
        if features and all(stage.partition != features for stage in found):
            found.append(Stage(f"features {features}", ("features",), partition=features))
        found.append(Stage(f"model {name}", tuple(f"{recipe.task}/{asset}" for asset in MODEL_ASSETS), partition=name))
    return found


def run_stage(stage: Stage, instance: dg.DagsterInstance, parent_run: str | None = None, config: dict[str, Any] | None = None) -> str:
    """Execute one stage in this process as a Dagster run of its own; returns the run's id. Raises what the asset raised.

    The console stays quiet: whoever calls this shows the error in words of its own, and Dagster's event log keeps the stacks.
    """
    tags = {**stage.tags, "kinograph/stage": stage.title, **({"kinograph/parent_run": parent_run} if parent_run else {})}
    result = graph.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey.from_user_string(name) for name in stage.assets],
        partition_key=stage.partition,
        tags=tags,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **({"ops": config} if config else {})},
    )
    return result.run_id
