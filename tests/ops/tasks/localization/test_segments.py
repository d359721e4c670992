"""Untrimmed videos with features: what is joined, what is left out with a reason, and the windows
that training sees.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import configs
import localization_world as world
from configs.schema.localization import Steps
from ops.data.errors import DataError, SampleError
from ops.store.layout import Layout
from ops.tasks.localization.segments import SegmentDataset, cut, grid_of, load_segments, resampled


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The user's YAML files, and the storage root; nothing is in it yet."""
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setenv("KINOGRAPH_STORAGE", str(tmp_path / "storage"))
    world.write_configs(tmp_path / "configs")
    return Layout(str(tmp_path / "storage"))


def table_of(layout: Layout, database: dict):
    world.write_json(Path(layout.root, "own"), database)
    dataset = world.bring_in(layout)
    return load_segments(layout, dataset, configs.features("own_files"))


def test_own_files_become_videos_with_segments(own: Layout) -> None:
    table = table_of(own, world.write_files(Path(own.root, "own")))
    assert {split: len(videos) for split, videos in table.videos.items()} == {"train": 12, "val": 5}
    assert table.left_out == [] and table.coverage["train_share"] == 1
    first = table.videos["train"][0]
    features, segments, duration = world.video(0)
    assert (first.video_id, first.num_steps, first.channels, first.fps) == (
        "train_00",
        *features.shape,
        10,
    )
    assert first.duration_s == pytest.approx(duration)
    np.testing.assert_allclose(first.segments, [segment[1:] for segment in segments])
    assert table.label_ids == {"jump": 0, "kick": 1, "wave": 2}


def test_everything_that_is_not_used_has_a_row(own: Layout) -> None:
    root = Path(own.root, "own")
    database = world.write_files(root)
    whole = database["train_00"]["annotations"][0]
    start, end = whole["segment"]
    late = world.video(0)[2] + 9  # further out the reading of the annotations refuses it
    database["train_00"]["annotations"] += [
        {"label": whole["label"], "segment": [start + 0.0004, end]},
        {"label": "kick", "segment": [1.0, 1.0005]},
        {"label": "kick", "segment": [5.0, late]},
    ]
    del database["train_01"]  # features without annotation
    database["gone"] = {
        "subset": "training",
        "duration": 9,
        "fps": 10,
        "annotations": [{"label": "jump", "segment": [1, 2]}],
    }
    np.save(root / "features" / "train_02.npy", np.full((10, world.CHANNELS), np.nan, np.float32))
    np.save(root / "features" / "train_03.npy", np.zeros((10, 3), np.float32))
    np.save(root / "features" / "train_04.npy", np.zeros((0, world.CHANNELS), np.float32))
    np.save(root / "features" / "train_05.npy", np.ones((1, world.CHANNELS), np.float32))
    table = table_of(own, database)
    reasons = {(row.video_id, row.reason) for row in table.left_out if row.video_id != "train_05"}
    expected = {
        ("train_00", "the same segment again"),
        ("train_00", "shorter than a millisecond"),
        ("train_00", "beyond the end of the video"),
        ("train_01", "no annotation names this video"),
        ("train_02", "NaN or infinite"),
        ("train_03", "found 3 channels; allowed: 8"),
        ("train_04", "empty array"),
        ("gone", "no file features/gone.npy"),
    }
    for video, part in expected:
        assert any(name == video and part in reason for name, reason in reasons), (
            video,
            part,
            reasons,
        )
    assert len(reasons) == len(expected)
    assert any(
        "one step only" in row.reason for row in table.left_out if row.video_id == "train_05"
    )
    assert {video.video_id for video in table.videos["train"]} == {
        f"train_{number:02d}" for number in (0, *range(5, 12))
    }
    assert table.coverage["train_annotated"] == 12 and table.coverage["train_usable"] == 8
    assert table.coverage["features_without_annotation"] == 1
    beyond = [row for row in table.left_out if row.end_s == late]
    assert beyond[0].source.endswith(
        f"own.json:train_00.annotations[{len(database['train_00']['annotations']) - 1}]"
    )


def test_what_is_missing_altogether_is_named(own: Layout) -> None:
    dataset, features = configs.dataset("own"), configs.features("own_files")
    with pytest.raises(DataError, match="read the annotations first"):
        load_segments(own, dataset, features)
    database = world.write_files(Path(own.root, "own"))
    world.write_json(Path(own.root, "own"), database)
    from ops.annotations.read import annotate

    annotate(dataset, own)
    with pytest.raises(DataError, match="make them: kinograph features own_files"):
        load_segments(own, dataset, features)
    world.bring_in(own)
    with pytest.raises(DataError, match="no segment has a label of target 'verb'"):
        load_segments(own, dataset, features, "verb")


