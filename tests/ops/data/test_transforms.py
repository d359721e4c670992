"""Pixels: crops where they belong, the same jitter for a whole clip, exact normalisation, and
seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from configs.schema import ConfigError, Transforms
from ops.data.transforms import fixed_views, normalise, random_view, resize, resize_short_side

PLAIN: dict[str, Any] = dict(
    short_side=32, crop=24, train_crop="random", flip=0.0, mean=(0, 0, 0), std=(1, 1, 1)
)


def config(**changes: Any) -> Transforms:
    return Transforms(**{**PLAIN, **changes})


def clip(num_frames: int = 3, height: int = 32, width: int = 40) -> np.ndarray:
    """Red is the column, green the row, blue the frame."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.arange(width), np.arange(height)[:, None]
    frames[..., 2] = np.arange(num_frames)[:, None, None]
    return frames


def corner(view: np.ndarray) -> tuple[int, int]:
    """(x, y) of a view's top left pixel."""
    return int(view[0, 0, 0, 0]), int(view[1, 0, 0, 0])


def test_fixed_views_cut_the_documented_places() -> None:
    frames = clip()
    assert [corner(view) for view in fixed_views(frames, config(), 1)] == [(8, 4)]
    assert [corner(view) for view in fixed_views(frames, config(), 3)] == [(0, 4), (16, 4), (8, 4)]
    ten = fixed_views(frames, config(), 10)
    assert [corner(view) for view in ten[::2]] == [(0, 0), (16, 0), (0, 8), (16, 8), (8, 4)]
    assert np.array_equal(ten[1::2], ten[::2, :, :, :, ::-1])
    assert ten.shape == (10, 3, 3, 24, 24) and ten.dtype == np.float32
    assert np.array_equal(ten[0, 2, :, 0, 0], [0, 1, 2])  # time stays time


def test_randaugment_comes_before_or_behind_the_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def noted(frames: np.ndarray, *rest: Any) -> np.ndarray:
        seen.append(frames.shape)
        return 255 - frames

    monkeypatch.setattr("ops.data.transforms.rand_augment", noted)
    frames, draw = (
        clip(),
        lambda **changes: random_view(clip(), config(**changes), np.random.default_rng(3))[0],
    )
    plain, before, behind = draw(), draw(randaugment={}), draw(randaugment={"after_crop": True})
    assert seen == [frames.shape, (3, 24, 24, 3)]
    # what looks at each pixel alone does the same on either side
    np.testing.assert_array_equal(before, behind)
    np.testing.assert_array_equal(behind, 255 - plain)
    assert config(randaugment={}).model_dump(exclude_defaults=True)["randaugment"] == {}


