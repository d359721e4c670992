"""Features: a sliding window of a model over untrimmed videos, or published files, as one array [T,
C] per video.
"""

import dagster as dg

import configs
from assets.annotations import annotations
from assets.failures import reported
from assets.layout import layout_of
from assets.metadata import counts
from assets.partitions import features_by_dataset, features_by_recipe, features_partitions
from assets.videos import FRAMES
from configs import versions


class FeaturesRun(dg.Config):
    """How one run treats what an earlier one refused, and where it computes."""

    retry_quarantined: bool = False
    ray: bool = False  # on Ray actors; a cluster in the settings is used in any case


@dg.asset(
    group_name="features",
    deps=[
        dg.AssetDep(FRAMES, partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep(
            annotations, partition_mapping=dg.StaticPartitionMapping(features_by_dataset())
        ),
        dg.AssetDep(
            dg.AssetKey(["recognition", "promotion"]),
            partition_mapping=dg.StaticPartitionMapping(features_by_recipe()),
        ),
    ],
    partitions_def=features_partitions,
    kinds={"pytorch", "zarr"},
    owners=["team:models"],
    code_version=versions.FEATURES,
    description=(
        "One Zarr array [T, C] per annotated video, extracted by a model or imported from published"
        " files; what has not changed is left alone, and a newly promoted champion makes its"
        " features anew."
    ),
)
def features(
    context: dg.AssetExecutionContext,
    config: FeaturesRun,
    settings: dg.ResourceParam[configs.Settings],
) -> dg.MaterializeResult:
    """Make the partition's features, as far as source, configuration, weights or code have
    changed.
    """
    from ops.compute.progress import progress_bar
    from ops.features.materialize import make_features

    chosen = configs.features(context.partition_key)
    with reported(context), progress_bar("features", "videos") as progress:
        report = make_features(
            chosen,
            layout_of(settings),
            settings,
            engine="ray" if config.ray else None,
            progress=progress,
            retry_quarantined=config.retry_quarantined,
        )
    names = ("annotated", "usable", "quarantined", "done", "reused", "removed", "steps", "bytes")
    return dg.MaterializeResult(
        metadata={
            **{name: getattr(report, name) for name in names},
            "coverage": round(report.coverage, 4),
            "seconds": round(report.seconds, 2),
            "videos_per_s": round(report.videos_per_s, 2),
            "quarantine": counts(report.reasons, ("reason", "videos")),
            **{f"weights of {model}": sha256 for model, sha256 in report.models.items()},
        }
    )
