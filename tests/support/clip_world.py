"""A tiny stored dataset: a bright square that moves right, left or not at all, with its tables and
a recipe to train on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from configs.schema import AnnotationFile, Dataset, Frames, RecognitionRecipe
from ops.files.storage import write_bytes
from ops.store.layout import Layout
from ops.store.tables import CLIPS, MANIFEST, from_rows, write_table
from stored import changed, ledger_row

LABELS = ("right", "left", "still")
DATASET = Dataset(
    name="tiny",
    title="Moving squares",
    licence="Apache-2.0",
    root="{storage}/datasets/tiny",
    # Its tables are written straight into the store, without files to report on.
    allow=("quarantine_floor", "no_leak", "label_vocabulary", "coverage"),
    annotations=(
        AnnotationFile(table="clips", format="kinetics_csv", path="clips.csv", labels="labels.txt"),
    ),
    frames=Frames(short_side=None, codec="jpeg", quality=95, frames_per_shard=16),
)


def video(
    label_id: int, seed: int, num_frames: int = 12, height: int = 32, width: int = 40
) -> np.ndarray:
    """uint8 [T, H, W, 3]: a square of 10 pixels on noise."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 60, (num_frames, height, width, 3), dtype=np.uint8)
    y, x = int(rng.integers(height - 10)), 15
    speed = (1, -1, 0)[label_id]
    for t, frame in enumerate(frames):
        at = x + speed * t
        frame[y : y + 10, max(at, 0) : at + 10] = 230
    return frames


def build_world(layout: Layout, num_train: int = 24, num_val: int = 9) -> Dataset:
    """Writes arrays, manifest, clips table and labels. One more clip of each split is annotated and
    not stored.
    """
    dataset, clips, ledger = DATASET, [], []
    for split, count in (("train", num_train), ("val", num_val)):
        for index in range(count + 1):
            video_id, label_id = f"{split}/{index:03d}", index % len(LABELS)
            sha256 = f"{index:03d}{split}".ljust(64, "0")
            clips.append(
                dict(
                    clip_id=f"clip-{video_id}",
                    video_id=video_id,
                    dataset=dataset.name,
                    split=split,
                    target="label",
                    label=LABELS[label_id],
                    label_id=label_id,
                    start_s=None,
                    end_s=None,
                    source=f"clips.csv:{index + 2}",
                )
            )
            frames = video(label_id, seed=1000 * (split == "val") + index)
            ledger.append(
                ledger_row(layout, dataset, video_id, sha256, frames, 10.0, stored=index < count)
            )
    write_table(layout.annotation_table(dataset.name, "clips"), from_rows(clips, CLIPS))
    for bucket in range(2):
        write_table(
            layout.manifest(dataset.name, dataset.frames.key(), bucket),
            from_rows(ledger[bucket::2], MANIFEST),
        )
    write_bytes(f"{layout.dataset_root(dataset)}/labels.txt", "\n".join(LABELS).encode())
    return dataset


def recipe(**changes: Any) -> RecognitionRecipe:
    """A miniature TSM recipe; nested sections are merged into the defaults."""
    values: dict[str, Any] = {
        "name": "tiny_tsm",
        "task": "recognition",
        "family": "tsm",
        "about": "a test",
        "dataset": "tiny",
        "num_classes": 3,
        "model": {"depth": 10, "width": 8, "num_segments": 4, "dropout": 0.2},
        "sampling": {"kind": "segments", "num_segments": 4},
        "transforms": {
            "short_side": 32,
            "crop": 24,
            "train_crop": "random",
            "flip": 0.5,
            "flip_labels": {"right": "left"},
            "contrast": 0.2,
        },
        "views": {"average": "score"},
        "optimizer": {
            "name": "sgd",
            "lr": 0.05,
            "weight_decay": 1e-4,
            "nesterov": True,
            "clip_grad_norm": 20,
        },
        "schedule": {"kind": "cosine", "warmup_epochs": 1},
        "training": {"epochs": 3, "batch_size": 8, "evaluate_every": 2, "seed": 3},
        "scale": {"cpus_per_worker": 1},
        "gate": {"metric": "top1", "floor": 0.5, "registered_model": "tiny"},
    }
    return RecognitionRecipe.model_validate(changed(values, changes, whole=("model",)))
