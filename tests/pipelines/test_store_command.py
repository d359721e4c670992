"""`kinograph store` on a small world: what it shows, what it removes, and what it says of
damage.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import configs
from ops.files.storage import exists, remove, write_bytes
from ops.store.buckets import bucket_of
from ops.store.frames import write_frames
from ops.store.layout import Layout
from ops.store.ledger import Ledger
from ops.store.manifest import frames_key, read_manifest
from ops.store.tables import MANIFEST
from pipelines.main import main

NAME = "kinetics400"


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    """A home where one video of a known dataset is stored."""
    monkeypatch.chdir(tmp_path)
    for name in ("KINOGRAPH_STORAGE", "KINOGRAPH_CONFIGS", "MLFLOW_TRACKING_URI", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    layout, dataset = Layout(str(tmp_path / "home")), configs.dataset(NAME)
    key = frames_key("5" * 64, dataset)
    uri = layout.frames(NAME, dataset.frames.key(), "a", key)
    about = {
        "fps": 5.0,
        "source_uri": "a.mp4",
        "source_sha256": "5" * 64,
        "decoder": "decord",
        "decoder_version": "1",
    }
    stored = write_frames(uri, np.zeros((6, 16, 24, 3), np.uint8), dataset.frames, about)
    row = {
        "video_id": "a",
        "dataset": NAME,
        "sha256": "5" * 64,
        "key": key,
        "array_uri": uri,
        "num_frames": 6,
        "height": 16,
        "width": 24,
    }
    texts = {"status": "ok", "reason": "", "decoder": "decord", "decoder_version": "1", "audit": ""}
    with Ledger(layout.manifest(NAME, dataset.frames.key(), bucket_of("a")), MANIFEST) as ledger:
        ledger.put([{**row, **texts, "fps": 5.0, "bytes": stored.bytes, "seconds": 0.0}])
    return layout


def said(capsys: pytest.CaptureFixture, *arguments: str, status: int = 0) -> str:
    assert main(["store", *arguments]) == status
    return capsys.readouterr().out


def test_the_store_command(layout, capsys) -> None:
    dataset = configs.dataset(NAME)
    row = read_manifest(layout, dataset).to_pylist()[0]
    out = said(capsys, "sizes")
    assert f"frames {dataset.frames.key()}" in out and "1 │" in out and "B │" in out
    orphan, old = (
        f"{Path(row['array_uri']).parent.parent}/gone/k.zarr",
        f"{layout.root}/frames/{NAME}/oldkey",
    )
    for uri in (orphan, old):
        write_bytes(f"{uri}/c/0/0/0/0", b"x" * 1234)
    out = said(capsys, "gc", NAME)
    assert (
        "1.2 kB" in out
        and "oldkey (no longer in use)" in out
        and "--delete" in out
        and exists(orphan)
    )
    assert "Removed." in said(capsys, "gc", NAME, "--delete")
    assert not exists(orphan) and not exists(old) and exists(row["array_uri"])
    assert "│       0 │" in said(capsys, "verify", NAME, "--decode")
    remove(f"{row['array_uri']}/c/0/0/0/0")
    out = said(capsys, "verify", NAME, status=1)
    assert "a: its shard c/0/0/0/0 is missing" in out and "--repair" in out
    assert "the next run makes them anew" in said(capsys, "verify", NAME, "--repair")
    assert len(read_manifest(layout, dataset)) == 0
    assert "incomplete" in said(capsys, "rebuild", NAME)
    assert "Nothing is stored of thumos14" in said(capsys, "sizes", "thumos14")


def test_an_unknown_dataset_is_named(layout, capsys) -> None:
    assert main(["store", "sizes", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err
