"""Clips from tables and store: coverage, views, labels, seeds, and loud failures."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from configs.schema import Views
from ops.data.clips import ClipDataset, Coverage, DataError, SampleError, load_clips
from ops.store.layout import Layout


def dataset(world, layout: Layout, split: str = "train", **options) -> ClipDataset:
    recipe = world.recipe()
    return ClipDataset(load_clips(layout, world.DATASET).clips[split], recipe.sampling, recipe.transforms, **options)


def test_only_stored_clips_count_and_the_rest_is_told(world, stored: Layout) -> None:
    table = load_clips(stored, world.DATASET)
    assert table.coverage == {"train": Coverage(25, 24), "val": Coverage(10, 9)}
    assert [len(table.clips[split]) for split in ("train", "val")] == [24, 9]
    assert table.label_ids == {"right": 0, "left": 1, "still": 2}
    first = table.clips["train"][0]
    assert (first.clip_id, first.num_frames, first.source) == ("clip-train/000", 12, "clips.csv:2")
    assert Coverage(0, 0).share == 0 and table.coverage["train"].share == 0.96


def test_a_clip_is_the_whole_file_whatever_its_place_in_the_source(world, stored: Layout) -> None:
    views = Views(average="score")
    item = dataset(world, stored, views=views)[0]  # the table says 10 s to 20 s; the file has 12 frames
    assert item["frames"].shape == (1, 3, 4, 24, 24) and item["frames"].dtype == np.float32
    assert item["label_id"] == 0 and item["clip_id"] == "clip-train/000" and item["video_id"] == "train/000"


def test_training_views_follow_seed_epoch_and_index_alone(world, stored: Layout) -> None:
    one, two = (dataset(world, stored, seed=5) for _ in range(2))
    one.set_epoch(1)
    two.set_epoch(2)
    first, other = one[3]["frames"], two[3]["frames"]
    assert not np.array_equal(first, other)
    two.set_epoch(1)
    _ = two[7], two[1]
    assert np.array_equal(first, two[3]["frames"])
    reseeded = dataset(world, stored, seed=6)
    reseeded.set_epoch(1)
    assert not np.array_equal(first, reseeded[3]["frames"])


def test_test_views_are_clips_then_crops(world, stored: Layout) -> None:
    views = Views(num_clips=2, num_crops=3, average="prob")
    many = dataset(world, stored, views=views)[0]["frames"]
    assert many.shape == (6, 3, 4, 24, 24)
    single = dataset(world, stored, views=Views(num_crops=3))[0]["frames"]
    assert np.array_equal(many[:3], single)  # the first clip's three crops come first


def test_a_mirrored_view_exchanges_its_label(world, stored: Layout) -> None:
    recipe = world.recipe(transforms={"flip": 1.0})
    clips = load_clips(stored, world.DATASET).clips["train"]
    always = ClipDataset(clips, recipe.sampling, recipe.transforms, mirrored_ids={0: 1, 1: 0})
    assert [always[index]["label_id"] for index in range(3)] == [1, 0, 2]


def test_a_dataset_travels_without_its_open_videos(world, stored: Layout) -> None:
    original = dataset(world, stored, seed=1)
    original.set_epoch(3)
    expected = original[2]["frames"]
    copy = pickle.loads(pickle.dumps(original))
    assert not copy._readers and original._readers
    assert np.array_equal(copy[2]["frames"], expected)


def test_a_missing_array_names_clip_and_uri(world, stored: Layout) -> None:
    recipe = world.recipe()
    clip = load_clips(stored, world.DATASET).clips["val"][0]._replace(uri=f"{stored.root}/nowhere.zarr")
    broken = ClipDataset([clip], recipe.sampling, recipe.transforms)
    with pytest.raises(SampleError, match=r"clip 'clip-val/000' at .*nowhere\.zarr"):
        broken[0]


def test_frames_beyond_the_array_are_an_error_not_black(world, stored: Layout) -> None:
    recipe = world.recipe()
    clip = load_clips(stored, world.DATASET).clips["val"][0]._replace(num_frames=100)
    with pytest.raises(SampleError, match="outside the video's 12 frames"):
        ClipDataset([clip], recipe.sampling, recipe.transforms, views=Views())[0]


def test_no_table_says_what_to_do(world, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset 'tiny': no clips table at .*clips\.parquet; read the annotations first"):
        load_clips(Layout(str(tmp_path)), world.DATASET)
