"""The recognition task: what it checks, what names its data, its views and its predictions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from configs.schema import ConfigError
from ops.data.errors import DataError
from ops.files.storage import write_bytes
from ops.store.layout import Layout
from ops.store.tables import CLIPS, read_table, write_table
from ops.tasks.recognition.metric import softmax
from ops.training.task import build


@pytest.fixture
def copied(world, stored: Layout, tmp_path: Path) -> Layout:
    """A second storage root whose tables may be changed."""
    shutil.copytree(stored.root, tmp_path, dirs_exist_ok=True)
    return Layout(str(tmp_path))


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
    change(
        copied,
        lambda rows: [
            {**row, "label": "left", "label_id": 1} if row["clip_id"] == "clip-train/000" else row
            for row in rows
        ],
    )
    second = version()
    assert second != first
    change(
        copied,
        lambda rows: [
            {**row, "split": "val"} if row["clip_id"] == "clip-train/001" else row for row in rows
        ],
    )
    assert version() not in (first, second)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_clips_is_named(world, copied: Layout, split: str) -> None:
    change(copied, lambda rows: [row for row in rows if row["split"] != split])
    with pytest.raises(DataError, match=f"dataset 'tiny', split '{split}': no clip; its splits: "):
        build(world.recipe(), copied, world.DATASET).check()


def test_a_split_without_frames_is_named(world, copied: Layout) -> None:
    for bucket in range(2):
        Path(copied.manifest("tiny", world.DATASET.frames.key(), bucket)).unlink()
    with pytest.raises(
        DataError,
        match=r"split 'train': 25 annotated clips, none with stored frames.*store its frames first",
    ):
        build(world.recipe(), copied, world.DATASET).check()


def test_a_label_beyond_the_classes_names_file_and_line(world, stored: Layout) -> None:
    with pytest.raises(
        DataError,
        match=(
            r"clips\.csv:4: label 'still' has id 2; allowed: 0\.\.1 \(num_classes of recipe"
            r" 'tiny_tsm'\)"
        ),
    ):
        build(world.recipe(num_classes=2), stored, world.DATASET).check()


def test_an_unknown_flip_label_is_named(world, stored: Layout) -> None:
    recipe = world.recipe(transforms={"flip_labels": {"right": "wrong"}})
    with pytest.raises(
        ConfigError, match=r"transforms\.flip_labels.*found 'wrong'; allowed: left, right, still"
    ):
        build(recipe, stored, world.DATASET).check()


def test_a_recipe_of_another_task_is_refused(world, stored: Layout) -> None:
    recipe = world.recipe().model_copy(update={"task": "detection"})
    with pytest.raises(ConfigError, match="'task': found 'recognition'; allowed: detection"):
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
    # the classifier is linear: features average alike
    expected = softmax(views).mean(1) if average == "prob" else views.mean(1)
    np.testing.assert_allclose([row["scores"] for row in rows], expected, atol=1e-5)
    assert [row["clip_id"] for row in rows] == ["clip-val/000", "clip-val/001", "clip-val/002"]
    assert [row["label_id"] for row in rows] == [0, 1, 2]


def test_modes_have_their_views(world, stored: Layout) -> None:
    task = build(
        world.recipe(views={"num_clips": 2, "num_crops": 3, "average": "score"}),
        stored,
        world.DATASET,
    )
    shapes = {
        mode: task.samples("val", mode)[0]["frames"].shape[0]
        for mode in ("train", "validate", "test")
    }
    assert shapes == {"train": 1, "validate": 1, "test": 6}


def model_of(task) -> torch.nn.Module:
    torch.manual_seed(0)
    return task.model().eval()


def training_batch(task, indices: list[int], epoch: int = 1) -> dict:
    samples = task.samples("train", "train")
    samples.set_epoch(epoch)
    return task.collate([samples[index] for index in indices])


def test_mixing_is_the_batchs_own_and_repeats(world, stored: Layout) -> None:
    mixing = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}
    task = build(
        world.recipe(mixing=mixing, training={"label_smoothing": 0.1}), stored, world.DATASET
    )
    plain = build(world.recipe(training={"label_smoothing": 0.1}), stored, world.DATASET)
    model = model_of(task)
    batch = training_batch(task, [3, 1, 2, 0])
    first, again = (task.losses(model, batch) for _ in range(2))
    assert torch.equal(first["loss"], again["loss"]) and 0 <= first["train_top1"] <= 1
    assert not torch.equal(first["loss"], plain.losses(model, batch)["loss"])
    seeds = [{"epoch": 2}, {"first_index": 1}]
    assert len({task.losses(model, {**batch, **seed})["loss"].item() for seed in [{}, *seeds]}) == 3
    first["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_mixing_without_effect_is_label_smoothing(world, stored: Layout) -> None:
    changes = {"training": {"label_smoothing": 0.1}}
    task = build(
        world.recipe(mixing={"mixup_alpha": 1.0, "probability": 0.0}, **changes),
        stored,
        world.DATASET,
    )
    plain = build(world.recipe(**changes), stored, world.DATASET)
    model, batch = model_of(task), training_batch(task, [0, 1, 2, 3])
    for name, value in plain.losses(model, batch).items():
        torch.testing.assert_close(task.losses(model, batch)[name], value)


def test_repeated_augmentation_trains_on_every_copy(world, stored: Layout) -> None:
    task = build(world.recipe(training={"repeated_augmentation": 3}), stored, world.DATASET)
    model, batch = model_of(task), training_batch(task, [4, 5])
    assert batch["frames"].shape == (2, 3, 3, 4, 24, 24) and batch["label_ids"].shape == (2, 3)
    whole = task.losses(model, batch)
    copies = [
        task.losses(
            model,
            {**batch, "frames": batch["frames"][:, [c]], "label_ids": batch["label_ids"][:, c]},
        )
        for c in range(3)
    ]
    for name, value in whole.items():
        torch.testing.assert_close(value, torch.stack([losses[name] for losses in copies]).mean())
    assert task.samples("val", "test")[0]["frames"].shape[0] == 1


def test_frames_of_many_sizes_are_predicted_one_by_one(world, stored: Layout) -> None:
    task = build(world.recipe(views={"full": True}), stored, world.DATASET)
    task.check()
    model, samples = model_of(task), task.samples("val", "test")
    items = [samples[index] for index in range(3)]
    items[1]["frames"] = np.ascontiguousarray(items[1]["frames"][..., :32])
    with torch.inference_mode():
        rows = task.predict(model, task.collate(items))
        alone = [task.predict(model, task.collate([item]))[0] for item in items]
    assert isinstance(task.collate(items)["frames"], list)
    for row, own in zip(rows, alone, strict=True):
        assert row["clip_id"] == own["clip_id"]
        np.testing.assert_allclose(row["scores"], own["scores"], atol=1e-5)


def test_flip_labels_are_the_datasets_where_the_recipe_has_none(world, stored: Layout) -> None:
    dataset = world.DATASET.model_copy(update={"flip_labels": {"right": "left"}})
    recipe = world.recipe(transforms={"flip_labels": {}})
    assert build(recipe, stored, dataset).mirrored_ids() == {0: 1, 1: 0}
    assert build(recipe, stored, world.DATASET).mirrored_ids() == {}
    own = world.recipe(transforms={"flip_labels": {"left": "still"}})
    assert build(own, stored, dataset).mirrored_ids() == {1: 2, 2: 1}
    wrong = world.DATASET.model_copy(update={"flip_labels": {"right": "wrong"}})
    with pytest.raises(ConfigError, match=r"dataset 'tiny': field 'flip_labels': found 'wrong'"):
        build(recipe, stored, wrong).check()


def test_a_place_in_the_video_changes_the_data_version(world, copied: Layout) -> None:
    first = build(world.recipe(), copied, world.DATASET).data_version()
    change(
        copied,
        lambda rows: [
            {**row, "start_s": 0.2, "end_s": 0.9} if row["clip_id"] == "clip-train/000" else row
            for row in rows
        ],
    )
    task = build(world.recipe(), copied, world.DATASET)
    assert task.data_version() != first
    assert task.samples("train", "train").clips[0].place == [0.2, 0.9]


def test_another_target_is_learnt(world, copied: Layout) -> None:
    verbs = ("go", "go", "stay")
    more = lambda rows: [
        {**row, "target": "verb", "label": verbs[row["label_id"]], "label_id": row["label_id"] // 2}
        for row in rows
    ]  # noqa: E731
    change(copied, lambda rows: rows + more(rows))
    write_bytes(f"{copied.dataset_root(world.DATASET)}/verbs.txt", b"go\nstay")
    file = world.DATASET.annotations[0].model_copy(update={"target": "verb", "labels": "verbs.txt"})
    dataset = world.DATASET.model_copy(update={"annotations": (*world.DATASET.annotations, file)})
    recipe = world.recipe(target="verb", num_classes=2, transforms={"flip_labels": {}})
    task = build(recipe, copied, dataset)
    task.check()
    # before a training, not after it
    with pytest.raises(ConfigError, match="num_classes.*found 3; allowed: 2, the labels of tiny"):
        build(recipe.model_copy(update={"num_classes": 3}), copied, dataset).check()
    assert [task.samples("val", "test")[index]["label_id"] for index in range(3)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sampling": {"kind": "sliding", "num_segments": 1}},
            r"sampling\.kind.*found 'sliding'; allowed: segments, dense",
        ),
        (
            {"sampling": {"kind": "key_frame", "num_segments": 1}},
            r"sampling\.kind.*found 'key_frame'",
        ),
        ({"sampling": {"kind": "dense"}}, r"sampling\.num_segments.*found 4.*1 with kind 'dense'"),
        (
            {"views": {"num_segments": 25}},
            r"views\.num_segments.*found 25; allowed: 4, which this family is built for, or null",
        ),
        ({"views": {"num_clips": 2, "twice": True}}, r"views\.num_clips.*1 with views\.twice"),
        ({"views": {"crop": 64}}, r"transforms\.crop.*found 64"),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    world, stored: Layout, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(world.recipe(**changes), stored, world.DATASET).check()


def test_a_tsn_may_test_with_more_segments(world, stored: Layout) -> None:
    changes = {
        "family": "tsn",
        "model": {"depth": 10, "width": 8},
        "views": {"num_segments": 9, "average": "feature", "num_crops": 3},
    }
    task = build(world.recipe(**changes), stored, world.DATASET)
    task.check()
    batch = task.collate([task.samples("val", "test")[0]])
    assert batch["frames"].shape == (1, 3, 3, 9, 24, 24)
    with torch.inference_mode():
        assert task.predict(model_of(task), batch)[0]["scores"].shape == (3,)
    assert task.samples("val", "validate")[0]["frames"].shape == (1, 3, 4, 24, 24)


def test_validation_takes_one_window_of_many(world, stored: Layout) -> None:
    task = build(
        world.recipe(sampling={"kind": "dense_sample", "sample_range": 8, "num_positions": 5}),
        stored,
        world.DATASET,
    )
    task.check()
    counts = [
        task.samples("val", mode)[0]["frames"].shape[0] for mode in ("train", "validate", "test")
    ]
    assert counts == [1, 1, 5]


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
