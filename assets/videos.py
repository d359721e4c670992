"""Raw video: the sample world, the table of every file that a dataset holds, and every usable video
decoded once into its own array.
"""

from collections.abc import Iterator
from typing import Any

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
    description=(
        "The sample dataset: articulated figures in action, with exact ground truth for all four"
        " tasks."
    ),
)
def figures(
    context: dg.AssetExecutionContext,
    config: FiguresSize,
    settings: dg.ResourceParam[configs.Settings],
) -> dg.MaterializeResult:
    """Make the `figures` dataset below the storage root; the same size and seed make nothing
    twice.
    """
    from ops.compute.progress import progress_bar
    from ops.files.storage import read_bytes
    from ops.synthetic.dataset import figures_size, make_figures

    dataset = configs.dataset("figures")
    root = layout_of(settings).dataset_root(dataset)
    size = figures_size(
        train=config.train,
        val=config.val,
        untrimmed=config.untrimmed,
        scenes=config.scenes,
        parts=config.parts,
    )
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
        }
    )


class FramesRun(dg.Config):
    """How one run treats what an earlier one refused."""

    retry_quarantined: bool = False  # decode again what hung or crashed a decoder before


VIDEOS, FRAMES = dg.AssetKey("videos"), dg.AssetKey("frames")


@dg.multi_asset(
    name="videos_and_frames",
    specs=[
        dg.AssetSpec(
            VIDEOS,
            deps=[figures],
            kinds={"python", "parquet"},
            code_version=versions.INGEST,
            description=(
                "One row per video file, hashed and probed; a damaged file is a row with status and"
                " reason. The numbers of a materialization are those of its run, over all buckets"
                " that the run covers."
            ),
            group_name="ingest",
            owners=["team:data"],
        ),
        dg.AssetSpec(
            FRAMES,
            deps=[VIDEOS],
            kinds={"python", "zarr"},
            code_version=versions.FRAMES,
            description=(
                "One Zarr array per usable video, the manifest row written last; unchanged videos"
                " are left alone. The numbers of a materialization are those of its run, over all"
                " buckets that the run covers."
            ),
            group_name="ingest",
            owners=["team:data"],
        ),
    ],
    can_subset=True,
    partitions_def=video_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def videos_and_frames(
    context: dg.AssetExecutionContext,
    config: FramesRun,
    settings: dg.ResourceParam[configs.Settings],
) -> Iterator[dg.MaterializeResult]:
    """Scan the dataset's folder and write the video table of the run's buckets; decode the videos
    whose content, decode configuration or code has changed. Where a run is asked for both, a new
    file is fetched, hashed and probed once for both.
    """
    wanted, by_dataset = context.selected_asset_keys, buckets_by_dataset(context)
    ingested: dict[str, Any] = {}
    if VIDEOS in wanted:
        yield _videos(context, by_dataset, settings, ingested, store=FRAMES in wanted)
    if FRAMES in wanted:
        yield _frames(context, by_dataset, settings, ingested, config.retry_quarantined)


def _videos(
    context: dg.AssetExecutionContext,
    by_dataset: dict[str, list[int]],
    settings: configs.Settings,
    ingested: dict[str, Any],
    store: bool,
) -> dg.MaterializeResult:
    """The video tables; with `store` the frames of new files too. The reports go into `ingested`,
    by dataset.
    """
    from ops.compute.progress import progress_bar
    from ops.media.ingest import ingest

    totals, reasons, aside = dict[str, float](), dict[str, int](), dict[str, int]()
    for name, buckets in by_dataset.items():
        with reported(context), progress_bar("videos", "files") as progress:
            dataset, layout = configs.dataset(name), layout_of(settings)
            report = ingest(
                dataset, layout, buckets, progress, ray_address=settings.ray_address, store=store
            )
        for field in ("found", "probed", "reused", "ok", "quarantined", "bytes", "seconds"):
            totals[field] = totals.get(field, 0) + getattr(report, field)
        reasons.update(report.reasons)
        aside.update(report.aside)
        ingested[name] = report
    totals["seconds"] = round(totals.get("seconds", 0), 2)
    tables = {
        "quarantine": counts(reasons, ("reason", "videos")),
        "left_aside": counts(aside, ("kind", "files")),
    }
    return dg.MaterializeResult(VIDEOS, metadata={**totals, **tables})


def _frames(
    context: dg.AssetExecutionContext,
    by_dataset: dict[str, list[int]],
    settings: configs.Settings,
    ingested: dict[str, Any],
    again: bool,
) -> dg.MaterializeResult:
    """The frames that the manifests lack; those that this run has stored with the video tables are
    counted with them.
    """
    from ops.compute.progress import progress_bar
    from ops.media.decord_reader import MISSING
    from ops.media.materialize import materialize

    if MISSING:
        context.log.warning(
            f"{MISSING}: PyAV decodes every video, to the same frames, and no second decoder"
            " confirms them"
        )
    totals, reasons = dict[str, float](), dict[str, int]()
    for name, buckets in by_dataset.items():
        with reported(context), progress_bar("frames", "videos") as progress:
            report = materialize(
                configs.dataset(name),
                layout_of(settings),
                buckets,
                progress=progress,
                retry_quarantined=again,
                ray_address=settings.ray_address,
                stored=ingested[name].stored if name in ingested else None,
            )
        for field in ("done", "reused", "quarantined", "frames", "bytes", "seconds"):
            totals[field] = totals.get(field, 0) + getattr(report, field)
        reasons.update(report.reasons)
    spent = totals.get("seconds", 0) + sum(
        report.seconds for report in ingested.values() if report.stored.worked
    )
    rate = totals.get("done", 0) / max(spent, 1e-6)
    totals["seconds"] = round(totals.get("seconds", 0), 2)
    metadata: dict[str, Any] = {
        **totals,
        "videos_per_s": round(rate, 1),
        "quarantine": counts(reasons, ("reason", "videos")),
    }
    return dg.MaterializeResult(FRAMES, metadata=metadata)
