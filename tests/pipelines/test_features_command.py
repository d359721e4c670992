"""`kinograph features`: a Dagster run that tells what it did, and files for others."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import yaml

import configs
from pipelines.main import main

NAME, DATASET, CHANNELS = "thumos14_i3d", "thumos14", 2048


@pytest.fixture
def files(home, tmp_path: Path) -> Path:
    """A folder of feature files under the name of a dataset that the graph knows."""
    root = tmp_path / "thumos"
    values = {"title": "THUMOS14 in small", "licence": "none", "root": str(root)}
    path = home.configs / "datasets" / f"{DATASET}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(values))
    (root / "i3d_features").mkdir(parents=True)
    for index, channels in enumerate((CHANNELS, CHANNELS, 7)):
        file = io.BytesIO()
        np.save(file, np.full((index + 1, channels), index, np.float32))
        (root / "i3d_features" / f"video_{index}.npy").write_bytes(file.getvalue())
    return root


def test_import_again_and_export(
    home, files: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["features", NAME]) == 0
    out = capfd.readouterr().out
    assert f"{NAME}: 2 of 3 videos have features (66.7%); now 2 made, 0 unchanged" in out
    assert (
        "1 refused:" in out
        and f"1 x i3d_features/video_2.npy: found 7 channels; allowed: {CHANNELS}" in out
    )
    assert main(["features", NAME, "--export", str(tmp_path / "out"), "--format", "npz"]) == 0
    out = capfd.readouterr().out
    assert "now 0 made, 3 unchanged" in out and f"2 files in {tmp_path / 'out'}" in out
    with np.load(tmp_path / "out" / "video_1.npz") as archive:
        np.testing.assert_array_equal(archive["feats"], np.ones((2, CHANNELS), np.float32))


def test_mistakes(home, files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (files / "i3d_features").iterdir():
        path.unlink()
    assert main(["features", NAME]) == 1
    err = capfd.readouterr().err
    assert (
        "no video has its files (i3d_features/{name}.npy) below" in err and "Traceback" not in err
    )
    assert main(["features", "nothing"]) == 1
    assert "found 'nothing'; allowed: " in capfd.readouterr().err


def test_listing(home, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["features"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == configs.features_names()
