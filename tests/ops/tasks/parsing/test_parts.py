"""Parts and frames: vocabularies, what is odd, and views that keep boxes and pixels together."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs.schema import ConfigError
from configs.schema.parsing import FrameChoice, Images
from ops.data.errors import DataError, SampleError
from ops.store.layout import Layout
from ops.tasks.parsing import part_frames
from ops.tasks.parsing.part_frames import (
    FramesDataset,
    Scene,
    cut,
    flip,
    fractions,
    resized,
    shown_size,
)
from ops.tasks.parsing.parts import Humans, load_parts, mirrored_parts, truth_of

IMAGES = Images(
    short_sides=(40, 48),
    test_short_side=48,
    long_side=96,
    crop=0.5,
    crop_short_sides=(48,),
    crop_sides=(30, 44),
)


@pytest.fixture
def copied(stored_people: Layout, tmp_path: Path) -> Layout:
    """A layout whose tables may be changed."""
    shutil.copytree(stored_people.root, tmp_path / "copy", dirs_exist_ok=True)
    return Layout(str(tmp_path / "copy"))


def kinds(layout: Layout, people) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in load_parts(layout, people.DATASET, states=people.STATES).findings:
        found.setdefault(finding.kind, []).append(str(finding))
    return found


def test_vocabulary_and_coverage_are_what_the_table_holds(people, stored_people: Layout) -> None:
    table = load_parts(stored_people, people.DATASET)
    assert (
        table.words == (people.PARTS_OF, people.STATES) and table.pairs.all() and not table.findings
    )
    assert {split: (own.annotated, own.usable) for split, own in table.coverage.items()} == {
        "train": (9, 8),
        "val": (4, 3),
    }
    first, second = table.videos["train"][:2]
    assert (
        first.video_id == "train/0"
        and first.action == "act_0"
        and first.frames.tolist() == list(range(12))
    )
    assert [len(second.humans_of(place).boxes) for place in range(12)] == [2] * 12
    rows = people.video("train/1", "train", 1, 2)[1]
    own = second.humans_of(3)
    assert own.seen.all() and own.boxes[1].tolist() == [
        rows[36 + 9][name] for name in ("px1", "py1", "px2", "py2")
    ]
    assert people.STATES[own.states[0, 2]] == next(
        row["state"]
        for row in rows
        if (row["frame"], row["person"], row["part"]) == (3, 0, "right_hand")
    )


def test_what_is_odd_is_reported_by_file_and_frame(people, copied: Layout) -> None:
    def edit(rows: list[dict]) -> list[dict]:
        own = [row for row in rows if row["video_id"] == "train/0"]
        box = [own[0][name] for name in ("px1", "py1", "px2", "py2")]
        own[0]["state"] = "juggle"
        own[4] |= {"x1": 0.0, "y1": 40.0, "x2": 1.0, "y2": 47.0}
        more = [
            people.row_of("train/0", "train", 5, 1, box, None, None, None),
            people.row_of("train/0", "train", 6, 1, (1, 1, 20, 20), None, None, None),
            people.row_of(
                "train/0", "train", 7, 1, (100, 1, 120, 20), "head", (101, 2, 110, 9), "wave"
            ),
            people.row_of("train/0", "train", 20, 0, box, "head", box, "wave"),
        ]
        return rows + more

    people.change(copied, edit)
    found = kinds(copied, people)
    assert {kind: len(own) for kind, own in found.items()} == {
        "unknown_state": 1,
        "part_outside_person": 1,
        "no_parts": 2,
        "duplicate_person": 1,
        "outside_picture": 1,
        "missing_frame": 1,
    }
    assert found["unknown_state"] == [
        "parts/train/0/img_00001.json:humans[0], frame 0: head has the state 'juggle', which the"
        " vocabulary lacks"
    ]
    assert found["missing_frame"][0].startswith(
        "parts/train/0/img_00021.json:humans[0], frame 20: the stored video 'train/0' has 12 frames"
    )
    assert (
        "frame 7" in found["outside_picture"][0]
        and "img_00006.json:humans[1]" in found["duplicate_person"][0]
    )
    video = load_parts(copied, people.DATASET, states=people.STATES).videos["train"][0]
    assert video.humans_of(0).states[0, 0] == -1 and video.humans_of(0).seen[0, 0]
    # the missing frame is scored, and never seen
    assert len(video.frames) == 13 and len(video.stored) == 12


def test_a_part_that_is_not_known_and_tables_that_are_not_there_are_errors(
    people, stored_people: Layout, layout: Layout
) -> None:
    with pytest.raises(
        DataError, match=r"img_00001\.json.*part 'left_hand' is not known; allowed: head"
    ):
        load_parts(stored_people, people.DATASET, parts=("head",))
    with pytest.raises(DataError, match="read the annotations first"):
        load_parts(layout, people.DATASET)


def test_the_truth_holds_every_fifth_frame_from_the_first(people, stored_people: Layout) -> None:
    truth = truth_of(load_parts(stored_people, people.DATASET).videos["val"], 5)
    assert (
        truth.frame.tolist() == [0, 5, 10] * 3
        and truth.counts.tolist() == [1] * 3 + [2] * 3 + [1] * 3
    )
    assert truth.actions == ["act_0", "act_1", "act_2"] and truth.boxes.shape == (12, 4)


def test_left_and_right_change_places_in_a_mirror() -> None:
    parts = ("head", "left_arm", "left_foot", "right_arm")
    assert mirrored_parts(parts, {}, "x").tolist() == [0, 3, 2, 1]
    assert mirrored_parts(parts, {"head": "left_foot"}, "x").tolist() == [2, 1, 0, 3]
    with pytest.raises(DataError, match="part 'tail' is not known"):
        mirrored_parts(parts, {"head": "tail"}, "x")


def scene() -> Scene:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[4:12, 3:9] = 200
    box = np.array([[3, 4, 9, 12]], np.float32)
    return Scene(
        picture,
        Humans(box, np.array([[True, False]]), np.stack([box, box], 1), np.array([[1, -1]])),
    )


def test_boxes_stay_on_their_pixels() -> None:
    def bounds(picture: np.ndarray) -> list[int]:
        rows, columns = np.nonzero(picture[..., 0] > 100)
        return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]

    mirror = flip(scene(), np.array([1, 0]))
    assert bounds(mirror.picture) == mirror.humans.boxes[0].tolist() == [21, 4, 27, 12]
    assert mirror.humans.seen.tolist() == [[False, True]] and mirror.humans.states.tolist() == [
        [-1, 1]
    ]
    twice = resized(scene(), 40, None)
    assert (
        twice.picture.shape == (40, 60, 3)
        and np.abs(np.array(bounds(twice.picture)) - twice.humans.boxes[0]).max() <= 1
    )
    for seed in range(20):
        part = cut(scene(), (14, 18), np.random.default_rng(seed))
        expected = np.clip(
            part.humans.boxes[0], 0, [part.picture.shape[1], part.picture.shape[0]] * 2
        )
        if (expected[2:] > expected[:2]).all():
            assert bounds(part.picture) == expected.tolist()


def test_what_a_cut_leaves_out_is_not_learnt() -> None:
    away = Scene(
        scene().picture[:, 12:],
        scene().humans._replace(
            boxes=scene().humans.boxes - [12, 0, 12, 0], parts=scene().humans.parts - 12
        ),
    )
    assert len(fractions(away)["boxes"]) == 0
    doubled = Scene(
        scene().picture, Humans(*(np.concatenate([own, own]) for own in scene().humans))
    )
    whole = fractions(doubled)
    assert whole["boxes"].shape == (1, 4)  # a person twice is one
    np.testing.assert_allclose(whole["boxes"][0], [0.2, 0.4, 0.2, 0.4], rtol=1e-6)
    assert whole["parts"][0, 1].tolist() == [0, 0, 0, 0] and whole["states"].tolist() == [[1, -1]]


def test_huge_and_lengthy_pictures_have_their_longer_side_bounded() -> None:
    assert shown_size(480, 640, 800, 1333) == (800, 1067)
    assert shown_size(8000, 12000, 800, 1333) == (800, 1200) and shown_size(
        100, 4000, 800, 1333
    ) == (33, 1333)
    with pytest.raises(ConfigError, match=r"images\.long_side.*at least 48"):
        part_frames.check(Images(short_sides=(48,), test_short_side=32, long_side=40), "recipe 'x'")


def dataset(people, layout: Layout, training: bool = True, seed: int = 1) -> FramesDataset:
    table = load_parts(layout, people.DATASET)
    return FramesDataset(
        table.videos["train"],
        IMAGES,
        FrameChoice(per_video=3),
        np.array([0, 2, 1]),
        training=training,
        seed=seed,
    )


def test_an_item_depends_on_seed_epoch_and_index_alone(people, stored_people: Layout) -> None:
    one, other = (
        dataset(people, stored_people),
        pickle.loads(pickle.dumps(dataset(people, stored_people))),
    )
    assert len(one) == 24
    other[5]
    for index in (0, 7, 23):
        first, second = one[index], other[index]
        assert all(np.array_equal(first[name], second[name]) for name in first)
    before = [one[index]["pixels"] for index in range(6)]
    one.set_epoch(2)
    assert any(
        old.shape != one[index]["pixels"].shape or not np.array_equal(old, one[index]["pixels"])
        for index, old in enumerate(before)
    )
    shares = {dataset(people, stored_people, seed=seed)[1]["frame"] for seed in range(30)}
    assert shares == {4, 5, 6, 7}  # the second third of twelve frames


def test_evaluation_sees_whole_frames_in_order(people, stored_people: Layout) -> None:
    samples = dataset(people, stored_people, training=False)
    assert [(samples[index]["video_id"], samples[index]["frame"]) for index in range(4)] == [
        ("train/0", 0), ("train/0", 5), ("train/0", 10), ("train/1", 0)
    ]  # fmt: skip
    item = samples[3]
    assert (
        item["pixels"].shape == (3, 48, 64)
        and item["boxes"].shape == (2, 4)
        and item["parts"].shape == (2, 3, 4)
    )
    centre, size = item["boxes"][0, :2], item["boxes"][0, 2:]
    low = (centre - size / 2) * [64, 48]
    rows = people.video("train/1", "train", 1, 2)[1]
    assert low == pytest.approx([rows[0]["px1"], rows[0]["py1"]], abs=1e-4)


def test_a_frame_that_cannot_be_read_is_an_error(people, tmp_path: Path) -> None:
    own = Layout(str(tmp_path))  # not a copy: its ledger would name the arrays that all tests read
    people.build_people(own)
    samples = dataset(people, own)
    for file in Path(samples.videos[0].array_uri.removeprefix("file://")).rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.unlink()
    with pytest.raises(SampleError, match="video 'train/0', frame"):
        samples[0]
