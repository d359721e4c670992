"""Videos whose frames are wanted at once: fetched, hashed and probed once, to the same tables and
arrays as in two steps.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ops.media.ingest as ingesting
import ops.media.materialize as materializing
import ops.media.store_video as storing
from configs.schema import BUCKETS, Dataset, Frames
from ops.annotations.read import annotate
from ops.compute.pool import Outcome
from ops.files.storage import list_files, read_bytes, write_bytes
from ops.media.ingest import IngestReport, ingest
from ops.media.materialize import FramesReport, materialize
from ops.store.buckets import bucket_of_file
from ops.store.journal import journal_of
from ops.store.layout import Layout
from ops.store.reader import read_manifest
from ops.store.tables import VIDEOS, read_tables
from writer_killer import kill_writers


def tables(dataset: Dataset, layout: Layout) -> tuple[list[dict], list[dict], dict[str, bytes]]:
    """Video table, manifest without times and roots, and every file of the arrays."""
    videos = read_tables(
        [layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)], VIDEOS
    ).to_pylist()
    rows = read_manifest(layout, dataset).to_pylist()
    rows = [
        {**row, "seconds": 0.0, "array_uri": row["array_uri"].removeprefix(layout.root)}
        for row in rows
    ]
    files = {
        info.path_below: read_bytes(info.uri)
        for info in list_files(f"{layout.root}/frames")
        if "/arrays/" in info.path_below
    }
    left = [info.path_below for info in list_files(layout.root)]
    assert not [
        name for name in left for end in (".pending", ".lease", ".parts", ".probed") if end in name
    ]
    return videos, rows, files


@pytest.fixture
def twice(tmp_path: Path) -> tuple[Layout, Layout]:
    return Layout(str(tmp_path / "at once")), Layout(str(tmp_path / "in two steps"))


def bring_in(
    dataset: Dataset, layout: Layout, buckets: list[int] | None = None, workers: int = 1
) -> tuple[IngestReport, FramesReport]:
    """As a run does that is asked for both."""
    found = ingest(dataset, layout, buckets, workers=workers, store=True)
    return found, materialize(dataset, layout, buckets, workers=workers, stored=found.stored)


def in_process(function, jobs, *others):
    """The engine's place, in this process."""
    for job in jobs:
        yield Outcome(job, function(job.payload, ""))


def test_tables_and_arrays_are_those_of_two_steps(dataset, twice, videos, make_video) -> None:
    """Good ones, refused ones, two files that claim one id, a changed file, one that is gone."""
    for name in ("a", "b/c", "x"):
        make_video(videos / f"{name}.mp4", 12)
    make_video(videos / "x.avi", 9, codec="mpeg4")
    make_video(videos / "gone.mp4", 7)
    (videos / "text.mp4").write_text("text")
    (videos / "bad.mp4").write_bytes((videos / "a.mp4").read_bytes()[:2000])
    # sound by its tables, which is all that a probe looks at; the decoder refuses it
    film = make_video(videos / "torn.mp4", 30).read_bytes()
    half = film.index(b"mdat") + (film.index(b"moov") - film.index(b"mdat")) // 2
    (videos / "torn.mp4").write_bytes(film[:half] + bytes(400) + film[half + 400 :])
    for step in range(2):
        found, report = bring_in(dataset, twice[0], workers=2)
        before = ingest(dataset, twice[1], workers=2)
        after = materialize(dataset, twice[1], workers=2)
        assert tables(dataset, twice[0]) == tables(dataset, twice[1])
        for name in ("done", "planned", "reused", "quarantined", "frames", "bytes", "reasons"):
            assert getattr(report, name) == getattr(after, name), name
        assert (found.probed, found.ok, found.quarantined) == (
            before.probed,
            before.ok,
            before.quarantined,
        )
        assert any("corrupt" in reason for reason in report.reasons)
        # x is claimed twice: its id is told when both were probed
        assert found.stored.done == (4 - 1 if step == 0 else 1)
        make_video(videos / "a.mp4", 20)
        (videos / "gone.mp4").unlink(missing_ok=True)


def test_what_is_refused_and_tried_again_at_once_is_counted_once(
    dataset, layout, videos, make_video, monkeypatch
) -> None:
    for name in "ab":
        make_video(videos / f"{name}.mp4", 8)
    real = storing._store
    monkeypatch.setattr(
        storing,
        "_store",
        lambda path, *more: {"reason": "odd"} if path.stem == "a" else real(path, *more),
    )
    for engine in (ingesting, materializing):
        monkeypatch.setattr(engine, "run_anywhere", in_process)
    found = ingest(dataset, layout, store=True)
    report = materialize(dataset, layout, retry_quarantined=True, stored=found.stored)
    assert (report.planned, report.reused, report.done, report.quarantined) == (2, 0, 1, 1)


def test_each_video_is_fetched_once(s3, make_video, tmp_path) -> None:
    dataset = Dataset(
        name="remote",
        title="t",
        licence="none",
        root="{storage}/datasets/remote",
        frames=Frames(frames_per_shard=8),
    )
    layout = Layout(s3.bucket)
    for name in "abc":
        write_bytes(
            f"{layout.videos_folder(dataset)}/{name}.mp4",
            make_video(tmp_path / f"{name}.mp4", 10).read_bytes(),
        )
    s3.requests.clear()
    buckets = sorted({bucket_of_file(f"{name}.mp4") for name in "abc"})
    _, report = bring_in(dataset, layout, buckets, workers=1)
    fetched = [path for method, path in s3.requests if method == "GET" and path.endswith(".mp4")]
    assert report.done == 3 and len(fetched) == len(set(fetched)) == 3


