from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import ops.media.materialize as materializing
import ops.store.manifest as manifests
from configs.schema import Dataset, Frames
from ops.compute.pool import Outcome
from ops.files.storage import StorageError, list_files, remove, write_bytes
from ops.media.audit import audit
from ops.media.decode import decode
from ops.media.ingest import DatasetError, ingest
from ops.media.materialize import materialize
from ops.store.buckets import bucket_of_file
from ops.store.journal import journal_of
from ops.store.lease import Busy
from ops.store.ledger import Ledger, lease_uri
from ops.store.reader import FrameReader, read_manifest
from ops.store.tables import MANIFEST
from writer_killer import kill_writers


def rows(dataset, layout):
    return {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist()}


def arrays(dataset, layout) -> set[str]:
    """Arrays that lie in the store, whole or not."""
    folder = f"{layout.root}/frames/{dataset.name}/{dataset.frames.key()}/arrays"
    return {info.uri.split(".zarr/")[0] + ".zarr" for info in list_files(folder)}


def test_frames_are_stored_and_refusals_kept_with_their_reason(dataset, layout, videos, make_video):
    path = make_video(videos / "a/one.mp4", 30)
    (videos / "notes.txt").write_text("these are notes")
    data = make_video(
        videos / "bad.mp4", 40, options={"g": "1"}, container={"movflags": "faststart"}
    ).read_bytes()
    (videos / "bad.mp4").write_bytes(data[:-2000] + b"\xff" * 2000)
    ingest(dataset, layout)
    seen = []
    report = materialize(
        dataset, layout, workers=2, progress=lambda done, total: seen.append((done, total))
    )
    found = rows(dataset, layout)
    one = found["a/one"]
    assert (
        one["status"],
        one["num_frames"],
        one["height"],
        one["width"],
        one["fps"],
        one["decoder"],
    ) == ("ok", 30, 64, 96, 25.0, "decord")
    frames = FrameReader(one["array_uri"]).read(range(30))
    assert np.abs(frames.astype(int) - np.concatenate(list(decode(path)))).mean() < 2
    assert FrameReader(one["array_uri"]).attributes["source_sha256"] == one["sha256"]
    assert one["bytes"] == sum(info.bytes for info in list_files(one["array_uri"]))
    notes = found["notes"]
    assert (notes["status"], notes["reason"], notes["array_uri"]) == (
        "quarantined",
        "not a video file (text)",
        "",
    )
    assert found["bad"]["status"] == "quarantined" and found["bad"]["reason"].startswith("corrupt:")
    assert arrays(dataset, layout) == {one["array_uri"]}
    assert (report.planned, report.done, report.reused, report.quarantined, report.frames) == (
        2,
        1,
        0,
        2,
        30,
    )
    assert seen[-1] == (2, 2) and report.bytes == one["bytes"] and sum(report.reasons.values()) == 2
    assert audit(dataset, layout, 10, workers=1) == []


def test_a_second_run_decodes_nothing_and_a_change_only_itself(
    dataset, layout, videos, make_video, monkeypatch
):
    for name in "abc":
        make_video(videos / f"{name}.mp4", 10)
    (videos / "d.txt").write_text("text")
    ingest(dataset, layout)
    materialize(dataset, layout, workers=2)
    before = rows(dataset, layout)
    with monkeypatch.context() as patch:
        patch.setattr(materializing, "run_anywhere", no_jobs)
        report = materialize(dataset, layout)
    assert (report.planned, report.reused, report.done) == (0, 4, 0) and rows(
        dataset, layout
    ) == before
    make_video(videos / "b.mp4", 14)
    (videos / "c.mp4").unlink()
    ingest(dataset, layout)
    report = materialize(dataset, layout, workers=1)
    after = rows(dataset, layout)
    assert (report.planned, report.done, report.reused) == (1, 1, 2)
    assert after["a"] == before["a"] and after["b"]["num_frames"] == 14 and "c" not in after
    # those of old contents are gone
    assert arrays(dataset, layout) == {after["a"]["array_uri"], after["b"]["array_uri"]}


def no_jobs(*arguments):
    """Stands where jobs are run, and fails when it is called."""
    raise AssertionError("there is something to do")


