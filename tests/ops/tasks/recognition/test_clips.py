"""Clips from tables and store: coverage, views, labels, seeds, and loud failures."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from configs.schema import ConfigError, Views, content_hash
from ops.data.coverage import Coverage
from ops.data.errors import DataError, SampleError
from ops.store.layout import Layout
from ops.store.reader import FrameReader
from ops.store.tables import CLIPS, read_table, write_table
from ops.tasks.recognition.clips import ClipDataset, load_clips, version_of


def dataset(world, layout: Layout, split: str = "train", **options) -> ClipDataset:
    recipe = world.recipe()
    return ClipDataset(
        load_clips(layout, world.DATASET).clips[split],
        recipe.sampling,
        recipe.transforms,
        **options,
    )


def test_only_stored_clips_count_and_the_rest_is_told(world, stored: Layout) -> None:
    table = load_clips(stored, world.DATASET)
    assert table.coverage == {"train": Coverage(25, 24), "val": Coverage(10, 9)}
    assert [len(table.clips[split]) for split in ("train", "val")] == [24, 9]
    assert table.label_ids == {"right": 0, "left": 1, "still": 2}
    first = table.clips["train"][0]
    assert (first.clip_id, first.num_frames, first.source) == ("clip-train/000", 12, "clips.csv:2")
    assert Coverage(0, 0).share == 0 and table.coverage["train"].share == 0.96


def test_a_clip_without_a_place_is_the_whole_file(world, stored: Layout) -> None:
    item = dataset(world, stored, views=Views(average="score"))[0]
    assert item["frames"].shape == (1, 3, 4, 24, 24) and item["frames"].dtype == np.float32
    assert (
        item["label_id"] == 0
        and item["clip_id"] == "clip-train/000"
        and item["video_id"] == "train/000"
    )
    assert (item["index"], item["epoch"]) == (0, 0)


def seen(samples: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Notes every read of frames."""
    asked: list[list[int]] = []
    read = FrameReader.read
    monkeypatch.setattr(
        FrameReader,
        "read",
        lambda self, indices: asked.append(np.asarray(indices).tolist()) or read(self, indices),
    )
    return asked


