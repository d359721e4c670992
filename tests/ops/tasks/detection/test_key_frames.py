"""Key frames from tables and store: persons, labels, places, what is left out, seeds, and loud
failures.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import key_frame_world as scenes
from configs.schema import Sampling
from configs.schema.detection import KeyFrames, Pictures
from ops.data.errors import DataError, SampleError
from ops.store.layout import Layout
from ops.store.tables import BOXES, EXCLUDED, from_rows, read_table, write_table
from ops.tasks.detection.key_frame_clips import (
    KeyFrameClips,
    clip_indices,
    flipped,
    model_size,
    padded,
    pixels_of,
    seen_boxes,
)
from ops.tasks.detection.key_frames import KeyFrameTable, load_key_frames

CLASS_OF = {1: 0, 2: 1, 5: 2}
SAMPLING = Sampling(kind="key_frame", clip_len=4, frame_interval=2)
PICTURES = Pictures(short_side=48)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(str(tmp_path_factory.mktemp("scenes")))
    scenes.build_world(layout)
    return layout


def load(layout: Layout, **rules) -> KeyFrameTable:
    return load_key_frames(layout, scenes.DATASET, CLASS_OF, 3, KeyFrames(**rules))


def tubes(layout: Layout) -> None:
    """Turns the boxes into tubes: the rows of second s stand at frames s and s + 1."""
    rows = read_table(layout.annotation_table("scenes", "boxes")).to_pylist()
    rows = [
        {**row, "frame": int(row["timestamp_s"]) + more, "timestamp_s": None}
        for row in rows
        for more in (0, 1)
    ]
    write_table(layout.annotation_table("scenes", "boxes"), from_rows(rows, BOXES))


def test_persons_with_all_that_they_do(stored: Layout) -> None:
    table = load(stored)
    found = table.training["train"]
    assert (len(found), len(table.evaluation["val"])) == (24, 9)
    key = found[4]  # the second key frame of the second video, which has two persons
    assert (key.video.video_id, key.timestamp_s, key.frame) == ("train/01", 2.0, None)
    assert key.persons.tolist() == [-1, -1] or key.persons.tolist() == [0, 1]
    for (walks, red, boxes), box, labels in zip(
        scenes.scene(1)[1], key.boxes, key.labels, strict=True
    ):
        np.testing.assert_allclose(box * (64, 48, 64, 48), boxes[16], atol=1e-4)
        assert labels.tolist() == [not walks, walks, red]


def test_what_is_not_stored_is_told(stored: Layout) -> None:
    coverage = load(stored).coverage["train"]
    assert (coverage.annotated, coverage.usable, coverage.share) == (27, 24, 24 / 27)
    assert coverage.left_out == {
        "not_stored": 3,
        "outside_video": 0,
        "boxes_without_area": 0,
        "boxes_outside": 0,
    }


def test_bad_rows_are_counted_and_a_person_without_action_is_a_person(layout: Layout) -> None:
    box = (0.1, 0.1, 0.5, 0.9)
    extra = [
        scenes.box_row("train/00", "train", 99.0, box, 1, 0),  # after the video's end
        scenes.box_row("train/00", "train", 0.5, (0.3, 0.3, 0.3, 0.8), 1, 0),  # no width
        # half outside: clipped
        scenes.box_row("train/00", "train", 0.5, (0.5, 0.5, 1.5, 0.9), 1, 0),
        scenes.box_row("train/02", "train", 0.5, box, None, 7),
        # wholly outside: a key frame without a person
        scenes.box_row("train/02", "train", 0.75, (1.2, 0.5, 1.5, 0.9), 1, 0),
    ]
    scenes.build_world(layout, extra=extra)
    table = load(layout)
    left_out = table.coverage["train"].left_out
    assert (
        left_out["outside_video"],
        left_out["boxes_without_area"],
        left_out["boxes_outside"],
    ) == (1, 2, 2)
    keys = {
        (key.video.video_id, key.timestamp_s): key
        for key in (table.training["train"][i] for i in range(len(table.training["train"])))
    }
    np.testing.assert_allclose(keys["train/00", 0.5].boxes, [[0.5, 0.5, 1.0, 0.9]])
    assert keys["train/02", 0.5].labels.tolist() == [[False, False, False]]
    assert len(keys["train/02", 0.75].boxes) == 0
    assert ("train/00", 99.0) not in keys


def test_an_action_outside_the_list_is_named(layout: Layout) -> None:
    scenes.build_world(
        layout, extra=[scenes.box_row("train/00", "train", 1.0, (0.1, 0.1, 0.5, 0.9), 9, 0)]
    )
    with pytest.raises(
        DataError,
        match=(
            r"boxes.csv:train/00: action id 9 \('\?'\) is outside the list of dataset 'scenes': 1,"
            r" 2, 5"
        ),
    ):
        load(layout)


def test_excluded_key_frames_do_not_exist(layout: Layout) -> None:
    scenes.build_world(layout)
    row = {"dataset": "scenes", "video_id": "val/01", "split": "val", "timestamp_s": 2.0}
    write_table(layout.excluded_table("scenes"), from_rows([row], EXCLUDED))
    table = load(layout, seconds=(0, 3), empty_in_evaluation=True)
    found = [
        (key.video.video_id, key.timestamp_s)
        for key in map(table.evaluation["val"].__getitem__, range(len(table.evaluation["val"])))
    ]
    assert len(found) == 3 * 4 - 1 and ("val/01", 2.0) not in found and ("val/01", 0.0) in found
    assert len(table.training["train"]) == 24  # without empty ones
    assert len(load(layout, seconds=(0, 3), empty_in_training=True).training["train"]) == 8 * 4


def test_tubes_stand_at_frames(layout: Layout) -> None:
    scenes.build_world(layout)
    tubes(layout)
    table = load(layout, every=2)
    assert {table.training["train"][i].frame for i in range(len(table.training["train"]))} == {2, 4}
    assert len(table.evaluation["val"]) == 3 * scenes.NUM_FRAMES  # also those without a person
    assert table.training["train"][0].timestamp_s is None
    assert (
        len(load(layout, every=2, empty_in_training=True).training["train"])
        == 8 * scenes.NUM_FRAMES // 2
    )
    assert load(layout).evaluation["val"][3 * 4].boxes.shape == (0, 4)


def test_a_missing_table_says_what_to_do(layout: Layout) -> None:
    with pytest.raises(DataError, match="no boxes table.*read the annotations first"):
        load(layout)


def test_the_digest_sees_every_box(layout: Layout) -> None:
    scenes.build_world(layout)
    first = load(layout).training["train"].digest()
    assert load(layout).training["train"].digest() == first
    scenes.build_world(
        layout, extra=[scenes.box_row("train/00", "train", 1.0, (0.1, 0.1, 0.5, 0.9), 1, 0)]
    )
    assert load(layout).training["train"].digest() != first


# --------------------------------------------------------------------------------------------------
# clips


def test_the_clip_around_a_key_frame() -> None:
    times = np.arange(32) / 8
    assert clip_indices(SAMPLING, 32, times, 2.0, None).tolist() == [12, 14, 16, 18]
    # the ends stand still
    assert clip_indices(SAMPLING, 32, None, None, 1).tolist() == [0, 0, 1, 3]
    assert clip_indices(SAMPLING, 32, times, 3.99, None).tolist() == [27, 29, 31, 31]
    for at_s in (4.5, -1.0):
        with pytest.raises(ValueError, match="outside the video's 4.000 s"):
            clip_indices(SAMPLING, 32, times, at_s, None)
    with pytest.raises(ValueError, match="key frame 32 is outside"):
        clip_indices(SAMPLING, 32, None, None, 32)


def test_on_a_clock_the_clip_spans_the_same_time_at_any_rate() -> None:
    clock = SAMPLING.model_copy(update={"fps": 4.0})
    assert clip_indices(clock, 32, np.arange(32) / 8, 2.0, None).tolist() == [8, 12, 16, 20]
    assert clip_indices(clock, 32, np.arange(32) / 4, 2.0, None).tolist() == [4, 6, 8, 10]
    assert clip_indices(clock, 32, np.arange(32) / 8, None, 16).tolist() == [8, 12, 16, 20]


def test_items_in_pixels_of_the_model(stored: Layout) -> None:
    samples = KeyFrameClips(
        load(stored).evaluation["val"], SAMPLING, Pictures(short_side=24), training=False
    )
    item = samples[0]
    assert item["clip"].shape == (3, 4, 24, 32) and item["clip"].dtype == np.float32
    walks, red, boxes = scenes.scene(100)[1][0]
    np.testing.assert_allclose(item["boxes"][0], boxes[8] / 2, atol=1e-4)
    assert item["labels"][0].tolist() == [not walks, walks, red]
    assert (item["video_id"], item["timestamp_s"], item["height"], item["width"]) == (
        "val/00",
        1.0,
        48,
        64,
    )
    x1, y1, x2, y2 = item["boxes"][0].astype(int)
    inside = item["clip"][:, 2, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
    # the key frame is frame T // 2, and the box fits it
    assert inside.std(axis=(1, 2)).max() < 0.05


def test_training_items_depend_on_seed_epoch_and_index_alone(stored: Layout) -> None:
    found = load(stored).training["train"]
    pictures = PICTURES.model_copy(update={"brightness": 0.3, "saturation": 0.3})
    one, two = (KeyFrameClips(found, SAMPLING, pictures, training=True, seed=5) for _ in range(2))
    two = pickle.loads(pickle.dumps(two))
    one.set_epoch(3), two.set_epoch(3)
    np.testing.assert_array_equal(one[7]["clip"], two[7]["clip"])
    sums = set()
    for epoch in range(8):
        one.set_epoch(epoch)
        sums.add(float(one[7]["clip"].sum()))
    assert len(sums) == 8


def test_a_mirrored_clip_has_mirrored_boxes_and_labels(stored: Layout) -> None:
    found = load(stored).training["train"]
    plain = KeyFrameClips(found, SAMPLING, PICTURES, training=False)[3]
    item = KeyFrameClips(
        found,
        SAMPLING,
        PICTURES.model_copy(update={"flip": 1.0}),
        training=True,
        mirrored={0: 1, 1: 0},
    )[3]
    np.testing.assert_array_equal(item["clip"], plain["clip"][..., ::-1])
    np.testing.assert_allclose(flipped(item["boxes"], 64), plain["boxes"])
    np.testing.assert_array_equal(item["labels"], plain["labels"][:, [1, 0, 2]])
    np.testing.assert_array_equal(item["true_boxes"], plain["true_boxes"])


def test_a_window_cuts_boxes_and_leaves_out_who_is_hardly_seen(stored: Layout) -> None:
    found = load(stored).training["train"]
    pictures = PICTURES.model_copy(update={"zoom": 0.6, "flip": 0.0})
    samples, seen = KeyFrameClips(found, SAMPLING, pictures, training=True, seed=1), 0
    for index in range(len(found)):
        item = samples[index]
        assert item["clip"].shape == (3, 4, 48, 64) and len(item["boxes"]) == len(
            item["labels"]
        ) <= len(item["true_boxes"])
        assert (item["boxes"] >= 0).all() and (item["boxes"] <= (64, 48, 64, 48)).all()
        for box in item["boxes"].astype(int):  # persons are bright, the noise behind them is not
            inside = item["clip"][:, 2, box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2].max(
                axis=0
            )
            assert (inside > 1).mean() > 0.9
            seen += 1
    assert seen > 20
    inside, boxes = seen_boxes(
        np.array([[0.0, 0, 0.5, 1], [0.4, 0, 0.8, 1]], np.float32), (0.4, 0.0, 0.9, 1.0)
    )
    assert inside.tolist() == [False, True]
    np.testing.assert_allclose(boxes, [[0, 0, 0.8, 1]], atol=1e-6)


def test_sizes_and_padding() -> None:
    assert model_size(480, 640, Pictures(short_side=288)) == (288, 384)
    assert model_size(240, 1000, Pictures(short_side=288, long_side=600)) == (144, 600)
    frames = np.full((2, 30, 50, 3), 200, np.uint8)
    small, _ = pixels_of(frames, Pictures(short_side=16))
    large, _ = pixels_of(frames.transpose(0, 2, 1, 3), Pictures(short_side=30))
    batch = padded([small, large], 32)
    assert batch.clips.shape == (2, 3, 2, 64, 32)
    assert batch.sizes.tolist() == [[16, 27], [50, 30]]
    assert (
        float(batch.clips[0, :, :, 16:].abs().sum() + batch.clips[0, :, :, :, 27:].abs().sum()) == 0
    )
    np.testing.assert_array_equal(batch.clips[1, :, :, :50, :30].numpy(), large)


def test_an_unreadable_sample_is_named(layout: Layout) -> None:
    scenes.build_world(layout)
    samples = KeyFrameClips(load(layout).training["train"], SAMPLING, PICTURES, training=False)
    Path(samples.key_frames[0].video.array_uri, "c", "0", "0", "0", "0").unlink()
    with pytest.raises(SampleError, match=r"key frame at 1\.0 s of 'train/00'"):
        samples[0]
