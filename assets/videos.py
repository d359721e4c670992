"""Raw video: the sample world that the project makes for itself, and the table of every file that a dataset holds."""

import dagster as dg

import configs
from assets.failures import reported
from assets.layout import layout_of
from assets.metadata import counts, picture
from assets.partitions import buckets_by_dataset, video_partitions
from configs import versions


class FiguresSize(dg.Config):
    """How much of the sample world to make; what is left open is the demo's."""

    train: int | None = None
    val: int | None = None
    untrimmed: int | None = None
    scenes: int | None = None
    parts: int | None = None
    seed: int = 0


@dg.asset(
    group_name="source",
    kinds={"python", "mp4"},
    owners=["team:data"],
    code_version=versions.FIGURES,
    description="The sample dataset: articulated figures in action, with exact ground truth for all four tasks.",
)
def figures(context: dg.AssetExecutionContext, config: FiguresSize, settings: dg.ResourceParam[configs.Settings]) -> dg.MaterializeResult:
    """Make the `figures` dataset below the storage root; the same size and seed make nothing twice."""
    from ops.compute.progress import progress_bar
    from ops.files.storage import read_bytes
    from ops.synthetic.dataset import figures_size, make_figures

    dataset = configs.dataset("figures")
    root = layout_of(settings).dataset_root(dataset)
    size = figures_size(train=config.train, val=config.val, untrimmed=config.untrimmed, scenes=config.scenes, parts=config.parts)
    with reported(context), progress_bar("figures", "videos") as progress:
        report = make_figures(root, size, seed=config.seed, progress=progress)
        sheet = read_bytes(f"{root}/contact_sheet.png")
    return dg.MaterializeResult(
        metadata={
            **report.counts,
            "made": report.made,
            "seconds": round(report.seconds, 1),
            "root": dg.MetadataValue.path(root),
            "contact_sheet": picture(sheet, "one row per action"),
        },
    )


@dg.asset(
    group_name="ingest",
    deps=[figures],
    partitions_def=video_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    kinds={"python", "parquet"},
    owners=["team:data"],
    code_version=versions.INGEST,
    description=(
        "One row per video file, hashed and probed; a damaged file is a row with status and reason. "
        "The numbers of a materialization are those of its run, over all buckets that the run covers."
    ),
)
def videos(context: dg.AssetExecutionContext, settings: dg.ResourceParam[configs.Settings]) -> dg.MaterializeResult:
    """Scan the dataset's folder and write the video table of the run's buckets."""
    from ops.compute.progress import progress_bar
    from ops.media.ingest import ingest

    totals: dict[str, float] = {}
    reasons: dict[str, int] = {}
    aside: dict[str, int] = {}
    for name, buckets in buckets_by_dataset(context).items():
        with reported(context), progress_bar("videos", "files") as progress:
            layout = layout_of(settings)
            report = ingest(configs.dataset(name), layout, buckets, progress, ray_address=settings.ray_address)
        for field in ("found", "probed", "reused", "ok", "quarantined", "bytes", "seconds"):
            totals[field] = totals.get(field, 0) + getattr(report, field)
        reasons.update(report.reasons)
        aside.update(report.aside)
    totals["seconds"] = round(totals.get("seconds", 0), 2)
    tables = {"quarantine": counts(reasons, ("reason", "videos")), "left_aside": counts(aside, ("kind", "files"))}
    return dg.MaterializeResult(metadata={**totals, **tables})
