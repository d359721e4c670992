"""Stored features as files, and back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from ops.features.export import export_features
from ops.features.materialize import FeaturesError, make_features, read_rows
from ops.files.storage import list_files, write_bytes
from stored import read_features


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_exported_can_be_imported(
    world, imports, tmp_path: Path, kind: str, dtype: str
) -> None:
    arrays = {
        f"part/v{index}": np.random.default_rng(index).normal(size=(index + 1, 3)).astype(dtype)
        for index in range(3)
    }
    for video, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array)
        write_bytes(
            f"{world.layout.dataset_root(world.dataset)}/feats/{video}.npy", file.getvalue()
        )
    features = imports(
        {"path": "feats/{video}.npy", "format": "npy", "channels": 3}, dtype=dtype, fps=25.0
    )
    with pytest.raises(FeaturesError, match="nothing to export"):
        export_features(features, world.layout, str(tmp_path / "out"))
    make_features(features, world.layout, world.settings)
    root = world.layout.dataset_root(world.dataset)
    report = export_features(features, world.layout, f"{root}/out/", kind)  # type: ignore[arg-type]
    assert (report.videos, report.refused, report.folder) == (3, 0, f"{root}/out")
    assert [info.path_below for info in list_files(report.folder)] == [
        "features.json",
        *(f"{video}.{kind}" for video in arrays),
    ]
    about = json.loads(Path(report.folder, "features.json").read_text())
    assert (about["stride"], about["num_frames"], about["channels"], about["dtype"]) == (
        16,
        32,
        3,
        dtype,
    )
    assert about["videos"]["part/v2"] == {"num_steps": 3, "fps": 25.0, "duration_s": None}

    again = imports({"path": f"out/{{video}}.{kind}", "format": kind, "channels": 3}, dtype=dtype)
    make_features(again, world.layout, world.settings)
    back = {
        row["video_id"]: read_features(row["array_uri"]) for row in read_rows(again, world.layout)
    }
    assert set(back) == set(arrays)
    for video, array in arrays.items():
        np.testing.assert_array_equal(back[video], array)
