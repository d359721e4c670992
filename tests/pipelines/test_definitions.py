"""The asset graph as Dagster loads it, held against a snapshot that a person has read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg

from pipelines import definitions
from pipelines.definitions import defs

SNAPSHOT = Path(__file__).with_name("graph.json")


def graph() -> dict[str, Any]:
    """Assets, checks, jobs and automation by name, with what a reader of the UI sees of them."""
    found = defs.get_repository_def().asset_graph
    assets = {
        node.key.to_user_string(): {
            "group": node.group_name,
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "kinds": sorted(node.kinds),
            "owners": list(node.owners),
            "partitions": type(node.partitions_def).__name__ if node.partitions_def else None,
            "checks": sorted(check.name for check in node.check_keys),
        }
        for node in found.asset_nodes
    }
    return {
        "assets": dict(sorted(assets.items())),
        "jobs": sorted(
            job.name
            for job in defs.get_repository_def().get_all_jobs()
            if not job.name.startswith("__")
        ),
        "schedules": {
            schedule.name: schedule.cron_schedule
            for schedule in defs.get_repository_def().schedule_defs
        },
        "sensors": sorted(sensor.name for sensor in defs.get_repository_def().sensor_defs),
    }


def test_the_graph_is_the_one_that_was_read() -> None:
    now = graph()
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
    assert now == json.loads(SNAPSHOT.read_text(encoding="utf-8")), (
        "changed on purpose? UPDATE_SNAPSHOTS=1 writes the new graph"
    )


def test_every_asset_tells_a_reader_what_it_is() -> None:
    for spec in defs.get_repository_def().asset_graph.asset_nodes:
        assert (
            spec.description
            and spec.group_name != "default"
            and spec.kinds
            and spec.owners
            and spec.code_version
        ), spec.key


def test_dagster_finds_the_definitions_valid() -> None:
    dg.Definitions.validate_loadable(defs)
    # A code location is refused whose module names more than one.
    assert [
        name for name, value in vars(definitions).items() if isinstance(value, dg.Definitions)
    ] == ["defs"]
