"""A tiny stored dataset of people: a grey body with a head and two hands, whose colours are their
states, with its tables and a recipe.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from configs.schema import Dataset, Frames
from configs.schema.parsing import ParsingRecipe
from ops.store.layout import Layout
from ops.store.tables import MANIFEST, PARTS, from_rows, write_table
from stored import changed, ledger_row

PARTS_OF = ("head", "left_hand", "right_hand")
STATES = ("bend", "hold", "wave")
COLOURS = {"bend": (220, 40, 40), "hold": (40, 200, 60), "wave": (60, 80, 230)}
HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 12
DATASET = Dataset(
    name="people",
    title="Coloured hands",
    licence="Apache-2.0",
    root="{storage}/datasets/people",
    frames=Frames(codec="lossless", frames_per_shard=16),
)


def row_of(
    video_id: str,
    split: str,
    frame: int,
    person: int,
    box: Any,
    part: str | None,
    part_box: Any,
    state: str | None,
) -> dict[str, Any]:
    """One row of the parts table."""
    edges = [None] * 4 if part_box is None else [float(edge) for edge in part_box]
    source = f"parts/{video_id}/img_{frame + 1:05d}.json:humans[{person}]"
    return {
        "video_id": video_id,
        "dataset": "people",
        "split": split,
        "label": f"act_{video_id[-1]}",
        "frame": frame,
        "person": person,
        **dict(zip(("px1", "py1", "px2", "py2"), map(float, box), strict=True)),
        "part": part,
        "state": state,
        **dict(zip(("x1", "y1", "x2", "y2"), edges, strict=True)),
        "source": source,
    }


def video(
    video_id: str, split: str, seed: int, num_people: int = 1
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """uint8 [T, H, W, 3] and its rows."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 40, (NUM_FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    rows = []
    for person in range(num_people):
        x, y = (
            int(rng.integers(2, WIDTH // num_people - 24)) + person * WIDTH // num_people,
            int(rng.integers(2, HEIGHT - 36)),
        )
        box = (x, y, x + 20, y + 32)
        places = {
            "head": (x + 6, y, x + 14, y + 8),
            "left_hand": (x, y + 12, x + 7, y + 20),
            "right_hand": (x + 13, y + 12, x + 20, y + 20),
        }
        for t in range(NUM_FRAMES):
            frames[t, y : y + 32, x : x + 20] = 120
            for part, place in places.items():
                state = STATES[int(rng.integers(3))]
                frames[t, place[1] : place[3], place[0] : place[2]] = COLOURS[state]
                rows.append(row_of(video_id, split, t, person, box, part, place, state))
    return frames, rows


def build_people(layout: Layout, num_train: int = 8, num_val: int = 3) -> Dataset:
    """Writes arrays, manifest and parts table. One more video of each split is annotated and not
    stored.
    """
    rows, ledger = [], []
    for split, count in (("train", num_train), ("val", num_val)):
        for index in range(count + 1):
            video_id, sha256 = f"{split}/{index}", f"{index:03d}{split}".ljust(64, "0")
            frames, own = video(
                video_id, split, 100 * (split == "val") + index, num_people=1 + index % 2
            )
            rows += own
            ledger.append(
                ledger_row(layout, DATASET, video_id, sha256, frames, 10.0, stored=index < count)
            )
    write_table(layout.annotation_table("people", "parts"), from_rows(rows, PARTS))
    write_table(layout.manifest("people", DATASET.frames.key(), 0), from_rows(ledger, MANIFEST))
    return DATASET


def change(layout: Layout, edit: Any) -> None:
    """Writes the parts table anew, with `edit(rows)` in place of its rows."""
    from ops.store.tables import read_table

    uri = layout.annotation_table("people", "parts")
    write_table(uri, from_rows(edit(read_table(uri).to_pylist()), PARTS))


def recipe(**changes: Any) -> ParsingRecipe:
    """A miniature APCT recipe; nested sections are merged into the defaults."""
    values: dict[str, Any] = {
        "name": "tiny_apct",
        "task": "parsing",
        "family": "apct",
        "about": "a test",
        "dataset": "people",
        "num_classes": 3,
        "model": {
            "num_parts": 3,
            "depth": 10,
            "width": 8,
            "norm": "batch",
            "stride": 16,
            "channels": 32,
            "heads": 2,
            "hidden": 32,
            "queries": 4,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "refine_layers": 1,
            "dropout": 0.0,
        },
        "frames": {"per_video": 2},
        "images": {"short_sides": [48], "test_short_side": 48, "long_side": 96, "crop": 0.0},
        "optimizer": {"name": "adamw", "lr": 1e-3, "clip_grad_norm": 1.0},
        "schedule": {"kind": "constant"},
        "training": {"epochs": 2, "batch_size": 4, "evaluate_every": 2, "seed": 3},
        "scale": {"cpus_per_worker": 1},
        "action_file": "{storage}/actions.json",
        "gate": {"metric": "acc_p", "floor": 0.1, "registered_model": "people"},
    }
    return ParsingRecipe.model_validate(
        {key: value for key, value in changed(values, changes).items() if value is not None}
    )
