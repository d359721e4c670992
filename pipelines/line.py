"""The whole line, stage by stage: which assets run, over which partitions, in which order.

Assets of different partitions cannot share one Dagster run, so the line is a short list of runs:
the sample world, the videos and frames of all buckets of a dataset, its annotations, then one run
per features and per recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

import dagster as dg
from dagster import AssetCheckSeverity, DagsterEventType
from dagster._core.errors import DagsterAssetCheckFailedError

import configs
from assets.partitions import video_key
from configs.schema import BUCKETS, CheckName
from pipelines.graph import graph

MODEL_ASSETS = ("trained_model", "evaluation", "challenger", "promotion")
STAGE, PARENT = "kinograph/stage", "kinograph/parent_run"  # tags of a stage's run
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class Stage:
    """One Dagster run of the line."""

    title: str
    assets: tuple[str, ...]
    partition: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


def stages(dataset: str, recipes: list[str]) -> list[Stage]:
    """Runs of the line for a dataset and the recipes that train on it, in order; features come
    before the first recipe that uses them.
    """
    every_bucket = {
        RANGE_START: str(video_key(dataset, 0)),
        RANGE_END: str(video_key(dataset, BUCKETS - 1)),
    }
    found = [Stage("sample world", ("figures",))] if dataset == "figures" else []
    found.append(Stage(f"videos and frames of {dataset}", ("videos", "frames"), tags=every_bucket))
    found.append(Stage(f"annotations of {dataset}", ("annotations",), partition=dataset))
    for name in recipes:
        recipe = configs.load(name)
        features = getattr(recipe, "features", None)
        if features and all(stage.partition != features for stage in found):
            found.append(Stage(f"features {features}", ("features",), partition=features))
        found.append(
            Stage(
                f"model {name}",
                tuple(f"{recipe.task}/{asset}" for asset in MODEL_ASSETS),
                partition=name,
            )
        )
    return found


def run_stage(
    stage: Stage,
    instance: dg.DagsterInstance,
    parent_run: str | None = None,
    config: dict[str, Any] | None = None,
) -> str:
    """Execute one stage in this process as a Dagster run of its own; returns the run's id. Raises
    what the asset raised.

    The console stays quiet: whoever calls this shows the error in words of its own, and Dagster's
    event log keeps the stacks.

    Args:
        stage: its assets, partition and tags.
        instance: keeps the run.
        parent_run: id of the run that this one belongs to, as a tag.
        config: of the stage's ops, by their names.
    """
    tags = {**stage.tags, STAGE: stage.title, **({PARENT: parent_run} if parent_run else {})}
    try:
        result = graph.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey.from_user_string(name) for name in stage.assets],
            partition_key=stage.partition,
            tags=tags,
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                **({"ops": config} if config else {}),
            },
        )
    except DagsterAssetCheckFailedError as error:  # it says which, not why
        newest = instance.get_run_records(dg.RunsFilter(tags=tags), limit=1)[0].dagster_run.run_id
        raise dg.Failure(
            _stopped([check for check in run_checks(instance, newest) if check.failed]),
            allow_retries=False,
        ) from error
    return result.run_id


def _stopped(failed: list[CheckResult]) -> str:
    """Why a run went no further than its checks, and the way on."""
    found = "; ".join(f"{check.name}: {check.says}" for check in failed)
    return (
        f"{found}; allowed: data that passes, or in the dataset's YAML 'allow:"
        f" [{', '.join(check.name for check in failed)}]'"
    )


@dataclass(frozen=True)
class CheckResult:
    """What an asset check has found. One that fails and that the dataset's YAML allows is a
    warning, and not `failed`.
    """

    asset: str
    name: str
    partition: str
    passed: bool
    allowed: bool
    says: str

    @property
    def failed(self) -> bool:
        """Whether it does not hold, and nobody has allowed that."""
        return not self.passed and not self.allowed

    @property
    def of_data(self) -> bool:
        """Whether it asks something of a dataset, and not of a model."""
        return self.name in get_args(CheckName)


def run_checks(instance: dg.DagsterInstance, run_id: str, partition: str = "") -> list[CheckResult]:
    """The results of the checks of one run, in their order."""
    found = []
    for log in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
        assert log.dagster_event is not None
        found.append(_result_of(log.dagster_event.asset_check_evaluation_data, partition))
    return found


def child_runs(instance: dg.DagsterInstance, parent_run: str) -> list[tuple[str, str]]:
    """(run id, dataset, features or recipe) of the stages that ran below another run, oldest
    first.
    """
    records = instance.get_run_records(dg.RunsFilter(tags={PARENT: parent_run}), ascending=True)
    return [
        (record.dagster_run.run_id, record.dagster_run.tags[STAGE].rpartition(" ")[2])
        for record in records
    ]


def latest_checks(
    instance: dg.DagsterInstance, dataset: str, recipes: list[str]
) -> list[CheckResult]:
    """The newest results of all checks of the line, as Dagster's record has them."""
    found = []
    for stage in stages(dataset, recipes):
        run = _latest_run(instance, stage)
        found += run_checks(instance, run, stage.partition or dataset) if run else []
    return found


def _latest_run(instance: dg.DagsterInstance, stage: Stage) -> str | None:
    """Id of the run that last materialized the stage's first asset."""
    partition = stage.partition or (stage.tags.get(RANGE_END) if stage.tags else None)
    wanted = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey.from_user_string(stage.assets[-1]),
        asset_partitions=[partition] if partition else None,
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].run_id if records else None


def _result_of(evaluation: dg.AssetCheckEvaluation, partition: str) -> CheckResult:
    warned = evaluation.severity is AssetCheckSeverity.WARN
    asset = evaluation.asset_key.to_user_string()
    return CheckResult(
        asset,
        evaluation.check_name,
        partition,
        evaluation.passed,
        warned,
        evaluation.description or "",
    )
