"""Everything that Dagster loads. Imports in under three seconds: the heavy libraries wait inside the asset bodies."""

import warnings

import dagster as dg

# Backfill policies and partitioned checks are marked beta; the exact version of Dagster is pinned.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from assets import annotations, checks, evaluation, frames, registry, training, videos  # noqa: E402
from pipelines.automation import new_videos, nightly  # noqa: E402
from pipelines.jobs import end_to_end, ingest, train  # noqa: E402
from pipelines.resources import resources  # noqa: E402

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([videos, annotations, frames, training, evaluation, registry]),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
    jobs=[ingest, train, end_to_end],
    schedules=[nightly],
    sensors=[new_videos],
    resources=resources(),
)
