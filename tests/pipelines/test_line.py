"""The data part of the line through Dagster, in this process: metadata, checks, and that only what
changed is done anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import configs
from configs.schema import BUCKETS
from ops.annotations.read import last_report
from ops.files.storage import StorageError, list_files
from ops.flow.recipe import pending
from ops.store.buckets import bucket_of
from ops.store.reader import read_manifest
from ops.training.run_folder import plan_run
from pipelines.line import run_stage, stages

NAME = "kinetics400"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def bring_in(instance: dg.DagsterInstance) -> list[str]:
    """Run every data stage; returns the ids of the runs."""
    return [run_stage(stage, instance) for stage in stages(NAME, [])]


def facts(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> dict[str, Any]:
    """Metadata of the newest materialization."""
    chosen = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None
    )
    event = instance.fetch_materializations(chosen, limit=1).records[0].asset_materialization
    assert event is not None
    return {name: value.value for name, value in event.metadata.items()}


def checks(instance: dg.DagsterInstance, runs: list[str]) -> dict[str, bool]:
    """Answers of the asset checks of these runs."""
    answers = {}
    for run in runs:
        for log in instance.all_logs(run, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            evaluation = log.dagster_event.asset_check_evaluation_data
            answers[evaluation.check_name] = evaluation.passed
    return answers


def arrays(home) -> dict[str, tuple[int, int]]:
    """Inode and time of every file of the arrays, by path."""
    stats = {
        info.uri: Path(info.uri).stat()
        for info in list_files(f"{home.storage}/frames")
        if "/arrays/" in f"/{info.path_below}"
    }
    return {uri: (stat.st_ino, stat.st_mtime_ns) for uri, stat in stats.items()}


def array_of(home, video: str) -> str:
    rows = read_manifest(home.layout, configs.dataset(NAME)).to_pylist()
    return next(row["array_uri"] for row in rows if row["video_id"] == video)


def test_one_change_is_one_work(home, small, instance, write_video) -> None:
    recipe = configs.load("small_tsn")
    assert pending(NAME, ["small_tsn"], home.settings) == [
        "bring in videos, frames and annotations"
    ]
    runs = bring_in(instance)
    assert {
        name: facts(instance, "videos")[name]
        for name in ("found", "probed", "reused", "ok", "quarantined")
    } == {"found": 13, "probed": 13, "reused": 0, "ok": 12, "quarantined": 1}
    stored = facts(instance, "frames")
    assert (stored["done"], stored["frames"], stored["quarantined"]) == (12, 72, 1)
    assert "not a video file" in stored["quarantine"]
    assert facts(instance, "annotations", NAME)["rows"] == 13
    assert checks(instance, runs) == dict.fromkeys(
        ("quarantine_floor", "second_decoder", "no_leak", "label_vocabulary", "coverage"), True
    )
    assert {(c.split, c.annotated, c.usable) for c in last_report(NAME, home.layout).coverage} == {
        ("train", 9, 8),
        ("val", 4, 4),
    }
    assert pending(NAME, ["small_tsn"], home.settings) == ["train small_tsn"]
    first, before = plan_run(recipe, home.layout), arrays(home)

    bring_in(instance)  # nothing has changed
    assert (
        facts(instance, "videos")["probed"],
        facts(instance, "frames")["done"],
        facts(instance, "frames")["reused"],
    ) == (0, 0, 13)
    assert arrays(home) == before and plan_run(recipe, home.layout) == first

    write_video(small.video("train3"), seed=77)
    assert pending(NAME, ["small_tsn"], home.settings) == ["ingest 1 new, changed or removed files"]
    small.video("train5").unlink()
    write_video(small.video("extra"), seed=55)
    small.write_rows("right,extra,0,0.5,train")
    small.write_yaml(allow=["missing_video"])
    assert pending(NAME, ["small_tsn"], home.settings) == [
        "read changed annotations",
        "ingest 3 new, changed or removed files",
    ]
    old, gone = array_of(home, "train3"), array_of(home, "train5")
    bring_in(instance)
    assert (
        facts(instance, "videos")["probed"],
        facts(instance, "frames")["done"],
        facts(instance, "frames")["reused"],
    ) == (2, 2, 11)
    mended, new = array_of(home, "train3"), array_of(home, "extra")
    assert not Path(gone).exists() and not Path(old).exists()
    # the others were not touched
    assert without(arrays(home), mended, new) == without(before, old, gone)
    assert last_report(NAME, home.layout).num_problems == 1  # the row of the removed video
    assert pending(NAME, ["small_tsn"], home.settings) == ["train small_tsn"]
    second = plan_run(recipe, home.layout)
    assert second.run_key != first.run_key and second.data_version != first.data_version

    clips = home.layout.annotation_table(NAME, "clips")
    for damage in (b"", Path(clips).read_bytes()[:100], None):
        Path(clips).unlink() if damage is None else Path(clips).write_bytes(damage)
        assert pending(NAME, ["small_tsn"], home.settings) == [
            "read annotations anew (clips.parquet: gone or damaged)"
        ]
    run_stage(stages(NAME, [])[-1], instance)
    assert pending(NAME, ["small_tsn"], home.settings) == ["train small_tsn"]
    shutil.rmtree(mended)
    with pytest.raises(StorageError, match=f"kinograph store verify {NAME} --repair"):
        pending(NAME, ["small_tsn"], home.settings)


def without(files: dict[str, tuple[int, int]], *folders: str) -> dict[str, tuple[int, int]]:
    """The files that lie in none of the folders."""
    return {uri: stat for uri, stat in files.items() if not uri.startswith(folders)}


def test_a_stage_covers_a_single_bucket_too(home, small, instance) -> None:
    from assets.partitions import video_key
    from pipelines.line import Stage

    bucket = bucket_of("train0")
    run_stage(Stage("one", ("videos", "frames"), partition=video_key(NAME, bucket)), instance)
    here = [
        name
        for name in (*(f"train{n}" for n in range(8)), *(f"val{n}" for n in range(4)), "broken")
        if bucket_of(name) == bucket
    ]
    assert facts(instance, "videos")["found"] == len(here) < 13
    assert len(read_manifest(home.layout, configs.dataset(NAME), range(BUCKETS))) == len(here)


def test_stages_of_a_dataset_are_in_order_and_only_figures_are_made() -> None:
    names = ["tsm_tiny_figures", "tsn_tiny_figures"]
    assert [stage.title for stage in stages("figures", names)] == [
        "sample world",
        "videos and frames of figures",
        "annotations of figures",
        "model tsm_tiny_figures",
        "model tsn_tiny_figures",
    ]
    assert stages("figures", names)[-1].assets[0] == "recognition/trained_model"
    assert [stage.assets for stage in stages(NAME, [])] == [("videos", "frames"), ("annotations",)]