def test_a_dataset_of_a_web_server(web_folder, layout, make_video) -> None:
    """Videos and annotation files are read where they lie."""
    url, folder = web_folder
    make_video(folder / "videos" / "deep" / "a+b.mp4", 10)
    (folder / "train.txt").write_text("deep/a+b.mp4 0\n")
    (folder / "names.txt").write_text("running\n")
    annotations = [
        {
            "table": "clips",
            "format": "video_list",
            "path": "train.txt",
            "split": "train",
            "labels": "names.txt",
        }
    ]
    values = {
        "name": "far",
        "title": "t",
        "licence": "none",
        "root": url,
        "annotations": annotations,
    }
    dataset = Dataset.model_validate(values)
    _, report = bring_in(dataset, layout)
    assert report.done == 1 and [
        row["video_id"] for row in read_manifest(layout, dataset).to_pylist()
    ] == ["deep/a+b"]
    assert annotate(dataset, layout).num_problems == 0
    _, report = bring_in(dataset, layout)
    assert (report.done, report.reused) == (0, 1)


@pytest.mark.slow  # a worker is killed, a long film decoded three times
def test_a_decoder_that_dies_is_tried_by_itself(twice, videos, make_video, tmp_path) -> None:
    """The worker is killed while it stores: the second try probes alone, nothing half is left, and
    the frames' own step decides.
    """
    frames = Frames(codec="lossless", frames_per_shard=2)
    dataset = Dataset(
        name="world", title="t", licence="none", root=str(tmp_path / "world"), frames=frames
    )
    make_video(videos / "long.mp4", 60, size=(240, 320))
    target = Path(twice[0].frames("world", dataset.frames.key(), "long", "x")).parent
    stop, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_writers, args=(target, 1, stop, killed))
    killer.start()
    try:
        report = ingest(dataset, twice[0], workers=1, store=True)
    finally:
        stop.set()
        killer.join()
    assert (
        len(killed) == 1
        and report.ok == 1
        and report.stored.worked == 0
        and not list_files(str(target))
    )
    materialize(dataset, twice[0], workers=1)
    ingest(dataset, twice[1], workers=1)
    materialize(dataset, twice[1], workers=1)
    assert tables(dataset, twice[0]) == tables(dataset, twice[1])


def test_what_a_run_cut_short_has_begun_goes(
    dataset, layout, videos, make_video, monkeypatch
) -> None:
    for name in "abcd":
        make_video(videos / f"{name}.mp4", 8)
    real, begun = storing.store_frames, []

    def ends(path, facts, job, *more):
        begun.append(job.video_id)
        if len(begun) == 3:
            write_bytes(f"{job.array_uri}/c/0/0/0/0", b"half")
            raise KeyboardInterrupt
        return real(path, facts, job, *more)

    with monkeypatch.context() as patch:
        patch.setattr(ingesting, "run_anywhere", in_process)
        patch.setattr(storing, "store_frames", ends)
        with pytest.raises(KeyboardInterrupt):
            ingest(dataset, layout, store=True)
    kept = {row["video_id"] for row in read_manifest(layout, dataset).to_pylist()}
    files = [
        info.path_below.split("/arrays/")[1]
        for info in list_files(f"{layout.root}/frames")
        if "/arrays/" in info.path_below
    ]
    assert kept == set(begun[:2]) == {name.split("/")[0] for name in files}
    _, report = bring_in(dataset, layout, workers=1)
    assert (report.done, report.reused) == (2, 2)


def test_a_file_that_was_replaced_between_two_tries_leaves_nothing_half(
    dataset, layout, videos, make_video, monkeypatch
) -> None:
    """The worker dies while it stores; when the file is probed again it is no film any more."""
    film = make_video(videos / "a.mp4", 8)
    make_video(videos / "b.mp4", 8)

    def dies(path, facts, job, *more):
        write_bytes(f"{job.array_uri}/c/0/0/0/0", b"half")
        raise SystemExit

    def tried_twice(function, jobs, *others):
        for job in jobs:
            with pytest.raises(SystemExit):
                function(job.payload, "")
            film.write_text("no film")
            yield Outcome(job, function(job.payload, "signal 11"))

    with monkeypatch.context() as patch:
        patch.setattr(ingesting, "run_anywhere", tried_twice)
        patch.setattr(storing, "store_frames", dies)
        report = ingest(dataset, layout, store=True)
    assert (report.ok, report.quarantined, report.stored.worked) == (1, 1, 0)
    assert not list_files(f"{layout.root}/frames")


def test_a_journal_that_names_a_folder_takes_its_arrays_alone(dataset, layout) -> None:
    """A video's folder may be named like an array; what lies deeper is another video's."""
    journal = journal_of(layout.manifest("world", dataset.frames.key(), 3))
    for name in ("x.zarr/old.zarr", "x.zarr/new.zarr", "x.zarr/deep/new.zarr", "y/new.zarr"):
        write_bytes(f"{journal.arrays}/{name}/zarr.json", b"{}")
    journal.open([journal.any_of("x.zarr")])
    assert journal.names() == [f"{journal.arrays}/x.zarr/{name}.zarr" for name in ("new", "old")]
    journal.sweep({f"{journal.arrays}/x.zarr/old.zarr"})
    left = {info.path_below for info in list_files(journal.arrays)}
    assert left == {
        "x.zarr/old.zarr/zarr.json",
        "x.zarr/deep/new.zarr/zarr.json",
        "y/new.zarr/zarr.json",
    }
