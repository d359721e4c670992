"""Small worlds: stored frames of a few videos with a model to see them, and a folder of feature
files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import configs
import models
from configs.schema import Dataset, Features, RecognitionRecipe
from configs.settings import Settings
from ops.store.buckets import bucket_of
from ops.store.frames import write_frames
from ops.store.layout import Layout
from ops.store.manifest import frames_key
from ops.store.tables import ENTRIES, MANIFEST, from_rows, write_table

FPS = 10.0
# "extra" is stored and not annotated
NUM_FRAMES = {"long": 45, "even": 24, "short": 5, "extra": 18}


@dataclass
class World:
    """Where the data lies, and what makes features of it."""

    layout: Layout
    dataset: Dataset
    settings: Settings

    def annotate(self, *videos: str, table: str = "segments") -> None:
        """Write the table of annotated videos."""
        row = {
            "dataset": self.dataset.name,
            "table": table,
            "split": "val",
            "duration_s": 4.5,
            "fps": None,
            "num_rows": 1,
        }
        write_table(
            self.layout.entries_table(self.dataset.name),
            from_rows([{**row, "video_id": video} for video in videos], ENTRIES),
        )


@pytest.fixture
def world(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> World:
    """A dataset `small` without anything in it."""
    folder = tmp_path / "configs" / "datasets"
    folder.mkdir(parents=True)
    values = {
        "title": "Small",
        "licence": "none",
        "root": "{storage}/datasets/small",
        "frames": {"codec": "lossless", "frames_per_shard": 16},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    home = tmp_path / "home"
    return World(
        layout,
        configs.dataset("small"),
        Settings(storage=layout.root, tracking_uri=f"sqlite:///{home}/mlflow.db", home=home),
    )


# -------------------------------------------------------------------------------------------------
# frames and a model


def pixels(video: str) -> np.ndarray:
    """uint8 [T, 24, 32, 3] of one video."""
    rng = np.random.default_rng(sum(video.encode()))
    return rng.integers(0, 256, (NUM_FRAMES[video], 24, 32, 3), dtype=np.uint8)


def manifest_row(world: World, video: str, sha256: str, **changes: Any) -> dict[str, Any]:
    key = frames_key(sha256, world.dataset)
    uri = world.layout.frames(world.dataset.name, world.dataset.frames.key(), video, key)
    return {
        "video_id": video,
        "dataset": world.dataset.name,
        "sha256": sha256,
        "key": key,
        "array_uri": uri,
        "num_frames": NUM_FRAMES.get(video, 0),
        "height": 24,
        "width": 32,
        "fps": FPS,
        "status": "ok",
        "reason": "",
        "decoder": "none",
        "decoder_version": "0",
        "audit": "",
        "bytes": 0,
        "seconds": 0.0,
        **changes,
    }


@pytest.fixture
def frames(world: World) -> World:
    """The world with stored frames: four videos, one quarantined, one annotated and not there."""
    rows = []
    for index, video in enumerate(NUM_FRAMES):
        row = manifest_row(world, video, f"{index:064x}")
        times = [round(frame / FPS, 6) for frame in range(NUM_FRAMES[video])]
        write_frames(
            row["array_uri"],
            pixels(video),
            world.dataset.frames,
            {"fps": FPS, "timestamps_s": times},
        )
        rows.append(row)
    rows.append(
        manifest_row(
            world,
            "bad",
            "f" * 64,
            status="quarantined",
            reason="not a video file",
            array_uri="",
            num_frames=0,
        )
    )
    write_manifest(world, rows)
    world.annotate("long", "even", "short", "bad", "gone")
    return world


def write_manifest(world: World, rows: list[dict[str, Any]]) -> None:
    for bucket in {bucket_of(row["video_id"]) for row in rows}:
        own = [row for row in rows if bucket_of(row["video_id"]) == bucket]
        own.sort(key=lambda row: row["video_id"])
        write_table(
            world.layout.manifest(world.dataset.name, world.dataset.frames.key(), bucket),
            from_rows(own, MANIFEST),
        )


def recipe(family: str) -> RecognitionRecipe:
    """A miniature TSN or TSM."""
    found = configs.load("tsm_tiny_figures")
    assert isinstance(found, RecognitionRecipe)
    model = {"depth": 10, "width": 4, **({"num_segments": 4} if family == "tsm" else {})}
    transforms = found.transforms.model_copy(update={"short_side": 20, "crop": 16})
    sampling = found.sampling.model_copy(update={"num_segments": 4})
    change = {
        "name": f"small_{family}",
        "family": family,
        "num_classes": 3,
        "model": model,
        "transforms": transforms,
        "sampling": sampling,
    }
    return found.model_copy(update=change)


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., str]:
    """trained(family, seed=0) -> folder of a run whose weights are the seed's."""

    def make(family: str = "tsm", seed: int = 0) -> str:
        folder = tmp_path / "runs" / f"{family}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        torch.manual_seed(seed)
        save_file(models.build(recipe(family)).state_dict(), folder / "model.safetensors")
        (folder / "recipe.json").write_text(recipe(family).model_dump_json())
        return str(folder)

    return make


@pytest.fixture
def extraction() -> Callable[..., Features]:
    """extraction(*models, **changes) -> Features of the world's dataset."""

    def make(*folders: str, **changes: Any) -> Features:
        streams = [{"model": folder} for folder in folders]
        values = {
            "name": "small",
            "about": "a test",
            "dataset": "small",
            "stride": 4,
            "num_frames": 8,
            "extract": streams,
            **changes,
        }
        return Features.model_validate(values)

    return make


# -------------------------------------------------------------------------------------------------
# files


@pytest.fixture
def imports() -> Callable[..., Features]:
    """imports(*streams, **changes) -> Features of the world's dataset."""

    def make(*streams: dict[str, Any], **changes: Any) -> Features:
        values = {
            "name": "small",
            "about": "a test",
            "dataset": "small",
            "stride": 16,
            "num_frames": 32,
            "files": streams,
            **changes,
        }
        return Features.model_validate(values)

    return make
