"""Everything that Dagster loads. Imports in under three seconds: the heavy libraries wait inside
the asset bodies.
"""

import os
import tempfile

import dagster as dg

from pipelines import graph  # the module: Dagster loads the one Definitions that a module names
from pipelines.automation import new_videos, nightly
from pipelines.jobs import end_to_end, ingest, train

defs = dg.Definitions.merge(
    graph.graph,
    dg.Definitions(jobs=[ingest, *train, end_to_end], schedules=[nightly], sensors=[new_videos]),
)

# `kinograph ui` gave Dagster's sockets a shorter one; data go where the user wants
if long := os.environ.pop("KINOGRAPH_TMPDIR", None):
    os.environ["TMPDIR"], tempfile.tempdir = long, None
