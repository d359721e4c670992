"""A small stored dataset: discs that grow, shrink or stand still, one of them twice as frequent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import models
from configs import load
from configs.schema import AnnotationFile, Dataset, Frames, RecognitionRecipe
from ops.files.storage import write_bytes
from ops.store.frames import write_frames
from ops.store.layout import Layout
from ops.store.manifest import frames_key
from ops.store.tables import CLIPS, MANIFEST, from_rows, write_table

LABELS = ["grow", "shrink", "stay"]
NUM_FRAMES, HEIGHT, WIDTH = 12, 40, 48


class World(NamedTuple):
    """Where the data lies, and an untrained model for it."""

    layout: Layout
    dataset: Dataset
    recipe: RecognitionRecipe
    weights: str
    clips: list[dict]


def frames_of(label: str, seed: int) -> np.ndarray:
    """uint8 [T, H, W, 3] of one clip."""
    rng = np.random.default_rng(seed)
    radii = {
        "grow": np.linspace(4, 16, NUM_FRAMES),
        "shrink": np.linspace(16, 4, NUM_FRAMES),
        "stay": np.full(NUM_FRAMES, 10.0),
    }[label]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    far = (y - HEIGHT / 2) ** 2 + (x - WIDTH / 2 - rng.integers(-4, 5)) ** 2
    inside = far[None] < radii[:, None, None] ** 2
    return np.where(inside[..., None], rng.integers(150, 256, 3), rng.integers(0, 90, 3)).astype(
        np.uint8
    )


@pytest.fixture
def discs(tmp_path: Path, layout: Layout) -> World:
    file = AnnotationFile(
        table="clips",
        format="kinetics_csv",
        path="annotations/clips.csv",
        labels="annotations/labels.txt",
    )
    dataset = Dataset(
        name="discs",
        title="Discs",
        licence="none",
        root="{storage}/discs",
        annotations=(file,),
        frames=Frames(codec="lossless"),
    )
    write_bytes(
        f"{layout.dataset_root(dataset)}/annotations/labels.txt", "\n".join(LABELS).encode()
    )
    write_bytes(
        f"{layout.dataset_root(dataset)}/annotations/time_order_pairs.json",
        json.dumps([["grow", "shrink"]]).encode(),
    )
    clips, stored = [], []
    for index, label in enumerate(["grow", "shrink", "stay", "stay"] * 3):
        video, sha256 = f"video{index:02d}", f"{index:064x}"
        uri = layout.frames(dataset.name, dataset.frames.key(), video, sha256)
        written = write_frames(uri, frames_of(label, index), dataset.frames, {})
        clips.append(
            {
                "clip_id": video,
                "video_id": video,
                "dataset": "discs",
                "split": "train" if index < 4 else "val",
                "label": label,
            }
            | {
                "target": "label",
                "label_id": LABELS.index(label),
                "start_s": None,
                "end_s": None,
                "source": f"clips.csv:{index + 2}",
            }
        )
        stored.append(
            {
                "video_id": video,
                "dataset": "discs",
                "sha256": sha256,
                "key": frames_key(sha256, dataset),
                "array_uri": uri,
            }
            | {
                "num_frames": NUM_FRAMES,
                "height": HEIGHT,
                "width": WIDTH,
                "fps": 12.0,
                "status": "ok",
                "reason": "",
                "decoder": "none",
            }
            | {"decoder_version": "0", "audit": "", "bytes": written.bytes, "seconds": 0.0}
        )
    write_table(layout.annotation_table("discs", "clips"), from_rows(clips, CLIPS))
    write_table(layout.manifest("discs", dataset.frames.key(), 0), from_rows(stored, MANIFEST))
    recipe, weights = small_recipe(), f"{layout.run('discs', 'key')}/model.safetensors"
    Path(weights).parent.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(models.build(recipe).state_dict(), weights)
    return World(layout, dataset, recipe, weights, clips)


def small_recipe() -> RecognitionRecipe:
    found = load("tsn_tiny_figures")
    assert isinstance(found, RecognitionRecipe)
    transforms = found.transforms.model_copy(update={"short_side": 40, "crop": 32})
    sampling = found.sampling.model_copy(update={"num_segments": 4})
    change = {
        "num_classes": 3,
        "model": {"depth": 10, "width": 8},
        "transforms": transforms,
        "sampling": sampling,
        "dataset": "discs",
    }
    return found.model_copy(update=change)