def test_another_size_codec_or_code_version_is_another_store(
    dataset, layout, videos, make_video, monkeypatch
):
    make_video(videos / "a.mp4", 10)
    ingest(dataset, layout)
    materialize(dataset, layout, workers=1)
    small = dataset.model_copy(update={"frames": Frames(short_side=32, codec="lossless")})
    assert materialize(small, layout, workers=1).done == 1
    assert rows(small, layout)["a"]["height"] == 32 and rows(dataset, layout)["a"]["height"] == 64
    old = rows(dataset, layout)["a"]
    monkeypatch.setattr(manifests, "FRAMES", "another")
    assert materialize(dataset, layout, workers=1).done == 1
    new = rows(dataset, layout)["a"]
    assert new["array_uri"] != old["array_uri"] and arrays(dataset, layout) == {new["array_uri"]}


def test_a_file_that_changed_since_ingest_is_told_apart(dataset, layout, videos, make_video):
    make_video(videos / "a.mp4", 10)
    make_video(videos / "b.mp4", 10)
    ingest(dataset, layout)
    make_video(videos / "a.mp4", 12)
    (videos / "b.mp4").unlink()
    materialize(dataset, layout, workers=1)
    found = rows(dataset, layout)
    assert found["a"]["reason"] == "the file changed after it was ingested; ingest again"
    assert found["b"]["reason"] == "the file vanished after it was ingested; ingest again"
    ingest(dataset, layout)
    materialize(dataset, layout, workers=1)
    assert rows(dataset, layout)["a"]["num_frames"] == 12


def test_a_new_verdict_of_ingest_is_a_new_row(dataset, layout, videos, make_video):
    make_video(videos / "a.mp4", 6)
    make_video(videos / "a.avi", 6, codec="mpeg4")
    ingest(dataset, layout)
    materialize(dataset, layout, workers=1)
    assert rows(dataset, layout)["a.mp4"]["reason"].startswith("duplicate video_id")
    (videos / "a.avi").unlink()
    ingest(dataset, layout)
    materialize(dataset, layout, workers=1)
    found = rows(dataset, layout)
    assert set(found) == {"a"} and found["a"]["status"] == "ok"
    assert arrays(dataset, layout) == {found["a"]["array_uri"]}


def test_a_bucket_without_a_video_table_says_so(dataset, layout):
    with pytest.raises(DatasetError, match="no video table at .*; ingest the dataset first"):
        materialize(dataset, layout, [0])


def test_buckets_are_worked_on_alone(dataset, layout, videos, make_video):
    for index in range(4):
        make_video(videos / f"v{index}.mp4", 5)
    ingest(dataset, layout)
    bucket = bucket_of_file("v1.mp4")
    materialize(dataset, layout, [bucket], workers=1)
    assert set(rows(dataset, layout)) == {
        f"v{index}" for index in range(4) if bucket_of_file(f"v{index}") == bucket
    }


# One kill is the slow case: a part of the second, and it decodes the long video to its end.
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_worker_killed_in_mid_decode_is_retried_once_then_named(
    times, layout, videos, make_video, tmp_path
):
    dataset = Dataset(
        name="world",
        title="t",
        licence="none",
        root=str(tmp_path / "world"),
        frames=Frames(codec="lossless", frames_per_shard=2),
    )
    make_video(videos / "long.mp4", 60, size=(240, 320))
    make_video(videos / "short.mp4", 5)
    ingest(dataset, layout)
    target = Path(layout.frames("world", dataset.frames.key(), "long", "x")).parent
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_writers, args=(target, times, stop, killed))
    killer.start()
    try:
        materialize(dataset, layout, workers=1)
    finally:
        stop.set()
        killer.join()
    assert len(killed) == times
    found = rows(dataset, layout)
    assert found["short"]["status"] == "ok"
    if times == 1:
        assert (found["long"]["status"], found["long"]["num_frames"]) == ("ok", 60)
        assert FrameReader(found["long"]["array_uri"]).read(range(60)).shape[0] == 60
    else:
        assert (found["long"]["status"], found["long"]["reason"]) == (
            "quarantined",
            f"decoder process died (signal {signal.SIGKILL:d})",
        )
        assert arrays(dataset, layout) == {found["short"]["array_uri"]}
        assert materialize(dataset, layout, workers=1).planned == 0
        assert materialize(dataset, layout, workers=1, retry_quarantined=True).done == 1


