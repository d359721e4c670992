"""What a hundred thousand videos cost where nothing, or one thing, is to do: deciding, listing,
writing the ledger, asking Dagster.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger_world
from ops.files.storage import list_files
from ops.media.changes import changed_buckets
from ops.media.ingest import ingest
from ops.store.layout import Layout
from ops.store.ledger import Ledger
from ops.store.tables import MANIFEST

VIDEOS = 100_000
DATASETS = 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("large"))
    ledger_world.build(folder, VIDEOS)
    return folder


def median_s(action: Callable[[], Any], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@pytest.mark.bench
def test_nothing_to_do_is_decided_in_two_seconds_and_300_mb(root: str) -> None:
    found = []
    for _ in range(3):  # each in a process of its own, as a run is
        out = subprocess.run(
            [sys.executable, ledger_world.__file__, "decide", root],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found.append(json.loads(out))
    seconds, cpu_s, peak_mb = (
        statistics.median(one[name] for one in found) for name in ("seconds", "cpu_s", "peak_mb")
    )
    print(
        f"\nnothing to do over {VIDEOS} videos: {seconds:.2f} s ({cpu_s:.2f} s of CPU), peak memory"
        f" of the process {peak_mb:.0f} MB"
    )
    assert all((one["planned"], one["reused"]) == (0, VIDEOS) for one in found)
    assert seconds < 2 and peak_mb < 300


@pytest.mark.bench
def test_costs_per_hundred_thousand_rows(root: str, tmp_path: Path) -> None:
    dataset, layout = ledger_world.dataset_at(root), Layout(root)
    folder = Path(layout.videos_folder(dataset))
    for number in range(400):
        (folder / f"class_{number:03d}").mkdir(parents=True)
    for number in range(VIDEOS):
        path = f"{folder}/class_{number % 400:03d}/video_{number:07d}_long_enough_a_name.mp4"
        open(path, "x").close()
        os.utime(path, ns=(ledger_world.MODIFIED_NS,) * 2)
    listing = median_s(lambda: list_files(str(folder)))
    assert changed_buckets(dataset, layout) == {}
    changes = median_s(lambda: changed_buckets(dataset, layout))
    ingesting = median_s(lambda: ingest(dataset, layout))
    base = layout.manifest("large", dataset.frames.key(), 0)
    row = Ledger(base, MANIFEST).table().slice(0, 1).to_pylist()[0]
    times: dict[str, list[float]] = {"commit": [], "compact": []}
    for _ in range(5):
        with Ledger(base, MANIFEST) as ledger:
            ledger.open()
            ledger.put({**row, "video_id": f"new{number}"} for number in range(32))
            times["commit"].append(median_s(ledger.commit, 1))
            times["compact"].append(median_s(ledger.compact, 1))
            ledger.drop(f"new{number}" for number in range(32))
    whole = str(tmp_path / "one.parquet")
    table = ledger_world._ledger(
        dataset,
        layout,
        [f"a_b_{number:07d}" for number in range(VIDEOS)],
        ["0" * 64] * VIDEOS,
        VIDEOS,
    )
    write = median_s(lambda: Ledger(whole, MANIFEST).replace(table), 1)
    read = median_s(lambda: Ledger(whole, MANIFEST).table())
    rows = [
        ("list the folder, 100k files in 400 folders", listing),
        ("say that nothing has changed in it (the sensor)", changes),
        ("ingest it where nothing has changed", ingesting),
        ("commit 32 rows to a bucket of 6,250", statistics.median(times["commit"])),
        ("compact that bucket", statistics.median(times["compact"])),
        ("write a ledger of 100k rows whole", write),
        ("read it", read),
    ]
    print("\n" + "\n".join(f"{what:52} {1000 * seconds:9.0f} ms" for what, seconds in rows))
    assert statistics.median(times["commit"]) < 0.5 * write


@pytest.mark.bench
def test_partition_status_costs_by_buckets_not_by_videos(tmp_path: Path) -> None:
    import dagster as dg

    from configs.schema import BUCKETS

    names = [f"dataset_{number:02d}" for number in range(DATASETS)]
    partitions = dg.MultiPartitionsDefinition(
        {
            "dataset": dg.StaticPartitionsDefinition(names),
            "bucket": dg.StaticPartitionsDefinition([f"{bucket:04d}" for bucket in range(BUCKETS)]),
        }
    )

    @dg.asset(partitions_def=partitions)
    def frames() -> None: ...

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for key in partitions.get_partition_keys():
            instance.report_runless_asset_event(dg.AssetMaterialization("frames", partition=key))

        def status() -> int:
            return len(instance.get_materialized_partitions(frames.key))

        seconds = median_s(status)
        assert status() == DATASETS * BUCKETS
    print(
        f"\npartition status of {DATASETS} datasets x {BUCKETS} buckets ({DATASETS * BUCKETS}"
        f" partitions): {1000 * seconds:.1f} ms"
    )
    assert seconds < 1
