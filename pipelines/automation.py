"""What starts runs without a person: the nightly line, and new files in a dataset's folder."""

from collections.abc import Iterator

import dagster as dg

import configs
from assets.layout import layout_of
from assets.partitions import video_key
from pipelines.jobs import end_to_end, ingest

nightly = dg.ScheduleDefinition(
    name="nightly",
    job=end_to_end,
    cron_schedule="0 2 * * *",
    description=(
        "The whole line every night at 02:00; a night in which nothing changed does no work."
    ),
)


@dg.sensor(
    job=ingest,
    minimum_interval_seconds=60,
    description="New, changed or removed files: one run for each bucket they fall into.",
)
def new_videos(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[configs.Settings]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Compare each dataset's folder with its video table; a change is asked for once."""
    from ops.media.changes import changed_buckets

    layout, asked = layout_of(settings), 0
    for name in configs.datasets():
        for bucket, change in changed_buckets(configs.dataset(name), layout).items():
            asked += 1
            yield dg.RunRequest(
                run_key=f"{name}:{bucket}:{change.key}",
                partition_key=video_key(name, bucket),
                tags={"kinograph/changed_files": str(change.num_files)},
            )
    if not asked:
        yield dg.SkipReason("no dataset's folder has changed since its video table was written")
