"""Everything that Dagster loads. Imports in under three seconds: the heavy libraries wait inside the asset bodies."""

import dagster as dg

from pipelines.automation import new_videos, nightly
from pipelines.graph import graph
from pipelines.jobs import end_to_end, ingest, train

defs = dg.Definitions.merge(graph, dg.Definitions(jobs=[ingest, *train, end_to_end], schedules=[nightly], sensors=[new_videos]))
