"""Annotations: official files in, typed tables out, every row left out with its reason."""

import dagster as dg

import configs
from assets.failures import reported
from assets.layout import layout_of
from assets.metadata import table
from assets.partitions import dataset_partitions
from assets.videos import FRAMES
from configs import versions


@dg.asset(
    group_name="ingest",
    deps=[
        dg.AssetDep(FRAMES, partition_mapping=dg.MultiToSingleDimensionPartitionMapping("dataset"))
    ],
    partitions_def=dataset_partitions,
    kinds={"python", "parquet"},
    owners=["team:data"],
    code_version=versions.ANNOTATIONS,
    description=(
        "Clips, segments, keyframe boxes and body parts as Parquet tables, with the coverage of the"
        " videos."
    ),
)
def annotations(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]
) -> dg.MaterializeResult:
    """Read the dataset's annotation files and write one table per kind, and the table of problems.
    Refused as a whole for a problem of a kind that the dataset's YAML does not allow.
    """
    from ops.annotations.sources import annotate_dataset

    with reported(context):
        report = annotate_dataset(configs.dataset(context.partition_key), layout_of(settings))
    rows = [(c.table, c.split, c.rows, c.annotated, c.found, c.usable) for c in report.coverage]
    numbers = [
        (c.key, c.expected, c.found, "differs" if c.differs else "as expected")
        for c in report.counts
    ]
    kinds = [
        (kind, number, "left out, as the YAML allows") for kind, number in report.kinds.items()
    ]
    kinds += [(kind, number, "a note, left nothing out") for kind, number in report.notes.items()]
    return dg.MaterializeResult(
        metadata={
            "rows": report.rows,
            "refused_rows": report.num_problems,
            "seconds": round(report.seconds, 2),
            "coverage": table(
                ("table", "split", "rows", "videos annotated", "found", "usable"), rows
            ),
            "counts": table(("what", "publisher", "files", ""), numbers),
            "problems": table(("kind", "rows", "what became of them"), kinds),
        }
    )
