"""The recognition task: what it checks, what names its data, its views and its predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from configs.schema import ConfigError
from ops.data.clips import DataError
from ops.metrics.recognition import softmax
from ops.store.layout import Layout
from ops.store.tables import CLIPS, read_table, write_table
from ops.tasks import build


@pytest.fixture
def copied(world, stored: Layout, tmp_path: Path) -> Layout:
    """A second storage root whose tables may be changed; its arrays are those of the first."""
    layout = Layout(str(tmp_path))
    for folder in ("tables", "frames/tiny"):
        for path in Path(stored.root, folder).rglob("*.parquet"):
            target = tmp_path / path.relative_to(stored.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return layout


def change(layout: Layout, edit) -> None:
    """Rewrite the clips table through a function over its rows."""
    uri = layout.annotation_table("tiny", "clips")
    write_table(uri, pa.Table.from_pylist(edit(read_table(uri).to_pylist()), schema=CLIPS))


def test_good_data_passes_and_has_one_name(world, stored: Layout, copied: Layout) -> None:
    task = build(world.recipe(), stored, world.DATASET)
    task.check()
    assert task.data_version() == build(world.recipe(), copied, world.DATASET).data_version()
    assert task.coverage()["train_share"] == 0.96


def test_the_data_version_follows_labels_and_splits_not_row_order(world, copied: Layout) -> None:
    def version() -> str:
        return build(world.recipe(), copied, world.DATASET).data_version()

    first = version()
    change(copied, lambda rows: rows[::-1])
    assert version() == first
    change(copied, lambda rows: [{**row, "label": "left", "label_id": 1} if row["clip_id"] == "clip-train/000" else row for row in rows])
    second = version()
    assert second != first
    change(copied, lambda rows: [{**row, "split": "val"} if row["clip_id"] == "clip-train/001" else row for row in rows])
    assert version() not in (first, second)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_clips_is_named(world, copied: Layout, split: str) -> None:
    change(copied, lambda rows: [row for row in rows if row["split"] != split])
    with pytest.raises(DataError, match=f"dataset 'tiny', split '{split}': no clip; its splits: "):
        build(world.recipe(), copied, world.DATASET).check()


def test_a_split_without_frames_is_named(world, copied: Layout) -> None:
    for bucket in range(2):
        Path(copied.manifest("tiny", world.DATASET.frames.key(), bucket)).unlink()
    with pytest.raises(DataError, match=r"split 'train': 25 annotated clips, none with stored frames.*store its frames first"):
        build(world.recipe(), copied, world.DATASET).check()


def test_a_label_beyond_the_classes_names_file_and_line(world, stored: Layout) -> None:
    with pytest.raises(DataError, match=r"clips\.csv:4: label 'still' has id 2; allowed: 0\.\.1 \(num_classes of recipe 'tiny_tsm'\)"):
        build(world.recipe(num_classes=2), stored, world.DATASET).check()


def test_an_unknown_flip_label_is_named(world, stored: Layout) -> None:
    recipe = world.recipe(transforms={"flip_labels": {"right": "wrong"}})
    with pytest.raises(ConfigError, match=r"transforms\.flip_labels.*found 'wrong'; allowed: left, right, still"):
        build(recipe, stored, world.DATASET).check()


def test_a_recipe_of_another_task_is_refused(world, stored: Layout) -> None:
    recipe = world.recipe().model_copy(update={"task": "detection"})
    with pytest.raises(ModuleNotFoundError):
        build(recipe, stored, world.DATASET)


@pytest.mark.parametrize("average", ["score", "prob", "feature"])
def test_predictions_average_the_views(world, stored: Layout, average: str) -> None:
    recipe = world.recipe(views={"num_clips": 2, "num_crops": 3, "average": average})
    task = build(recipe, stored, world.DATASET)
    task.check()
    torch.manual_seed(0)
    model = task.model().eval()
    samples = task.samples("val", "test")
    batch = task.collate([samples[index] for index in range(3)])
    assert batch["frames"].shape == (3, 6, 3, 4, 24, 24)
    with torch.inference_mode():
        rows = task.predict(model, batch)
        views = model(batch["frames"].flatten(0, 1)).view(3, 6, -1).numpy()
    expected = softmax(views).mean(1) if average == "prob" else views.mean(1)  # the classifier is linear: features average alike
    np.testing.assert_allclose([row["scores"] for row in rows], expected, atol=1e-5)
    assert [row["clip_id"] for row in rows] == ["clip-val/000", "clip-val/001", "clip-val/002"]
    assert [row["label_id"] for row in rows] == [0, 1, 2]


def test_modes_have_their_views(world, stored: Layout) -> None:
    task = build(world.recipe(views={"num_clips": 2, "num_crops": 3, "average": "score"}), stored, world.DATASET)
    shapes = {mode: task.samples("val", mode)[0]["frames"].shape[0] for mode in ("train", "validate", "test")}
    assert shapes == {"train": 1, "validate": 1, "test": 6}


def test_losses_are_means_and_learnable(world, stored: Layout) -> None:
    task = build(world.recipe(training={"label_smoothing": 0.1}), stored, world.DATASET)
    torch.manual_seed(0)
    model = task.model().eval()
    samples = task.samples("train", "train")
    items = [samples[index] for index in range(4)]
    whole = task.losses(model, task.collate(items))
    halves = [task.losses(model, task.collate(part))["loss"] for part in (items[:2], items[2:])]
    torch.testing.assert_close(whole["loss"], torch.stack(halves).mean())
    whole["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
