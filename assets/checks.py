"""Asset checks: what must hold of the data and the models before anyone builds on them."""

import dagster as dg

import configs
from assets.annotations import annotations
from assets.failures import reported
from assets.layout import layout_of
from assets.partitions import buckets_by_dataset, dataset_partitions, video_partitions
from assets.videos import FRAMES
from configs.schema import CheckName


def _of_frames(name: CheckName, says: str) -> dg.AssetChecksDefinition:
    """A check of the datasets whose buckets a run covers."""
    stops = name == "quarantine_floor"

    @dg.asset_check(
        asset=FRAMES, name=name, partitions_def=video_partitions, description=says, blocking=stops
    )
    def check(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]
    ) -> dg.AssetCheckResult:
        with reported(context):
            return _of_datasets(name, list(buckets_by_dataset(context)), settings)

    return check


def _of_annotations(name: CheckName, says: str) -> dg.AssetChecksDefinition:
    """A check of an annotated dataset. What fails here stops what is built on it, in this run and
    in `ops.flow.recipe.train_recipe`.
    """

    @dg.asset_check(
        asset=annotations,
        name=name,
        partitions_def=dataset_partitions,
        description=says,
        blocking=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[configs.Settings]
    ) -> dg.AssetCheckResult:
        with reported(context):
            return _of_datasets(name, [context.partition_key], settings)

    return check


def _of_datasets(
    name: CheckName, datasets: list[str], settings: configs.Settings
) -> dg.AssetCheckResult:
    """The answers for some datasets; a failure that a dataset's YAML allows by the check's name is
    a warning.
    """
    from ops.flow import data_checks as checks

    found = {
        dataset: getattr(checks, name)(configs.dataset(dataset), layout_of(settings))
        for dataset in datasets
    }
    allowed = all(
        name in configs.dataset(dataset).allow
        for dataset, answer in found.items()
        if not answer.passed
    )
    return _result(
        list(found.values()), allowed and not all(answer.passed for answer in found.values())
    )


quarantine_floor = _of_frames(
    "quarantine_floor", "Quarantined videos stay below the dataset's floor."
)
second_decoder = _of_frames("second_decoder", "A second decoder finds the same frames in a sample.")
no_leak = _of_annotations("no_leak", "No content stands in two splits.")
label_vocabulary = _of_annotations(
    "label_vocabulary", "Every label can be learnt and none is unknown."
)
coverage = _of_annotations("coverage", "Enough of the annotated videos of every split can be used.")


def _result(answers: list, allowed: bool = False) -> dg.AssetCheckResult:
    numbers = {name: value for answer in answers for name, value in answer.numbers.items()}
    return dg.AssetCheckResult(
        passed=all(answer.passed for answer in answers),
        severity=dg.AssetCheckSeverity.WARN if allowed else dg.AssetCheckSeverity.ERROR,
        description="; ".join(answer.says for answer in answers)
        + (" (allowed by the dataset's YAML)" if allowed else ""),
        metadata=numbers,
    )
