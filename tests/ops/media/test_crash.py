"""A run that is killed outright, and a disk that is full."""

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
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.store.files import StorageError, list_files
from ops.store.layout import Layout
from ops.store.reader import FrameReader, read_manifest

SCRIPT = """
import sys
from configs.schema import Dataset
from ops.media.materialize import materialize
from ops.store.layout import Layout

if __name__ == "__main__":
    materialize(Dataset.model_validate_json(sys.argv[1]), Layout(sys.argv[2]), workers=2)
"""


@pytest.fixture
def world(tmp_path, videos, make_video) -> Dataset:
    for index in range(8):
        make_video(videos / f"v{index}.mp4", 40 + index, size=(120, 160))
    return Dataset(
        name="world", title="t", licence="none", root=str(tmp_path / "world"), frames=Frames(codec="lossless", frames_per_shard=4)
    )


def contents(dataset: Dataset, layout: Layout) -> dict[str, bytes]:
    """Every file of the frames, by its path below the storage root."""
    return {
        info.path_below: Path(info.uri).read_bytes() for info in list_files(f"{layout.root}/frames") if ".parquet" not in info.path_below
    }


def ledger(dataset: Dataset, layout: Layout) -> list[dict]:
    keep = ("video_id", "key", "num_frames", "status", "reason", "decoder", "bytes")
    return [{name: row[name] for name in keep} for row in read_manifest(layout, dataset).to_pylist()]


def assert_readers_see_whole_videos_only(dataset: Dataset, layout: Layout) -> int:
    rows = read_manifest(layout, dataset).to_pylist()
    for row in rows:
        assert FrameReader(row["uri"]).read(range(row["num_frames"])).shape[0] == row["num_frames"]
    return len(rows)


def interrupted(dataset: Dataset, layout: Layout, script: Path, arrays: int) -> None:
    """Starts a run and kills its main process without notice once so many arrays are begun."""
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


@pytest.mark.slow  # five runs of the pool, two of them in processes of their own
def test_a_run_killed_twice_and_run_again_equals_an_undisturbed_one(world, layout, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    ingest(world, layout)
    undisturbed = Layout(str(tmp_path / "undisturbed"))
    ingest(world, undisturbed)
    materialize(world, undisturbed, workers=2)
    for arrays in (2, 5):
        interrupted(world, layout, script, arrays)
        assert_readers_see_whole_videos_only(world, layout)
    materialize(world, layout, workers=2)
    assert assert_readers_see_whole_videos_only(world, layout) == 8
    assert ledger(world, layout) == ledger(world, undisturbed)
    assert contents(world, layout) == contents(world, undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow  # it mounts a disk, and needs root for that
def test_a_full_disk_is_said_and_leaves_nothing_half(world, small_disk, tmp_path):
    layout = Layout(str(small_disk / "storage"))
    ingest(world, layout)
    with pytest.raises(StorageError, match=f"{layout.root}.*No space left on device") as caught:
        materialize(world, layout, workers=2)
    assert caught.value.errno == errno.ENOSPC
    stored = assert_readers_see_whole_videos_only(world, layout)
    assert stored < 8
    named = {row["uri"] for row in read_manifest(layout, world).to_pylist()}
    assert {info.uri.split(".zarr/")[0] + ".zarr" for info in list_files(f"{layout.root}/frames/world") if ".zarr/" in info.uri} == named
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    run = subprocess.run([sys.executable, str(script), world.model_dump_json(), layout.root], capture_output=True, text=True)
    assert run.returncode != 0 and "No space left on device" in run.stderr.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    materialize(world, layout, workers=2)
    assert assert_readers_see_whole_videos_only(world, layout) == 8
