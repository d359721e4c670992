"""Drivers and servers that are killed outright, and a disk that is full: what was finished stays,
the rest comes again, nothing is half.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from configs.schema import Dataset, Frames
from ops.files.storage import StorageError, list_files, read_bytes
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.store.integrity import verify
from ops.store.layout import Layout
from ops.store.reader import FrameReader, read_manifest
from ops.store.stores import stores
from s3_fixtures import once

VIDEOS, WORKERS = 12, 2
IN_FLIGHT = 2 * WORKERS + 1  # under way in the pool, and one whose row waits for its commit
SCRIPT = f"""
import sys
import ops.media.materialize as materializing
import ops.store.bucket_writer as bucket_writer
from configs.schema import Dataset
from ops.store.layout import Layout

if __name__ == "__main__":
    bucket_writer.COMMIT_EVERY_ROWS = 1
    materializing.materialize(Dataset.model_validate_json(sys.argv[1]), Layout(sys.argv[2]), workers={WORKERS})
"""  # noqa: E501


@pytest.fixture
def world(tmp_path, videos, make_video) -> Dataset:
    for index in range(VIDEOS):
        make_video(videos / f"v{index:02d}.mp4", 40 + index, size=(120, 160))
    frames = Frames(codec="lossless", frames_per_shard=4)
    return Dataset(
        name="world", title="t", licence="none", root=str(tmp_path / "world"), frames=frames
    )


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "run.py"
    path.write_text(SCRIPT)
    return path


def contents(layout: Layout) -> dict[str, bytes]:
    """Every file of the arrays, by its path below the storage root."""
    arrays = [info for info in list_files(f"{layout.root}/frames") if "/arrays/" in info.path_below]
    return {info.path_below: read_bytes(info.uri) for info in arrays}


def ledger(dataset: Dataset, layout: Layout) -> list[dict]:
    """Its rows, without the times and the place of this one store."""
    return [
        {name: row[name] for name in row if name not in ("seconds", "array_uri")}
        for row in read_manifest(layout, dataset).to_pylist()
    ]


def assert_equal_stores(dataset: Dataset, one: Layout, other: Layout) -> None:
    assert ledger(dataset, one) == ledger(dataset, other)
    assert contents(one) == contents(other)
    for layout in (one, other):
        (store,) = stores(layout, dataset.name, {dataset.frames.key()})
        assert verify(store, decode=True).damaged == []
        assert {info.path_below.split("/")[0] for info in list_files(store.folder)} == {
            "arrays",
            "manifest",
        }
        assert not [
            info
            for info in list_files(f"{store.folder}/manifest")
            if not info.path_below.endswith(".parquet")
        ]


def assert_readers_see_whole_videos_only(dataset: Dataset, layout: Layout) -> int:
    rows = read_manifest(layout, dataset).to_pylist()
    for row in rows:
        assert (
            FrameReader(row["array_uri"]).read(range(row["num_frames"])).shape[0]
            == row["num_frames"]
        )
    return len(rows)


def interrupted(dataset: Dataset, layout: Layout, script: Path, arrays: int) -> int:
    """Starts a run and kills its main process without notice once so many arrays are begun; returns
    how many were begun by then.
    """
    run = subprocess.Popen([sys.executable, str(script), dataset.model_dump_json(), layout.root])
    folder = Path(layout.root) / "frames" / dataset.name / dataset.frames.key() / "arrays"
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*/*.zarr"))) < arrays and time.monotonic() < deadline:
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGKILL)
    run.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "workers outlive their parent"
    return len(list(folder.glob("*/*.zarr")))


@pytest.mark.slow  # runs of the pool, two of them in processes of their own
def test_a_run_killed_twice_and_run_again_equals_an_undisturbed_one(
    world, layout, tmp_path, script
):
    undisturbed = Layout(str(tmp_path / "undisturbed"))
    for each in (layout, undisturbed):
        ingest(world, each, workers=WORKERS)
    materialize(world, undisturbed, workers=WORKERS)
    for arrays in (4, 9):
        begun = interrupted(world, layout, script, arrays)
        kept = assert_readers_see_whole_videos_only(world, layout)
        assert begun - kept <= IN_FLIGHT
    report = materialize(world, layout, workers=WORKERS)
    assert (report.reused, report.planned, report.done) == (kept, VIDEOS - kept, VIDEOS - kept)
    assert_equal_stores(world, layout, undisturbed)


# -------------------------------------------------------------------------------------------------
# an S3 server that dies


@pytest.fixture
def remote(world, disk_server, videos) -> Dataset:
    """The same videos on the server."""
    from ops.files.storage import write_bytes

    for path in videos.iterdir():
        write_bytes(f"s3://data/world/videos/{path.name}", path.read_bytes())
    return world.model_copy(update={"root": "s3://data/world"})


def on_server(remote: Dataset) -> tuple[Layout, Layout]:
    layouts = Layout("s3://data/disturbed"), Layout("s3://data/undisturbed")
    for each in layouts:
        ingest(remote, each, workers=WORKERS)
    materialize(remote, layouts[1], workers=WORKERS)
    return layouts


@pytest.mark.slow  # a server in a process of its own
def test_a_server_killed_and_started_again_costs_the_work_in_flight(
    remote, disk_server, monkeypatch
):
    monkeypatch.setattr("ops.store.bucket_writer.COMMIT_EVERY_ROWS", 1)
    layout, undisturbed = on_server(remote)

    def restart() -> None:
        disk_server.kill()
        time.sleep(4)
        disk_server.start()

    def begun() -> int:
        return sum(key.startswith("disturbed/") for key in disk_server.put(".zarr/zarr.json"))

    thread = once(lambda: begun() >= 4, restart)
    report = materialize(remote, layout, workers=WORKERS)
    thread.join()
    assert (report.planned, report.done, report.quarantined) == (VIDEOS, VIDEOS, 0)
    assert_equal_stores(remote, layout, undisturbed)
    repeated = sum(
        disk_server.put("/c/0/0/0/0")[key] - 1
        for key in disk_server.put("/c/0/0/0/0")
        if key.startswith("disturbed/")
    )
    assert repeated <= IN_FLIGHT


@pytest.mark.slow
def test_a_server_that_stays_away_fails_loudly_and_the_next_run_goes_on(
    remote, disk_server, monkeypatch
):
    monkeypatch.setattr("ops.store.bucket_writer.COMMIT_EVERY_ROWS", 1)
    monkeypatch.setattr("ops.files.patience.PATIENCE_S", 3.0)
    layout, undisturbed = on_server(remote)
    thread = once(
        lambda: (
            sum(key.startswith("disturbed/") for key in disk_server.put(".zarr/zarr.json")) >= 4
        ),
        disk_server.kill,
    )
    start = time.monotonic()
    with pytest.raises(StorageError, match="failed 3 times") as caught:
        materialize(remote, layout, workers=WORKERS)
    thread.join()
    assert caught.value.transient and time.monotonic() - start < 90
    disk_server.start()
    kept = assert_readers_see_whole_videos_only(remote, layout)
    assert 1 <= kept < VIDEOS
    report = materialize(remote, layout, workers=WORKERS)
    assert (report.reused, report.done) == (kept, VIDEOS - kept)
    assert_equal_stores(remote, layout, undisturbed)


# -------------------------------------------------------------------------------------------------
# a full disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow  # it mounts a disk, and needs root for that
def test_a_full_disk_is_said_and_leaves_nothing_half(world, small_disk, tmp_path, script):
    layout, undisturbed = Layout(str(small_disk / "storage")), Layout(str(tmp_path / "undisturbed"))
    for each in (layout, undisturbed):
        ingest(world, each)
    materialize(world, undisturbed, workers=WORKERS)
    with pytest.raises(StorageError, match=f"{layout.root}.*No space left on device") as caught:
        materialize(world, layout, workers=WORKERS)
    assert caught.value.errno == errno.ENOSPC
    stored = assert_readers_see_whole_videos_only(world, layout)
    assert stored < VIDEOS
    named = {row["array_uri"] for row in read_manifest(layout, world).to_pylist()}
    assert {
        info.uri.split(".zarr/")[0] + ".zarr"
        for info in list_files(f"{layout.root}/frames/world")
        if ".zarr/" in info.uri
    } == named
    run = subprocess.run(
        [sys.executable, str(script), world.model_dump_json(), layout.root],
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0 and "No space left on device" in run.stderr.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    stored = len(read_manifest(layout, world))
    assert materialize(world, layout, workers=WORKERS).reused == stored
    assert_equal_stores(world, layout, undisturbed)
