from __future__ import annotations

import os

import pytest

import ops.media.ingest as ingesting
from configs.schema import BUCKETS, Dataset
from ops.compute.pool import Outcome
from ops.files.storage import StorageError, list_files
from ops.media.ingest import DatasetError, ingest
from ops.store.buckets import bucket_of_file
from ops.store.lease import Busy
from ops.store.tables import VIDEOS, read_tables


def table(dataset, layout):
    rows = read_tables(
        [layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)], VIDEOS
    ).to_pylist()
    return {row["video_id"]: row for row in rows}


def test_every_file_gets_a_row_usable_or_with_its_reason(dataset, layout, videos, make_video):
    make_video(videos / "a/one.mp4", 24)
    make_video(videos / "a/two.mkv", 30)
    (videos / "notes.txt").write_text("these are notes")
    (videos / "empty.mp4").touch()
    seen = []
    report = ingest(dataset, layout, progress=lambda done, total: seen.append((done, total)))
    rows = table(dataset, layout)
    assert set(rows) == {"a/one", "a/two", "notes", "empty"}
    assert (
        rows["a/one"]["status"],
        rows["a/one"]["num_frames_packets"],
        rows["a/one"]["codec"],
    ) == ("ok", 24, "h264")
    assert (
        rows["a/one"]["fps_num"],
        rows["a/one"]["fps_den"],
        rows["a/one"]["width"],
        rows["a/one"]["height"],
    ) == (25, 1, 96, 64)
    assert len(rows["a/one"]["sha256"]) == 64 and rows["a/one"]["source_uri"].endswith(
        "videos/a/one.mp4"
    )
    assert (rows["notes"]["status"], rows["notes"]["reason"]) == (
        "quarantined",
        "not a video file (text)",
    )
    assert rows["empty"]["reason"] == "empty file"
    assert (report.found, report.probed, report.reused, report.ok, report.quarantined) == (
        4,
        4,
        0,
        2,
        2,
    )
    assert report.reasons == {"not a video file (text)": 1, "empty file": 1} and seen[-1] == (4, 4)
    assert report.bytes == sum(row["bytes"] for row in rows.values())


def test_only_new_and_changed_files_are_probed_and_lost_ones_go(
    dataset, layout, videos, make_video, monkeypatch
):
    for name in "abc":
        make_video(videos / f"{name}.mp4", 10)
    ingest(dataset, layout)
    before = table(dataset, layout)
    stamps = {
        bucket: os.stat(layout.video_table(dataset.name, bucket)).st_mtime_ns
        for bucket in range(BUCKETS)
    }
    report = ingest(dataset, layout)
    assert (report.probed, report.reused, report.ok) == (0, 3, 3) and table(
        dataset, layout
    ) == before
    assert stamps == {
        bucket: os.stat(layout.video_table(dataset.name, bucket)).st_mtime_ns
        for bucket in range(BUCKETS)
    }
    make_video(videos / "b.mp4", 12)
    (videos / "c.mp4").unlink()
    report = ingest(dataset, layout)
    assert (report.probed, report.reused) == (1, 1)
    after = table(dataset, layout)
    assert (
        after["a"] == before["a"]
        and after["b"]["sha256"] != before["b"]["sha256"]
        and "c" not in after
    )
    monkeypatch.setattr(ingesting, "INGEST", "another")
    assert ingest(dataset, layout).probed == 2


def test_a_bucket_is_ingested_without_the_others(dataset, layout, videos, make_video):
    names = [f"v{index}" for index in range(4)]
    for name in names:
        make_video(videos / f"{name}.mp4", 5)
    bucket = bucket_of_file("v2.mp4")
    report = ingest(dataset, layout, [bucket])
    assert set(table(dataset, layout)) == {name for name in names if bucket_of_file(name) == bucket}
    assert report.found == len(table(dataset, layout))
    empty = next(
        other for other in range(BUCKETS) if other not in {bucket_of_file(name) for name in names}
    )
    assert ingest(dataset, layout, [empty]).found == 0


def test_of_two_files_with_one_id_the_usable_one_has_it_then_the_first(
    dataset, layout, videos, make_video
):
    make_video(videos / "x.mp4", 6)
    make_video(videos / "x.avi", 5, codec="mpeg4")
    (videos / "x.log").write_text("{}")
    (videos / "y.aaa").write_text("a side file that sorts first")
    make_video(videos / "y.mp4", 7)
    ingest(dataset, layout)
    rows = table(dataset, layout)
    assert {key: row["status"] for key, row in rows.items()} == {
        "x": "ok",
        "x.mp4": "quarantined",
        "x.log": "quarantined",
        "y": "ok",
        "y.aaa": "quarantined",
    }
    assert (
        rows["x"]["source_uri"].endswith("x.avi")
        and rows["x.mp4"]["reason"] == "duplicate video_id 'x': x.avi has it"
    )
    (videos / "x.avi").unlink()
    assert ingest(dataset, layout).probed == 0
    assert (
        table(dataset, layout)["x"]["source_uri"].endswith("x.mp4")
        and table(dataset, layout)["x"]["status"] == "ok"
    )


