"""Own data as a user brings it: YAML files, ActivityNet's json and .npy features. Its actions are
plain to see in the features.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import configs
from configs.schema import Dataset
from configs.schema.localization import LocalizationRecipe
from ops.annotations.read import annotate
from ops.features.materialize import make_features
from ops.store.layout import Layout
from stored import changed

LABELS = ("jump", "kick", "wave")
FPS, STRIDE, WINDOW, CHANNELS = 10, 4, 8, 8
RECIPE: dict[str, Any] = {
    "about": "a test",
    "dataset": "own",
    "features": "own_files",
    "num_classes": 3,
    "model": {
        "input_dims": CHANNELS,
        "width": 16,
        "heads": 2,
        "windows": 5,
        "ranges": [[0, 4], [2, 8], [4, 10000]],
        "max_length": 64,
        "drop_path": 0.0,
    },
    "steps": {"crop_ratio": [0.9, 1.0]},
    "loss": {"normaliser": 20},
    "decoding": {"max_candidates": 200, "max_segments": 40},
    "tiou": [0.3, 0.5, 0.7],
    "recall": [1, 5],
    "optimizer": {
        "name": "adamw",
        "lr": 3.0e-3,
        "weight_decay": 0.05,
        "clip_grad_norm": 1,
        "decay_only": ["conv"],
    },
    "schedule": {
        "kind": "cosine",
        "warmup_epochs": 1,
        "warmup_start": 0,
        "warmup_peak": "last",
        "min_lr": 1.0e-8,
    },
    "training": {"epochs": 2, "batch_size": 4, "ema_decay": 0.9},
    "gate": {"metric": "mean_ap", "floor": 0.1, "registered_model": "own-localization"},
}


def video(seed: int) -> tuple[np.ndarray, list[tuple[str, float, float]], float]:
    """Features [T, C], segments (label, start_s, end_s) and duration of one video."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(40, 80))
    features, segments, at = (
        rng.normal(0, 0.3, (steps, CHANNELS)).astype(np.float32),
        [],
        int(rng.integers(2, 8)),
    )
    while at + 6 < steps:
        length, label = int(rng.integers(4, 9)), int(rng.integers(len(LABELS)))
        last = min(at + length, steps - 1)
        features[at : last + 1, label] += 2
        features[at, 3] += 2
        features[last, 4] += 2
        segments.append(
            (LABELS[label], *(float((step * STRIDE + WINDOW / 2) / FPS) for step in (at, last)))
        )
        at = last + int(rng.integers(4, 12))
    return features, segments, ((steps - 1) * STRIDE + WINDOW) / FPS


def write_files(root: Path, num_train: int = 12, num_val: int = 5) -> dict[str, Any]:
    """Features and json below the dataset's root; the json's content."""
    database: dict[str, Any] = {}
    (root / "features").mkdir(parents=True, exist_ok=True)
    for split, subset, count in (("train", "training", num_train), ("val", "validation", num_val)):
        for index in range(count):
            features, segments, duration = video(1000 * (split == "val") + index)
            name = f"{split}_{index:02d}"
            np.save(root / "features" / f"{name}.npy", features)
            annotations = [
                {"label": label, "segment": [start, end]} for label, start, end in segments
            ]
            database[name] = {
                "subset": subset,
                "duration": duration,
                "fps": FPS,
                "annotations": annotations,
            }
    write_json(root, database)
    return database


def write_json(root: Path, database: dict[str, Any]) -> None:
    """The annotation file."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / "own.json").write_text(
        json.dumps({"database": database, "version": "1", "taxonomy": []})
    )
    (root / "annotations" / "labels.txt").write_text("\n".join(LABELS))


def write_configs(folder: Path, **changes: Any) -> None:
    """A user's YAML files: dataset, features and recipe 'actionformer_own'; sections of the recipe
    are merged into the usual ones.
    """
    labels = "annotations/labels.txt"
    file = {
        "table": "segments",
        "format": "activitynet_json",
        "path": "annotations/own.json",
        "labels": labels,
    }
    allow = ["end_before_start", "duplicate", "unknown_label", "past_end"]
    dataset = {
        "title": "Own data",
        "licence": "mine",
        "root": "{storage}/own",
        "videos": None,
        "annotations": [file],
        "allow": allow,
    }
    files = [{"path": "features/{name}.npy", "format": "npy", "channels": CHANNELS}]
    features = {
        "own_files": {"about": "a test", "stride": STRIDE, "num_frames": WINDOW, "files": files}
    }
    recipe = changed(RECIPE, changes)
    for place, content in (
        ("datasets/own", dataset),
        ("features/own", features),
        ("localization/actionformer", {"actionformer_own": recipe}),
    ):
        path = folder / f"{place}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))


def bring_in(layout: Layout) -> Dataset:
    """What `kinograph` does with the files: annotations to tables, features into the store."""
    dataset = configs.dataset("own")
    annotate(dataset, layout)
    make_features(configs.features("own_files"), layout, configs.settings())
    return dataset


def recipe(**changes: Any) -> LocalizationRecipe:
    """The recipe, typed; sections are merged into the usual ones."""
    values: dict[str, Any] = {
        "name": "actionformer_own",
        "task": "localization",
        "family": "actionformer",
        **RECIPE,
    }
    return LocalizationRecipe.model_validate(changed(values, changes))