def dataset_of(layout: Layout, **changes: object) -> SegmentDataset:
    table = table_of(layout, world.write_files(Path(layout.root, "own")))
    values: dict = {"max_length": 32, "training": True, "seed": 7, **changes}
    return SegmentDataset(
        table.videos["train"],
        configs.features("own_files"),
        values.pop("steps", Steps(crop_ratio=(0.9, 1.0))),
        **values,
    )


def test_an_item_depends_on_seed_epoch_and_index_alone(own: Layout) -> None:
    one, other = dataset_of(own), dataset_of(own)
    one.set_epoch(3)
    other.set_epoch(3)
    first = one[5]
    one[2]
    for a, b in ((first, other[5]), (first, one[5])):
        np.testing.assert_array_equal(a["features"], b["features"])
        np.testing.assert_array_equal(a["segments"], b["segments"])
    other.set_epoch(4)
    assert any(
        not np.array_equal(one[index]["features"], other[index]["features"]) for index in range(4)
    )


def test_a_window_holds_the_features_of_its_segments(own: Layout) -> None:
    samples = dataset_of(own)
    for index in range(len(samples)):
        item = samples[index]
        assert (
            item["features"].shape == (world.CHANNELS, 32) and item["features"].dtype == np.float32
        )
        assert len(item["segments"]) >= 1
        for (start, end), label in zip(item["segments"], item["labels"], strict=True):
            middle = item["features"][label, int((start + end) / 2)]
            assert middle > 1, "the action's own channel is high in its middle"


def test_outside_training_the_video_is_whole(own: Layout) -> None:
    samples = dataset_of(own, training=False)
    item, video = samples[0], samples.videos[0]
    assert item["features"].shape[1] == video.num_steps
    np.testing.assert_allclose(item["segments"], video.segments * 10 / 4 - 1, atol=1e-5)


def test_unreadable_features_are_named(own: Layout) -> None:
    samples = dataset_of(own)
    Path(samples.videos[0].array_uri, "c", "0", "0").unlink()
    with pytest.raises(SampleError, match=r"video 'train_00' at .*chunk 0 is missing"):
        samples[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_window_of_the_original(seed: int) -> None:
    """The rules, on drawn segments: the share of a segment that the widened window holds decides,
    and the rest of it is cut off.
    """
    rng = np.random.default_rng(seed)
    start = rng.uniform(-1, 90, 6)
    segments = np.stack([start, start + rng.uniform(1, 30, 6)], 1).astype(np.float32)
    labels, steps = np.arange(6), Steps(keep_share=0.5)
    first, last, held, names = cut(segments, labels, 100, 40, 2.0, steps, rng)
    assert last - first == 40 and len(names) >= 1
    for label, (begin, end) in enumerate(segments):
        inner = min(end, last + 2) - max(begin, first - 2)
        kept = label in names
        assert kept == (inner / (end - begin) >= 0.5)
        if kept:
            np.testing.assert_allclose(
                held[names.tolist().index(label)],
                [max(begin, first - 2) - first, min(end, last + 2) - first],
                atol=1e-4,
            )


def test_a_short_video_is_cropped_by_its_ratio_and_a_long_one_to_the_length() -> None:
    segments, labels = np.array([[10, 20]], np.float32), np.array([0])
    lengths = {
        cut(
            segments, labels, 50, 64, 1.0, Steps(crop_ratio=(0.9, 1.0)), np.random.default_rng(seed)
        )[:2]
        for seed in range(60)
    }
    assert {last - first for first, last in lengths} == set(range(45, 51))
    assert cut(segments, labels, 50, 64, 1.0, Steps(), np.random.default_rng(0))[:2] == (0, 50)
    assert cut(segments[:0], labels[:0], 100, 40, 1.0, Steps(tries=3), np.random.default_rng(0))[
        2
    ].shape == (0, 2)


def test_resampling_spreads_the_covered_frames() -> None:
    grid, steps = grid_of(11, 16, 16, 15.0, 60.0, 192)
    assert (
        steps == 192
        and grid.stride == grid.num_frames == pytest.approx(176 / 192)
        and grid.offset == 0.5
    )
    ramp = np.arange(11, dtype=np.float32)[:, None]
    expected = (
        torch.nn.functional.interpolate(
            torch.from_numpy(ramp.T)[None], size=192, mode="linear", align_corners=False
        )[0]
        .numpy()
        .T
    )
    np.testing.assert_array_equal(resampled(ramp, 192), expected)
    assert resampled(ramp, 11) is ramp


def test_resampled_videos_keep_their_segments_in_place(own: Layout) -> None:
    samples = dataset_of(own, training=False, steps=Steps(resample=192))
    item, video = samples[0], samples.videos[0]
    assert item["features"].shape == (world.CHANNELS, 192)
    grid = item["grid"]
    np.testing.assert_allclose(
        (item["segments"] * grid.stride + 0.5 * grid.num_frames) / grid.fps,
        video.segments,
        atol=1e-4,
    )
