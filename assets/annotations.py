"""Annotations: official files in, typed tables out, every refused row with its reason."""

import dagster as dg

import configs
from assets.failures import reported
from assets.frames import frames
from assets.metadata import counts, table
from assets.partitions import dataset_partitions
from configs import versions


@dg.asset(
    group_name="ingest",
    deps=[dg.AssetDep(frames, partition_mapping=dg.MultiToSingleDimensionPartitionMapping("dataset"))],
    partitions_def=dataset_partitions,
    kinds={"python", "parquet"},
    owners=["team:data"],
    code_version=versions.ANNOTATIONS,
    description="Clips, segments, keyframe boxes and body parts as Parquet tables, with the coverage of the videos.",
)
def annotations(context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.MaterializeResult:
    """Read the dataset's annotation files and write one table per kind, and the table of refused rows."""
    from ops.flow import annotate_dataset
    from ops.store.layout import Layout

    with reported(context):
        report = annotate_dataset(configs.dataset(context.partition_key), Layout(settings.storage))
    rows = [(c.table, c.split, c.rows, c.annotated, c.found, c.usable) for c in report.coverage]
    return dg.MaterializeResult(
        metadata={
            "rows": report.rows,
            "refused_rows": report.num_problems,
            "seconds": round(report.seconds, 2),
            "coverage": table(("table", "split", "rows", "videos annotated", "found", "usable"), rows),
            "problems": counts(report.reasons, ("reason", "rows")),
        }
    )
