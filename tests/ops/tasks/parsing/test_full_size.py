"""Every published recipe at full size, on data of the shape of Kinetics-TPS: 480 x 640 pixels, ten
parts, 74 states, several people.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import configs
from configs.schema.parsing import ParsingRecipe
from ops.evaluation.run import evaluate
from ops.files.storage import write_bytes
from ops.store.layout import Layout
from ops.store.reader import FrameReader
from ops.tasks.parsing.part_frames import FramesDataset
from ops.tasks.parsing.task import build
from ops.training.optim import build_optimizer

NAMES = [name for name in configs.names("parsing") if "_tps_" in name]
PARTS = (
    "head",
    "left_arm",
    "right_arm",
    "left_hand",
    "right_hand",
    "hip",
    "left_leg",
    "right_leg",
    "left_foot",
    "right_foot",
)
STATES = [f"state_{number:02d}" for number in range(74)]


@pytest.fixture
def shaped(people, stored_people: Layout, tmp_path: Path) -> Layout:
    """The tiny videos with ten parts and 74 states, drawn by chance."""
    shutil.copytree(stored_people.root, tmp_path / "store")
    layout, rng = Layout(str(tmp_path / "store")), np.random.default_rng(0)

    def edit(rows: list[dict]) -> list[dict]:
        bodies = {
            (row["video_id"], row["split"], row["frame"], row["person"]): [
                row[edge] for edge in ("px1", "py1", "px2", "py2")
            ]
            for row in rows
        }
        found = []
        for number, ((video_id, split, frame, person), box) in enumerate(bodies.items()):
            for place, part in enumerate(PARTS):
                low = np.array(box[:2]) + rng.integers(0, 10, 2)
                state = STATES[(number * len(PARTS) + place) % 74]
                found.append(
                    people.row_of(
                        video_id, split, frame, person, box, part, [*low, *(low + 9)], state
                    )
                )
        return found

    people.change(layout, edit)
    write_bytes(
        f"{layout.root}/actions.json",
        json.dumps({f"val/{index}": f"act_{index}" for index in range(4)}).encode(),
    )
    return layout


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_step_and_an_evaluation(
    people, shaped: Layout, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = configs.load(name)
    assert isinstance(recipe, ParsingRecipe)
    changes = {
        "action_model": None,
        "action_file": "{storage}/actions.json",
        "training": recipe.training.model_copy(update={"init_from": None, "batch_size": 1}),
        "images": recipe.images.model_copy(
            update={"short_sides": (480,), "test_short_side": 480, "long_side": 640, "crop": 0.0}
        ),
        "frames": recipe.frames.model_copy(update={"every": 10}),
    }
    recipe = recipe.model_copy(update=changes)
    task = build(recipe, shaped, people.DATASET)
    task.check()
    torch.manual_seed(0)
    model = task.model()
    samples = task.samples("train", "train")
    optimizer = build_optimizer(model, recipe.optimizer)
    batch = task.collate([samples[20]])
    assert batch["images"].shape == (1, 3, 480, 640) and len(batch["people"][0][0]) == 2
    model.eval()  # without dropout, so that a step down is a step down
    losses = task.losses(model, batch)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    with torch.no_grad():
        after = task.losses(model, batch)["loss"]
    assert torch.isfinite(losses["loss"]) and after < losses["loss"]
    folder = Path(shaped.root, "runs", name)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    found = evaluate(build(recipe, shaped, people.DATASET), str(folder / "model.safetensors"))
    assert (
        found.num_samples == 6 and 0 <= found.metrics["acc_p"] <= 1 and len(found.per_class) == 10
    )


@pytest.mark.slow
def test_huge_pictures_cost_what_others_do(
    people, shaped: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = configs.load("apct_r50_tps_refine")
    assert isinstance(recipe, ParsingRecipe)
    huge = np.zeros((1, 4320, 7680, 3), np.uint8)
    monkeypatch.setattr(FrameReader, "read", lambda self, indices: huge)
    task = build(
        recipe.model_copy(update={"action_model": None, "action_file": "x"}), shaped, people.DATASET
    )
    for mode in ("train", "validate"):
        samples = task.samples("train", mode)  # type: ignore[arg-type]
        assert isinstance(samples, FramesDataset)
        pixels = samples[0]["pixels"]
        assert max(pixels.shape) <= 1333 and pixels.dtype == np.float32