def test_audit_tells_what_does_not_agree(dataset, layout, videos, make_video):
    for name in "abc":
        make_video(videos / f"{name}.mp4", 10)
    ingest(dataset, layout)
    materialize(dataset, layout, workers=1)
    found = rows(dataset, layout)
    remove(f"{found['a']['array_uri']}/c/1")
    (videos / "b.mp4").unlink()
    make_video(videos / "c.mp4", 8)
    reasons = {
        mismatch.video_id: (mismatch.counted, mismatch.reason)
        for mismatch in audit(dataset, layout, 3, workers=1)
    }
    assert "its shard is missing" in reasons["a"][1]
    assert reasons["b"] == (None, "the source video is gone")
    assert reasons["c"] == (8, "decord gave 10 frames, pyav 8")


def test_everything_on_s3(s3, make_video, tmp_path):
    from ops.files.storage import write_bytes
    from ops.store.layout import Layout

    dataset = Dataset(
        name="remote",
        title="t",
        licence="none",
        root="{storage}/datasets/remote",
        frames=Frames(frames_per_shard=8),
    )
    layout = Layout(s3.bucket)
    write_bytes(
        f"{layout.videos_folder(dataset)}/a.mp4", make_video(tmp_path / "a.mp4", 20).read_bytes()
    )
    bucket = bucket_of_file("a.mp4")
    ingest(dataset, layout, [bucket], workers=1)
    assert materialize(dataset, layout, [bucket], workers=1).done == 1
    assert materialize(dataset, layout, [bucket], workers=1).reused == 1
    row = rows(dataset, layout)["a"]
    assert row["array_uri"].startswith(s3.bucket) and FrameReader(row["array_uri"]).read(
        [0, 19]
    ).shape == (2, 64, 96, 3)
    assert len(read_manifest(layout, dataset, [bucket])) == 1


def test_what_a_dead_run_has_left_goes_even_where_nothing_is_to_do(
    dataset, layout, videos, make_video
):
    make_video(videos / "a.mp4", 5)
    ingest(dataset, layout, workers=1)
    materialize(dataset, layout, workers=1)
    before, number = rows(dataset, layout), bucket_of_file("a.mp4")
    manifest = layout.manifest("world", dataset.frames.key(), number)
    half = layout.frames("world", dataset.frames.key(), "b", "k")
    write_bytes(f"{half}/c/0/0/0/0", b"half")
    journal_of(manifest).open([half, before["a"]["array_uri"]])
    gone = {"token": "x", "machine": "another", "beat": 1, "time": 0.0, "pid": 1}
    write_bytes(lease_uri(manifest), json.dumps(gone).encode())
    assert materialize(dataset, layout).reused == 1
    assert rows(dataset, layout) == before and arrays(dataset, layout) == {before["a"]["array_uri"]}
    folder = f"{layout.root}/frames/world/{dataset.frames.key()}/manifest"
    assert {info.path_below for info in list_files(folder)} == {f"{number:04d}.parquet"}


def test_two_runs_of_a_bucket_are_refused_where_both_have_work(dataset, layout, videos, make_video):
    make_video(videos / "a.mp4", 5)
    ingest(dataset, layout, workers=1)
    other = Ledger(
        layout.manifest("world", dataset.frames.key(), bucket_of_file("a.mp4")), MANIFEST
    )
    other.open()
    with pytest.raises(Busy, match="is writing there"):
        materialize(dataset, layout, workers=1)
    assert arrays(dataset, layout) == set()
    other.close()
    materialize(dataset, layout, workers=1)
    other.open()
    assert materialize(dataset, layout, workers=1).reused == 1  # it has nothing to add
    other.close()


def test_a_worker_that_does_not_see_our_disk_is_a_mistake_and_not_a_bad_video(
    dataset, layout, videos, make_video, monkeypatch
):
    make_video(videos / "a.mp4", 5)
    ingest(dataset, layout, workers=1)
    stored = {
        "num_frames": 5,
        "height": 64,
        "width": 96,
        "fps": 25.0,
        "bytes": 9,
        "status": "ok",
        "reason": "",
        "seconds": 0.0,
    }
    for value in (
        {**stored, "decoder": "d", "decoder_version": "1"},
        {"reason": "the file vanished after it was ingested", "seconds": 0.0},
    ):

        def elsewhere(function, jobs, *others, value=value):
            yield from (Outcome(job, value) for job in jobs)

        monkeypatch.setattr(materializing, "run_anywhere", elsewhere)
        with pytest.raises(StorageError, match="a worker on another machine does not see it"):
            materialize(dataset, layout)
        assert rows(dataset, layout) == {}
