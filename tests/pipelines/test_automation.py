"""The sensor asks once for each change, the schedule runs the line, and the settings are those of
the moment.
"""

from __future__ import annotations

import dagster as dg

import configs
from assets.partitions import video_key
from ops.media.ingest import ingest
from ops.store.buckets import bucket_of
from pipelines.automation import new_videos, nightly
from pipelines.definitions import defs
from pipelines.graph import RESOURCES
from pipelines.jobs import DEMO_RECIPES

NAME = "kinetics400"


def tick(settings) -> list:
    """What the sensor answers now."""
    found = new_videos(dg.build_sensor_context(), settings=settings)
    return list(found)


def test_the_sensor_asks_once_for_each_bucket_that_changed(home, small, write_video) -> None:
    videos = [*(f"train{n}" for n in range(8)), *(f"val{n}" for n in range(4)), "broken"]
    first = tick(home.settings)
    assert {request.partition_key for request in first} == {
        video_key(NAME, bucket_of(name)) for name in videos
    }
    assert sum(int(request.tags["kinograph/changed_files"]) for request in first) == 13
    # so that Dagster runs it once
    assert [request.run_key for request in tick(home.settings)] == [
        request.run_key for request in first
    ]

    ingest(configs.dataset(NAME), home.layout, workers=2)
    (skipped,) = tick(home.settings)
    assert isinstance(skipped, dg.SkipReason) and "changed" in skipped.skip_message

    write_video(small.video("train2"), seed=44)
    (asked,) = tick(home.settings)
    assert (
        asked.partition_key == video_key(NAME, bucket_of("train2"))
        and asked.tags["kinograph/changed_files"] == "1"
    )
    write_video(small.video("train2"), seed=45)
    (again,) = tick(home.settings)
    assert again.partition_key == asked.partition_key and again.run_key != asked.run_key

    small.video("train2").unlink()
    (removed,) = tick(home.settings)
    assert removed.run_key not in (asked.run_key, again.run_key)


def test_the_sensor_reads_the_settings_of_the_moment(home, small) -> None:
    repository = defs.get_repository_def()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(
            instance=instance, resources=RESOURCES, repository_def=repository
        ) as context,
    ):
        data = new_videos.evaluate_tick(context)
    assert len(data.run_requests) == len(tick(home.settings)) > 0


def test_every_night_runs_the_line(home) -> None:
    assert nightly.cron_schedule == "0 2 * * *"
    job = defs.resolve_job_def(nightly.job_name)
    assert job.name == "end_to_end" and set(DEMO_RECIPES) <= set(configs.names())
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = nightly.evaluate_tick(
            dg.build_schedule_context(instance=instance)
        ).run_requests
    assert request.run_config == {}  # the line's defaults: the demo
    assert dg.validate_run_config(job, request.run_config)
