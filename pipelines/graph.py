"""The asset graph: assets, checks, and the settings that they are given, which are read when a run
or a sensor's tick starts.

Jobs, schedule and sensor are laid over it in `pipelines.definitions`.
"""

import warnings

import dagster as dg

# Backfill policies and partitioned checks are marked beta; the exact version of Dagster is pinned.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

import configs  # noqa: E402
from assets import annotations, checks, evaluation, features, registry, training, videos  # noqa: E402

RESOURCES = {
    "settings": dg.ResourceDefinition(
        lambda _: configs.settings(), description="Where data, tracking store and cluster are."
    )
}
graph = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [videos, annotations, training, evaluation, registry, features]
    ),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
    resources=RESOURCES,
)
