"""Images beside the clips: which ones come when, what the network learns from them, and what is
refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs.schema import ConfigError
from ops.data.errors import DataError, SampleError
from ops.store.layout import Layout
from ops.tasks.recognition.images import read_folder
from ops.training.loop import fit
from ops.training.task import build

COLOURS = {"blue": (20, 30, 220), "red": (220, 30, 20)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures of two colours, of many sizes and both kinds."""
    for index in range(8):
        name, colour = list(COLOURS.items())[index % 2]
        place = tmp_path / "images" / name / f"{index}.{'JPEG' if index < 6 else 'png'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new(
            "L" if index == 7 else "RGB", (40 + index, 50), 90 if index == 7 else colour
        ).save(place)
    (tmp_path / "images" / "readme.txt").write_text("not an image")
    return tmp_path / "images"


def omni(world, folder: Path, **changes: object):
    model = {"depth": 10, "width": 4, "image_classes": 2, "dropout": 0.0}
    images = {"root": str(folder), "per_clip": 3}
    return world.recipe(
        **(
            {"family": "omnisource", "model": model, "images": images, "views": {"average": "prob"}}
            | changes
        )
    )


def test_a_folder_is_listed_by_class(folder: Path) -> None:
    found = read_folder(str(folder))
    assert found.classes == ["blue", "red"] and found.class_ids.tolist() == [0] * 4 + [1] * 4
    assert found.names[0] == "blue/0.JPEG" and found.version == read_folder(str(folder)).version
    (folder / "red" / "7.png").unlink()
    assert read_folder(str(folder)).version != found.version


@pytest.mark.parametrize(
    ("loose", "says"), [(False, "none found"), (True, "1.jpg lies in no folder")]
)
def test_a_folder_of_another_form_is_named(tmp_path: Path, loose: bool, says: str) -> None:
    if loose:
        (tmp_path / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=f"{says}; expected <class>/<image>.jpg"):
        read_folder(str(tmp_path))


def test_every_image_comes_once_before_any_comes_again(world, stored: Layout, folder: Path) -> None:
    task = build(omni(world, folder), stored, world.DATASET)
    task.check()
    samples = task.samples("train", "train")
    samples.set_epoch(1)
    items = [samples[index] for index in range(len(samples))]
    assert items[0]["images"].shape == (3, 3, 1, 24, 24) and items[0]["images"].dtype == np.float32
    ids = np.concatenate([item["image_ids"] for item in items])
    assert len(ids) == 72 and (np.bincount(ids) == 36).all()  # each of the eight nine times
    np.testing.assert_array_equal(samples[5]["images"], items[5]["images"])
    samples.set_epoch(2)
    assert not np.array_equal(samples[5]["images"], items[5]["images"])
    assert (
        "images" not in task.samples("val", "validate")[0]
        and "images" not in task.samples("val", "test")[0]
    )


def test_the_label_is_that_of_the_pixels(world, stored: Layout, folder: Path) -> None:
    (folder / "red" / "7.png").unlink()  # the grey one
    samples = build(omni(world, folder), stored, world.DATASET).samples("train", "train")
    for index in range(4):
        item = samples[index]
        redder = item["images"].mean((2, 3, 4))[:, 0] > item["images"].mean((2, 3, 4))[:, 2]
        assert redder.astype(int).tolist() == item["image_ids"].tolist()


def test_both_sources_teach_the_trunk_and_each_its_own_branch(
    world, stored: Layout, folder: Path
) -> None:
    task = build(omni(world, folder), stored, world.DATASET)
    torch.manual_seed(0)
    model, samples = task.model().train(), task.samples("train", "train")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            # those that start at 0 would hold back what comes before them
            torch.nn.init.ones_(module.weight)
    batch = task.collate([samples[index] for index in range(4)])
    assert batch["images"].shape == (4, 3, 3, 1, 24, 24) and batch["image_ids"].shape == (4, 3)
    videos = model.norm.running_mean.clone()
    model.forward_images(batch["images"].flatten(0, 1))
    # images leave the statistics of the videos' branch alone
    assert torch.equal(model.norm.running_mean, videos)
    loss = task.losses(model, batch)["loss"]
    loss.backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in model.parameters()
    )
    light = build(
        omni(world, folder, images={"root": str(folder), "per_clip": 3, "weight": 0.5}),
        stored,
        world.DATASET,
    )
    without = {key: value for key, value in batch.items() if not key.startswith("image")}
    alone = task.losses(model, without)["loss"]
    assert alone < light.losses(model, batch)["loss"] < loss


def test_it_trains_in_the_loop(world, stored: Layout, folder: Path) -> None:
    recipe = omni(world, folder, training={"epochs": 2, "batch_size": 8})
    task = build(recipe, stored, world.DATASET)
    state = fit(task, recipe.scale)
    assert state.epoch == 2 and np.isfinite(state.history[-1]["loss"])


def test_mistakes_are_named(world, stored: Layout, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"images.*null: the family has no branch for images"):
        build(
            world.recipe(images={"root": str(folder), "per_clip": 1}), stored, world.DATASET
        ).check()
    with pytest.raises(
        ConfigError, match=r"model\.image_classes.*found 5; allowed: 2, the folders of"
    ):
        wrong = {"depth": 10, "width": 4, "image_classes": 5}
        build(omni(world, folder, model=wrong), stored, world.DATASET).check()
    for path in (folder / "blue").iterdir():
        path.write_bytes(b"not a picture")
    samples = build(omni(world, folder), stored, world.DATASET).samples("train", "train")
    with pytest.raises(SampleError, match=r"image at .*blue/.*: UnidentifiedImageError"):
        [samples[index] for index in range(4)]


def test_the_images_are_part_of_the_data(world, stored: Layout, folder: Path) -> None:
    with_images, without = (
        build(omni(world, folder), stored, world.DATASET),
        build(world.recipe(), stored, world.DATASET),
    )
    first = with_images.data_version()
    assert first != without.data_version()
    Image.new("RGB", (40, 40)).save(folder / "red" / "9.png")
    assert build(omni(world, folder), stored, world.DATASET).data_version() != first