def test_normalise_is_exact() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    found = normalise(frames, config(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)))
    expected = (frames.astype(np.float64) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(found, expected.transpose(3, 0, 1, 2), atol=1e-6)


def test_jitter_known_answers() -> None:
    frames = np.full((1, 2, 2, 3), 100, np.uint8)
    frames[0, 0, 0] = 200
    bright = normalise(frames, config(), brightness=1.5)
    assert bright[0, 0].tolist() == [[255.0, 150.0], [150.0, 150.0]]  # held within 0..255
    flat = normalise(frames, config(), contrast=0.0)
    # the mean grey of every fourth row and column: here of one pixel
    np.testing.assert_allclose(flat, 200.0, atol=1e-3)
    both = normalise(frames, config(), brightness=1.5, contrast=0.5)
    # around 255, what is left of 300
    np.testing.assert_allclose(both[0, 0], [[255, 202.5], [202.5, 202.5]], atol=1e-3)
    colours = np.zeros((1, 1, 1, 3), np.uint8)
    colours[..., 0] = 100
    np.testing.assert_allclose(
        normalise(colours, config(), saturation=0.0).reshape(-1), 29.9, atol=1e-3
    )
    np.testing.assert_allclose(
        normalise(colours, config(), saturation=2.0).reshape(-1), [170.1, 0, 0], atol=1e-3
    )


def test_jitter_agrees_with_its_formulas() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    weights = np.array([0.299, 0.587, 0.114])
    x = np.clip(frames * 1.2, 0, 255)
    x = np.clip(0.7 * x + 0.3 * (x[:, ::4, ::4].mean((0, 1, 2)) @ weights), 0, 255)
    x = np.clip(1.4 * x - 0.4 * (x @ weights)[..., None], 0, 255)
    found = normalise(frames, config(mean=(1, 2, 3), std=(4, 5, 6)), 1.2, 0.7, 1.4)
    np.testing.assert_allclose(
        found, ((x - [1, 2, 3]) / [4, 5, 6]).transpose(3, 0, 1, 2), atol=1e-3
    )


def test_a_random_view_is_one_window_and_one_jitter_for_all_frames() -> None:
    frames = np.repeat(
        np.random.default_rng(2).integers(0, 256, (1, 32, 40, 3), dtype=np.uint8), 4, axis=0
    )
    for kind in ("random", "random_resized", "multi_scale"):
        values = config(train_crop=kind, flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4)
        view, _ = random_view(frames, values, np.random.default_rng(7))
        assert view.shape == (3, 4, 24, 24)
        for frame in range(1, 4):
            assert np.array_equal(view[:, 0], view[:, frame])
        assert np.array_equal(view, random_view(frames, values, np.random.default_rng(7))[0])
        assert not np.array_equal(view, random_view(frames, values, np.random.default_rng(8))[0])


def test_flip_mirrors_the_columns_and_says_so() -> None:
    frames = clip()
    straight, no = random_view(frames, config(flip=0.0), np.random.default_rng(3))
    mirrored, yes = random_view(frames, config(flip=1.0), np.random.default_rng(3))
    assert (no, yes) == (False, True)
    assert np.array_equal(mirrored, straight[:, :, :, ::-1])
    share = np.mean(
        [
            random_view(frames, config(flip=0.3), np.random.default_rng(seed))[1]
            for seed in range(400)
        ]
    )
    assert 0.2 < share < 0.4


def test_resize_keeps_what_fits_and_scales_the_rest() -> None:
    frames = clip(2, 32, 40)
    assert resize(frames, 32, 40) is frames
    assert resize_short_side(frames, 16).shape == (2, 16, 20, 3)
    assert resize_short_side(frames.transpose(0, 2, 1, 3), 16).shape == (2, 20, 16, 3)
    half = resize(np.repeat(np.repeat(frames, 2, axis=1), 2, axis=2), 32, 40)
    assert np.abs(half.astype(int) - frames).max() <= 1


def test_bicubic_is_another_filter_with_the_same_geometry() -> None:
    frames = np.random.default_rng(4).integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)
    linear, cubic = (resize(frames, 24, 30, kind) for kind in ("bilinear", "bicubic"))
    assert not np.array_equal(linear, cubic) and np.abs(linear.astype(int) - cubic).mean() < 16
    flat = np.full((1, 9, 9, 3), 77, np.uint8)
    assert (resize(flat, 24, 24, "bicubic") == 77).all()
    edge = np.zeros((1, 2, 2, 3), np.uint8)
    edge[:, :, 1] = 200
    # a = -0.75, by hand: -21.1 (cut off), 45.3, 154.7 and 221.1
    assert resize(edge, 2, 4, "bicubic")[0, 0, :, 0].tolist() == [0, 45, 155, 221]
    assert resize(edge, 2, 4)[0, 0, :, 0].tolist() == [0, 50, 150, 200]


def test_a_view_is_cut_first_and_resized_once() -> None:
    """Frames stored at twice the size give the view of the smaller ones, up to interpolation."""
    small = clip(2, 32, 40)
    large = np.repeat(np.repeat(small, 2, axis=1), 2, axis=2)
    for kind in ("random", "multi_scale"):
        one, two = (
            random_view(frames, config(train_crop=kind), np.random.default_rng(9))[0]
            for frames in (small, large)
        )
        assert np.abs(one - two).max() <= 1