def test_a_place_inside_a_video_is_cut_by_its_timestamps(
    world, stored: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 10 frames per second
    clip = load_clips(stored, world.DATASET).clips["val"][0]._replace(start_s=0.4, end_s=0.8)
    recipe = world.recipe()
    samples = ClipDataset([clip], recipe.sampling, recipe.transforms, views=Views())
    asked = seen(samples, monkeypatch)
    samples[0]
    assert asked == [[4, 5, 6, 7]]
    training = ClipDataset([clip], recipe.sampling, recipe.transforms)
    for epoch in range(5):
        training.set_epoch(epoch)
        training[0]
    assert {frame for frames in asked for frame in frames} == {4, 5, 6, 7}


def test_a_place_past_the_end_is_an_error(world, stored: Layout) -> None:
    clip = load_clips(stored, world.DATASET).clips["val"][0]._replace(start_s=9.0, end_s=10.0)
    recipe = world.recipe()
    with pytest.raises(
        SampleError,
        match=(
            r"clip 'clip-val/000' at .*begins at 9\.000 s, after the video's last frame at 1\.100 s"
        ),
    ):
        ClipDataset([clip], recipe.sampling, recipe.transforms)[0]


def test_sampling_on_a_clock(world, stored: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = world.recipe(sampling={"fps": 5.0, "kind": "dense", "num_segments": 1, "clip_len": 4})
    samples = ClipDataset(
        load_clips(stored, world.DATASET).clips["val"],
        recipe.sampling,
        recipe.transforms,
        views=Views(),
    )
    asked = seen(samples, monkeypatch)
    samples[0]
    assert asked == [[2, 4, 6, 8]]  # 6 ticks of 0.2 s: the middle four of 0, 2, 4, 6, 8, 10


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


def test_copies_are_augmented_apart_and_the_first_is_the_only_one(world, stored: Layout) -> None:
    recipe = world.recipe()
    clips = load_clips(stored, world.DATASET).clips["train"]
    one, three = (
        ClipDataset(clips, recipe.sampling, recipe.transforms, seed=5, copies=copies)
        for copies in (1, 3)
    )
    item = three[4]
    assert item["frames"].shape == (3, 3, 4, 24, 24) and item["label_id"].shape == (3,)
    assert np.array_equal(item["frames"][:1], one[4]["frames"])
    assert not np.array_equal(item["frames"][0], item["frames"][1]) and not np.array_equal(
        item["frames"][1], item["frames"][2]
    )
    assert np.array_equal(item["frames"], three[4]["frames"])


def test_test_views_are_crops_then_clips(world, stored: Layout) -> None:
    many = dataset(world, stored, views=Views(num_clips=2, num_crops=3, average="prob"))[0][
        "frames"
    ]
    assert many.shape == (6, 3, 4, 24, 24)
    crops = dataset(world, stored, views=Views(num_crops=3))[0]["frames"]
    clips = dataset(world, stored, views=Views(num_clips=2))[0]["frames"]
    assert np.array_equal(many[::2], crops)  # all clips of the first crop come first
    assert np.array_equal(many[4:], clips)  # the last crop is the middle


def test_test_views_may_differ_from_training(
    world, stored: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = dataset(
        world, stored, views=Views(num_segments=6, twice=True, short_side=40, crop=36)
    )
    asked = seen(samples, monkeypatch)
    assert samples[0]["frames"].shape == (2, 3, 6, 36, 36)
    assert asked == [[1, 3, 5, 7, 9, 11, 0, 2, 4, 6, 8, 10]]
    whole = dataset(world, stored, views=Views(full=True, short_side=48))[0]["frames"]
    assert whole.shape == (1, 3, 4, 48, 60)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (Views(crop=40), r"transforms\.crop.*found 40.*short_side = 32"),
        (Views(full=True, num_crops=3), r"views\.num_crops.*1 with views\.full"),
        (Views(num_clips=2, twice=True), r"views\.num_clips.*1 with views\.twice"),
    ],
)
def test_views_that_do_not_fit_are_named_before_anything_is_read(
    world, stored: Layout, views: Views, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dataset(world, stored, views=views)


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
    clip = (
        load_clips(stored, world.DATASET)
        .clips["val"][0]
        ._replace(array_uri=f"{stored.root}/nowhere.zarr")
    )
    broken = ClipDataset([clip], recipe.sampling, recipe.transforms)
    with pytest.raises(SampleError, match=r"clip 'clip-val/000' at .*nowhere\.zarr"):
        broken[0]


def test_frames_beyond_the_array_are_an_error_not_black(world, stored: Layout) -> None:
    recipe = world.recipe()
    clip = load_clips(stored, world.DATASET).clips["val"][0]._replace(num_frames=100)
    with pytest.raises(SampleError, match="outside the video's 12 frames"):
        ClipDataset([clip], recipe.sampling, recipe.transforms, views=Views())[0]


def test_no_table_says_what_to_do(world, tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"dataset 'tiny': no clips table at .*clips\.parquet; read the annotations first",
    ):
        load_clips(Layout(str(tmp_path)), world.DATASET)


def rewritten(world, stored: Layout, folder: Path, edit, schema: pa.Schema = CLIPS) -> Layout:
    """The clips table through a function over its rows, beside no frames at all."""
    layout = Layout(str(folder))
    rows = read_table(stored.annotation_table("tiny", "clips")).to_pylist()
    write_table(
        layout.annotation_table("tiny", "clips"), pa.Table.from_pylist(edit(rows), schema=schema)
    )
    return layout


def test_several_labels_of_a_clip_are_an_error(world, stored: Layout, tmp_path: Path) -> None:
    second = {"label": "still", "label_id": 2, "source": "clips.csv:99"}
    layout = rewritten(world, stored, tmp_path, lambda rows: [*rows, {**rows[0], **second}])
    message = (
        r"split 'train': clip 'clip-train/000' has 2 labels: 'right' \(clips\.csv:2\), 'still'"
        r" \(clips\.csv:99\)"
    )
    with pytest.raises(DataError, match=message):
        load_clips(layout, world.DATASET)


def test_targets_are_label_spaces_of_their_own(world, stored: Layout, tmp_path: Path) -> None:
    layout = rewritten(
        world,
        stored,
        tmp_path,
        lambda rows: [*rows, {**rows[0], "target": "verb", "label": "go", "label_id": 0}],
    )
    assert load_clips(layout, world.DATASET).label_ids == {"right": 0, "left": 1, "still": 2}
    assert load_clips(layout, world.DATASET, "verb").label_ids == {"go": 0}
    with pytest.raises(
        DataError, match="dataset 'tiny': no clip has a label of target 'noun'; found: label, verb"
    ):
        load_clips(layout, world.DATASET, "noun")


def test_the_same_clip_may_be_in_two_splits(world, stored: Layout, tmp_path: Path) -> None:
    layout = rewritten(world, stored, tmp_path, lambda rows: [*rows, {**rows[0], "split": "val"}])
    assert load_clips(layout, world.DATASET).coverage["val"].annotated == 11


def test_a_table_of_another_version_says_what_to_do(world, stored: Layout, tmp_path: Path) -> None:
    old = CLIPS.remove(CLIPS.get_field_index("target"))
    layout = rewritten(
        world,
        stored,
        tmp_path,
        lambda rows: [{k: v for k, v in row.items() if k != "target"} for row in rows],
        old,
    )
    with pytest.raises(
        DataError, match="written by another version of this code; read the annotations again"
    ):
        load_clips(layout, world.DATASET)


@pytest.mark.parametrize("images", [None, "a3"])
def test_the_version_is_the_content_hash_of_the_clips_as_json(
    world, stored: Layout, tmp_path: Path, images: str | None
) -> None:
    def edit(rows: list[dict]) -> list[dict]:
        rows[0] |= {"clip_id": 'a "quoted" \\ one', "start_s": 0.1, "end_s": 1e16}
        rows[1] |= {"clip_id": "größer\n\x7f", "start_s": None, "end_s": 1.0}
        return rows

    shutil.copytree(stored.root, tmp_path / "copy")
    layout = rewritten(world, stored, tmp_path / "copy", edit)
    lists = list(load_clips(layout, world.DATASET).clips.values())
    rows = [
        [clip.split, clip.clip_id, clip.key, clip.label, clip.label_id, *clip.place]
        for clips in lists
        for clip in clips
    ]
    assert {len(row) for row in rows} == {5, 7}
    assert version_of(lists, images) == content_hash(rows if images is None else [rows, images])


def test_clips_are_a_sequence_made_of_columns(world, stored: Layout) -> None:
    clips = load_clips(stored, world.DATASET).clips["train"]
    assert clips[-1] == clips[23] == list(clips)[23] and clips[:2] == [clips[0], clips[1]]
    with pytest.raises(IndexError):
        clips[24]
    assert pickle.loads(pickle.dumps(clips))[3] == clips[3]
