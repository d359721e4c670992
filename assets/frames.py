"""Frames: every usable video decoded once into its own Zarr array."""

import dagster as dg

import configs
from assets.failures import reported
from assets.layout import layout_of
from assets.metadata import counts
from assets.partitions import buckets_by_dataset, video_partitions
from assets.videos import videos
from configs import versions


class FramesRun(dg.Config):
    """How one run treats what an earlier one refused."""

    retry_quarantined: bool = False  # decode again what hung or crashed a decoder before


@dg.asset(
    group_name="ingest",
    deps=[videos],
    partitions_def=video_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    kinds={"python", "zarr"},
    owners=["team:data"],
    code_version=versions.FRAMES,
    description=(
        "One Zarr array per usable video, the manifest row written last; unchanged videos are left alone. "
        "The numbers of a materialization are those of its run, over all buckets that the run covers."
    ),
)
def frames(context: dg.AssetExecutionContext, config: FramesRun, settings: dg.ResourceParam[configs.Settings]) -> dg.MaterializeResult:
    """Decode the videos whose content, decode configuration or code has changed; leave the others alone."""
    from ops.compute.progress import progress_bar
    from ops.media.decord_reader import MISSING
    from ops.media.materialize import materialize

    if MISSING:
        context.log.warning(f"{MISSING}: PyAV decodes every video, to the same frames, and no second decoder confirms them")
    totals: dict[str, float] = {}
    reasons: dict[str, int] = {}
    for name, buckets in buckets_by_dataset(context).items():
        with reported(context), progress_bar("frames", "videos") as progress:
            report = materialize(
                configs.dataset(name),
                layout_of(settings),
                buckets,
                progress=progress,
                retry_quarantined=config.retry_quarantined,
                ray_address=settings.ray_address,
            )
        for field in ("done", "reused", "quarantined", "frames", "bytes", "seconds"):
            totals[field] = totals.get(field, 0) + getattr(report, field)
        reasons.update(report.reasons)
    rate = totals.get("done", 0) / max(totals.get("seconds", 0), 1e-6)
    totals["seconds"] = round(totals.get("seconds", 0), 2)
    return dg.MaterializeResult(metadata={**totals, "videos_per_s": round(rate, 1), "quarantine": counts(reasons, ("reason", "videos"))})
