"""Planning in columns decides what a row by row comparison decides, and the engine asks for jobs as
it goes.
"""

from __future__ import annotations

import pytest

import ledger_world
import ops.compute.engine as engines
from configs.schema import BUCKETS
from ops.compute.engine import run_anywhere
from ops.compute.pool import Job, Outcome
from ops.files.storage import StorageError
from ops.media.plan import plan_buckets
from ops.store.layout import Layout
from ops.store.ledger import Ledger
from ops.store.manifest import frames_key, frames_keys, read_manifest
from ops.store.tables import MANIFEST, VIDEOS, read_tables, write_table

COUNT, MISSING = 2000, 30


def test_keys_of_many_are_the_keys_of_each(dataset) -> None:
    digests = [f"{number:064x}" for number in range(5)] + [""]
    assert frames_keys(digests, dataset) == [frames_key(digest, dataset) for digest in digests]


def test_a_plan_is_what_a_comparison_row_by_row_says(tmp_path) -> None:
    ledger_world.build(str(tmp_path), COUNT, MISSING)
    dataset, layout = ledger_world.dataset_at(str(tmp_path)), Layout(str(tmp_path))
    table = read_tables([layout.video_table("large", 3)], VIDEOS)
    edited = table.to_pylist()
    edited[0]["sha256"] = "0" * 64  # another content
    edited[1] |= {"status": "quarantined", "reason": 'of a "reason"'}
    lost = edited.pop(2)
    write_table(layout.video_table("large", 3), type(table).from_pylist(edited, schema=VIDEOS))
    with Ledger(layout.manifest("large", dataset.frames.key(), 4), MANIFEST) as ledger:
        failed = ledger.table().slice(0, 1).to_pylist()[0]
        ledger.put([{**failed, "status": "quarantined", "reason": "hung", "array_uri": ""}])
    plans = plan_buckets(dataset, layout, range(BUCKETS))
    stored = {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist()}
    wanted, refused, gone = (set() for _ in range(3))
    for plan in plans:
        wanted |= set(plan.wanted["video_id"].to_pylist())
        refused |= set(plan.refused["video_id"].to_pylist())
        gone |= set(plan.gone["video_id"].to_pylist())
    videos = read_tables(
        (layout.video_table("large", bucket) for bucket in range(BUCKETS)), VIDEOS
    ).to_pylist()
    expected = {
        row["video_id"]
        for row in videos
        if row["status"] == "ok"
        and stored.get(row["video_id"], {}).get("key") != frames_key(row["sha256"], dataset)
    }
    assert len(expected) == MISSING + 1 and wanted == expected
    assert refused == {edited[1]["video_id"]} and gone == {lost["video_id"]}
    assert sum(plan.reused for plan in plans) == COUNT - MISSING - 3
    assert sum((plan.reasons for plan in plans), type(plans[0].reasons)()) == {"hung": 1}
    (first,) = [
        row for row in plans[3].wanted.to_pylist() if row["video_id"] == edited[0]["video_id"]
    ]
    assert first["old"] == stored[first["video_id"]]["array_uri"] and first["key"] == frames_key(
        "0" * 64, dataset
    )
    (again,) = [plan for plan in plan_buckets(dataset, layout, [4], retry_quarantined=True)]
    assert failed["video_id"] in again.wanted["video_id"].to_pylist()
    assert [plan.empty for plan in plan_buckets(dataset, layout, [5])] == [plans[5].empty]


def answers(window_sizes: list[int], fail: dict[int, int]):
    """The pool's place in this process; `fail` says how often the store fails for a job."""

    def run(function, jobs, workers):
        window_sizes.append(len(jobs))
        for job in jobs:
            yield None
            if fail.get(job.key, 0):
                fail[job.key] -= 1
                yield Outcome(job, StorageError("s3://b/x", "away", transient=True))
            else:
                yield Outcome(job, job.key * 2)

    return run


def test_jobs_are_taken_in_windows(monkeypatch) -> None:
    sizes: list[int] = []
    taken: list[int] = []

    def jobs():
        for number in range(10):
            taken.append(number)
            yield Job(number, number, 1.0)

    monkeypatch.setattr(engines, "WINDOW", 4)
    monkeypatch.setattr(engines, "run_jobs", answers(sizes, {}))
    outcomes = run_anywhere(print, jobs(), engine="local")
    next(outcomes)
    assert len(taken) == 4
    assert [outcome.value for outcome in outcomes if outcome is not None] == [
        2 * number for number in range(10)
    ]
    assert sizes == [4, 4, 2]


def test_a_store_that_fails_for_a_while_costs_another_try_and_no_more(monkeypatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(engines, "wait_for", lambda uri, error: waited.append(uri))
    sizes: list[int] = []
    monkeypatch.setattr(engines, "run_jobs", answers(sizes, {1: 1, 2: 3}))
    jobs = [Job(number, number, 1.0) for number in range(4)]
    found = [
        outcome.job.key
        for outcome in run_anywhere(print, jobs, engine="local")
        if outcome is not None
    ]
    assert found == [0, 3, 1, 2] and sizes == [4, 2, 1, 1] and len(waited) == 4
    monkeypatch.setattr(engines, "run_jobs", answers([], {1: 99}))
    with pytest.raises(StorageError, match="s3://b/x: away"):
        list(run_anywhere(print, jobs, engine="local"))
    assert len(waited) == 8