def test_a_missing_or_empty_folder_says_what_to_do(dataset, layout, videos):
    with pytest.raises(
        DatasetError,
        match=f"dataset 'world': the videos folder {videos} does not exist; put the videos there",
    ):
        ingest(dataset, layout)
    videos.mkdir(parents=True)
    with pytest.raises(DatasetError, match="is empty"):
        ingest(dataset, layout)
    (videos / "a.txt").write_text("no video")
    with pytest.raises(
        DatasetError,
        match=r"none of the 1 files .* is a usable video \(1 x not a video file \(text\)\)",
    ):
        ingest(dataset, layout)
    assert table(dataset, layout)["a"]["status"] == "quarantined"


def test_an_unreadable_file_is_one_row_and_looked_at_again(
    dataset, layout, videos, make_video, monkeypatch
):
    make_video(videos / "a.mp4", 5)
    row = ingesting.probe_file(
        (ingesting.FileInfo(str(videos / "gone.mp4"), "gone.mp4", 1, "1"), None), ""
    )
    assert row == {"reason": "not readable: it vanished while it was read"}
    real = ingesting.probe_file
    monkeypatch.setattr(ingesting, "run_anywhere", in_process)
    monkeypatch.setattr(ingesting, "probe_file", lambda info, attempt: row)
    with pytest.raises(DatasetError, match="1 x not readable: it vanished"):
        ingest(dataset, layout)
    monkeypatch.setattr(ingesting, "probe_file", real)
    assert ingest(dataset, layout).probed == 1 and table(dataset, layout)["a"]["status"] == "ok"


def in_process(function, jobs, *others):
    """The engine's place, in this process."""
    for job in jobs:
        yield Outcome(job, function(job.payload, ""))


def test_a_run_cut_short_keeps_what_was_probed(dataset, layout, videos, make_video, monkeypatch):
    for index in range(6):
        make_video(videos / f"v{index}.mp4", 5)
    probed = []
    real = ingesting.probe_file

    def probe(payload, attempt):
        if len(probed) == 4:
            raise StorageError(payload[0].uri, "gone", transient=True)
        probed.append(payload[0].uri)
        return real(payload, attempt)

    with monkeypatch.context() as patch:
        patch.setattr(ingesting, "run_anywhere", in_process)
        patch.setattr(ingesting, "probe_file", probe)
        with pytest.raises(StorageError, match="gone"):
            ingest(dataset, layout)
    report = ingest(dataset, layout)
    assert (report.probed, report.reused, report.ok) == (2, 4, 6)
    folder = f"{layout.root}/tables/world/videos"
    assert {info.path_below for info in list_files(folder)} == {
        f"{bucket:04d}.parquet" for bucket in range(BUCKETS)
    }
    assert (ingest(dataset, layout).probed, set(table(dataset, layout))) == (
        0,
        {f"v{index}" for index in range(6)},
    )


def test_two_runs_at_once_are_refused(dataset, layout, videos, make_video):
    make_video(videos / "a.mp4", 5)
    other = ingesting.Bucket(
        layout.video_table("world", bucket_of_file("a.mp4")), str(videos), list_files(str(videos))
    )
    other.probed.open()
    with pytest.raises(Busy, match="is writing there"):
        ingest(dataset, layout, workers=1)
    other.writer.abort()
    assert ingest(dataset, layout, workers=1).ok == 1


def test_videos_on_s3(s3, layout, make_video, tmp_path):
    from ops.files.storage import write_bytes

    write_bytes(f"{s3.bucket}/set/videos/a.mp4", make_video(tmp_path / "a.mp4", 9).read_bytes())
    dataset = Dataset(name="remote", title="t", licence="none", root=f"{s3.bucket}/set")
    assert ingest(dataset, layout).probed == 1
    assert ingest(dataset, layout).reused == 1
    row = table(dataset, layout)["a"]
    assert (row["status"], row["num_frames_packets"], row["source_uri"]) == (
        "ok",
        9,
        f"{s3.bucket}/set/videos/a.mp4",
    )