def test_options_do_not_shift_the_draws_of_others() -> None:
    frames = np.random.default_rng(5).integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)

    def view(**changes: Any) -> tuple[np.ndarray, bool]:
        return random_view(
            frames, config(flip=0.5, train_crop="multi_scale", **changes), np.random.default_rng(11)
        )

    plain, mirrored = view()
    for changes in (
        {"brightness": 1e-7},
        {"hue": 1e-7},
        {"erasing": {"probability": 0}},
        {"randaugment": {"probability": 0}},
    ):
        other, same = view(**changes)
        assert same == mirrored
        np.testing.assert_allclose(other, plain, atol=1e-3)
    erased, same = view(erasing={"probability": 1, "mode": "constant", "area": (0.1, 0.2)})
    changed = (erased != plain).any(axis=(0, 1))
    assert same == mirrored and 0.05 < changed.mean() < 0.3


def test_every_option_together_is_deterministic() -> None:
    frames = np.random.default_rng(6).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    values = config(
        train_crop="random_resized",
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        randaugment={},
        erasing={"probability": 1},
    )
    one, two, three = (
        random_view(frames, values, np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, three)
    assert one.shape == (3, 3, 24, 24) and one.dtype == np.float32 and np.isfinite(one).all()


def test_test_views_of_five_crops_and_of_no_crop() -> None:
    five = fixed_views(clip(), config(), 5)
    assert [corner(view) for view in five] == [(0, 0), (16, 0), (0, 8), (16, 8), (8, 4)]
    whole = fixed_views(clip(2, 64, 80), config(crop=200), full=True)
    assert whole.shape == (1, 3, 2, 32, 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 40}, r"transforms\.crop.*found 40.*short_side = 32"),
        ({"short_side_range": (20, 40)}, r"transforms\.short_side_range.*at least crop = 24"),
        (
            {"short_side_range": (40, 30)},
            r"short_side_range\n.*\[40, 30\] are not two bounds above 0, the smaller one first",
        ),
        ({"train_crop": "multi_scale", "scales": (1.2, 1.0)}, r"transforms\.scales.*at most 1"),
        (
            {"area": (0.5, 0.2)},
            r"area\n.*\[0\.5, 0\.2\] are not two bounds above 0, the smaller one first",
        ),
        ({"area": (0.5, 1.2)}, r"transforms\.area.*at most 1"),
        ({"aspect": (0.0, 1.0)}, r"aspect\n.*\[0\.0, 1\.0\] are not two bounds above 0"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    # by the schema, or by what only the pixels tell
    with pytest.raises((ConfigError, ValidationError), match=message):
        fixed_views(clip(), config(**changes), 1)
    with pytest.raises((ConfigError, ValidationError), match=message):
        random_view(clip(), config(**changes), np.random.default_rng(0))


def test_all_clips_of_a_crop_come_before_the_next_crop() -> None:
    frames = clip(6)
    views = fixed_views(frames, config(), 3, num_clips=2)
    assert views.shape == (6, 3, 3, 24, 24)
    assert [corner(view) for view in views] == [(0, 4), (0, 4), (16, 4), (16, 4), (8, 4), (8, 4)]
    assert [view[2, :, 0, 0].tolist() for view in views] == [[0, 1, 2], [3, 4, 5]] * 3
    assert np.array_equal(
        views[2:4].swapaxes(1, 2).reshape(-1, 3, 24, 24),
        fixed_views(frames, config(), 3)[1].swapaxes(0, 1),
    )


def test_no_crop_has_one_view() -> None:
    with pytest.raises(ConfigError, match=r"views\.num_crops.*found 3.*1 with views\.full"):
        fixed_views(clip(), config(), 3, full=True)
