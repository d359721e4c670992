"""A run that is killed outright: what it has finished stands, and the next run ends where an
undisturbed one does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import killed_extraction
from ops.features.materialize import make_features, read_rows
from ops.files.storage import list_files
from stored import read_features


@pytest.mark.slow  # a process of its own
def test_killed_in_mid_run(frames, trained, extraction) -> None:
    features = extraction(trained())
    command = [
        sys.executable,
        killed_extraction.__file__,
        features.model_dump_json(),
        frames.settings.model_dump_json(),
    ]
    process = subprocess.Popen(command, env=dict(os.environ))
    until = time.monotonic() + 120
    try:
        while not [row for row in read_rows(features, frames.layout) if row["status"] == "ok"]:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    done = {
        row["video_id"]: row for row in read_rows(features, frames.layout) if row["status"] == "ok"
    }
    assert 0 < len(done) < 3 and all(
        len(read_features(row["array_uri"])) == row["num_steps"] for row in done.values()
    )
    report = make_features(features, frames.layout, frames.settings)
    assert (report.done, report.usable) == (3 - len(done), 3)
    after = {row["video_id"]: row for row in read_rows(features, frames.layout)}
    assert {name: after[name] for name in done} == done

    # the number of windows at once changes no key
    whole = extraction(trained(), num_frames=8, batch_size=1)
    fresh = type(frames.layout)(str(Path(frames.layout.root).parent / "fresh"))
    for info in list_files(frames.layout.root):
        if not info.path_below.startswith("features/"):
            target = Path(fresh.root, info.path_below)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(info.uri).read_bytes())
    make_features(whole, fresh, frames.settings)
    undisturbed = {row["video_id"]: row for row in read_rows(whole, fresh)}
    assert undisturbed.keys() == after.keys()
    for name, row in undisturbed.items():
        assert (row["key"], row["status"], row["reason"]) == (
            after[name]["key"],
            after[name]["status"],
            after[name]["reason"],
        )
        if row["status"] == "ok":
            np.testing.assert_allclose(
                read_features(row["array_uri"]),
                read_features(after[name]["array_uri"]),
                rtol=1e-5,
                atol=1e-5,
            )
    names = [info.path_below for info in list_files(f"{frames.layout.root}/features")]
    assert not [name for name in names if "pending" in name or "lease" in name or ".parts" in name]
    assert {name.split(".zarr")[0] for name in names if ".zarr" in name} == {
        row["array_uri"].split("/features/")[1].removesuffix(".zarr")
        for row in after.values()
        if row["array_uri"]
    }
