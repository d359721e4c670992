"""A tiny stored dataset of scenes: bright boxes on noise that stand or walk, some of them red, with
a key frame each second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from configs.schema import AnnotationFile, Dataset, Frames
from configs.schema.detection import DetectionRecipe
from ops.files.storage import write_bytes
from ops.store.layout import Layout
from ops.store.tables import BOXES, ENTRIES, EXCLUDED, MANIFEST, from_rows, write_table
from stored import changed, ledger_row

ACTIONS = ("stand", "walk", "red")  # ids 1, 2 and 5 of the file
IDS = (1, 2, 5)
FPS, NUM_FRAMES, HEIGHT, WIDTH = 8, 32, 48, 64
MODEL = {
    "width": 32,
    "depth": 4,
    "heads": 2,
    "num_frames": 4,
    "position_size": 64,
    "prune_blocks": [1],
    "taps": [0, 1, 2, 3],
    "proposals": 5,
    "stages": 2,
    "hidden": 16,
    "dynamic": 8,
    "feedforward": 32,
    "decoder_width": 16,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "action_hidden": 32,
    "drop_path": 0.0,
    "decoder_drop_path": 0.0,
}
PBTXT = "".join(
    f'item {{\n  name: "{name}"\n  id: {number}\n}}\n'
    for name, number in zip(ACTIONS, IDS, strict=True)
)
DATASET = Dataset(
    name="scenes",
    title="Boxes that stand or walk",
    licence="Apache-2.0",
    root="{storage}/datasets/scenes",
    annotations=(
        AnnotationFile(
            table="boxes", format="ava_csv", path="boxes.csv", split="train", labels="actions.pbtxt"
        ),
        AnnotationFile(
            table="boxes",
            format="ava_csv",
            path="boxes_val.csv",
            split="val",
            labels="actions.pbtxt",
        ),
    ),
    frames=Frames(codec="lossless", frames_per_shard=16),
)


def scene(seed: int) -> tuple[np.ndarray, list[tuple[bool, bool, np.ndarray]]]:
    """(frames uint8 [T, H, W, 3], persons): each (walks, is red, boxes in pixels [T, 4])."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 50, (NUM_FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    persons = []
    for place in range(1 + seed % 2):
        walks, red = bool(rng.integers(2)), bool(rng.integers(2))
        width, height = int(rng.integers(8, 14)), int(rng.integers(16, 28))
        x, y = float(rng.integers(2, 14)) + 32 * place, int(rng.integers(0, HEIGHT - height))
        at = np.clip(x + 0.6 * walks * np.arange(NUM_FRAMES), 0, WIDTH - width).astype(int)
        for t, left in enumerate(at):
            frames[t, y : y + height, left : left + width] = (230, 40, 40) if red else (60, 220, 90)
        top = np.full(NUM_FRAMES, y)
        persons.append(
            (walks, red, np.stack([at, top, at + width, top + height], axis=1).astype(float))
        )
    return frames, persons


def box_row(
    video_id: str,
    split: str,
    second: float | None,
    box: Any,
    label_id: int | None,
    person: int | None,
) -> dict[str, Any]:
    label = None if label_id is None else dict(zip(IDS, ACTIONS, strict=True)).get(label_id, "?")
    row = dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
    return {
        "video_id": video_id,
        "dataset": "scenes",
        "split": split,
        "timestamp_s": second,
        "frame": None,
        **row,
        "label": label,
        "label_id": label_id,
        "person_id": person,
        "source": f"boxes.csv:{video_id}",
    }


def rows_of(video_id: str, split: str, seed: int) -> list[dict[str, Any]]:
    found = []
    for second in (1, 2, 3):
        for person, (walks, red, boxes) in enumerate(scene(seed)[1]):
            box = boxes[second * FPS] / (WIDTH, HEIGHT, WIDTH, HEIGHT)
            found += [
                box_row(video_id, split, float(second), box, label, person)
                for label in [2 if walks else 1, *([5] if red else [])]
            ]
    return found


def build_world(
    layout: Layout, num_train: int = 8, num_val: int = 3, extra: list[dict[str, Any]] | None = None
) -> Dataset:
    """Writes arrays, ledger and tables. One more video of each split is annotated and not stored;
    `extra` are more rows of boxes.
    """
    boxes, ledger, entries = list(extra or ()), [], []
    for split, count in (("train", num_train), ("val", num_val)):
        for index in range(count + 1):
            video_id, seed = f"{split}/{index:02d}", index + 100 * (split == "val")
            sha256 = video_id.replace("/", "").ljust(64, "0")
            ledger.append(
                ledger_row(
                    layout,
                    DATASET,
                    video_id,
                    sha256,
                    scene(seed)[0],
                    float(FPS),
                    stored=index < count,
                )
            )
            boxes += rows_of(video_id, split, seed)
            entries.append(
                dict(
                    dataset="scenes",
                    table="boxes",
                    video_id=video_id,
                    split=split,
                    duration_s=None,
                    fps=None,
                    num_rows=3,
                )
            )
    write_table(layout.annotation_table("scenes", "boxes"), from_rows(boxes, BOXES))
    write_table(layout.entries_table("scenes"), from_rows(entries, ENTRIES))
    write_table(layout.excluded_table("scenes"), EXCLUDED.empty_table())
    write_table(layout.manifest("scenes", DATASET.frames.key(), 0), from_rows(ledger, MANIFEST))
    write_bytes(f"{layout.dataset_root(DATASET)}/actions.pbtxt", PBTXT.encode())
    return DATASET


def recipe(**changes: Any) -> DetectionRecipe:
    """A miniature EVAD recipe; nested sections are merged into the defaults."""
    values: dict[str, Any] = {
        "name": "tiny_evad",
        "task": "detection",
        "family": "evad",
        "about": "a test",
        "dataset": "scenes",
        "num_classes": 3,
        "model": MODEL,
        "sampling": {"kind": "key_frame", "clip_len": 4, "frame_interval": 2},
        "pictures": {"short_side": 48, "flip": 0.5},
        "groups": {"pose": ["stand", "walk"], "colour": ["red"]},
        "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "clip_grad_norm": 1.0},
        "schedule": {"kind": "cosine", "warmup_epochs": 1},
        "training": {"epochs": 2, "batch_size": 4, "seed": 3},
        "scale": {"cpus_per_worker": 1},
        "gate": {"metric": "frame_map", "floor": 0.1, "registered_model": "tiny"},
    }
    return DetectionRecipe.model_validate(changed(values, changes, whole=("model", "groups")))
