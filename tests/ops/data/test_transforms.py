"""Pixels: crops where they belong, the same jitter for a whole clip, exact normalisation, and seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from configs.schema import ConfigError, Transforms
from ops.data.transforms import (
    MULTI_SCALES,
    Window,
    fixed_views,
    fixed_windows,
    multi_scale,
    normalise,
    random_resized,
    random_view,
    random_window,
    resize,
    resize_short_side,
)

PLAIN: dict[str, Any] = dict(short_side=32, crop=24, train_crop="random", flip=0.0, mean=(0, 0, 0), std=(1, 1, 1))


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


def test_three_crops_of_an_upright_video_go_down() -> None:
    assert [(w.x, w.y) for w in fixed_windows(40, 32, 32, 3)] == [(0, 0), (0, 8), (0, 4)]


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
    np.testing.assert_allclose(flat, 200.0, atol=1e-3)  # the mean grey of every second row and column: here of one pixel
    even = np.tile(np.array([[[[90], [110]], [[70], [130]]]], np.uint8).repeat(2, 1).repeat(2, 2), (1, 1, 1, 3))
    np.testing.assert_allclose(normalise(even, config(), contrast=0.0), 100.0, atol=1e-3)
    colours = np.zeros((1, 1, 1, 3), np.uint8)
    colours[..., 0] = 100
    np.testing.assert_allclose(normalise(colours, config(), saturation=0.0).reshape(-1), 29.9, atol=1e-3)


def test_saturation_and_table_paths_agree() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    near = normalise(frames, config(), 1.1, 0.9, 1.0 + 1e-9)
    np.testing.assert_allclose(near, normalise(frames, config(), 1.1, 0.9, 1.0), atol=1e-3)


def test_a_random_view_is_one_window_and_one_jitter_for_all_frames() -> None:
    frames = np.repeat(np.random.default_rng(2).integers(0, 256, (1, 32, 40, 3), dtype=np.uint8), 4, axis=0)
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
    share = np.mean([random_view(frames, config(flip=0.3), np.random.default_rng(seed))[1] for seed in range(400)])
    assert 0.2 < share < 0.4


def test_windows_stay_inside_and_vary() -> None:
    rng = np.random.default_rng(5)
    windows = {kind: {make(32, 40, rng) for _ in range(400)} for kind, make in _MAKERS.items()}
    for kind, found in windows.items():
        assert len(found) > 20, kind
        for x, y, width, height in found:
            assert 0 <= x <= 40 - width and 0 <= y <= 32 - height and width > 0 and height > 0


_MAKERS = {
    "random": lambda h, w, rng: random_window(h, w, 24, rng),
    "random_resized": lambda h, w, rng: random_resized(h, w, (0.08, 1.0), rng),
    "multi_scale": lambda h, w, rng: multi_scale(h, w, 24, rng),
}


def test_random_resized_areas_and_fallback() -> None:
    rng = np.random.default_rng(6)
    areas = [w.width * w.height / (320 * 256) for w in (random_resized(256, 320, (0.25, 0.5), rng) for _ in range(300))]
    assert 0.24 < min(areas) < 0.3 and 0.45 < max(areas) < 0.51
    assert random_resized(10, 1000, (0.9, 1.0), rng) == Window(495, 0, 10, 10)  # no such rectangle fits


def test_multi_scale_sizes_are_the_originals() -> None:
    rng = np.random.default_rng(8)
    sides = [int(256 * scale) for scale in MULTI_SCALES]
    assert sides == [256, 224, 192, 168]
    for window in (multi_scale(256, 340, 224, rng) for _ in range(300)):
        i, j = sides.index(window.width), sides.index(window.height)
        assert abs(i - j) <= 1


def test_resize_keeps_what_fits_and_scales_the_rest() -> None:
    frames = clip(2, 32, 40)
    assert resize(frames, 32, 40) is frames
    assert resize_short_side(frames, 16).shape == (2, 16, 20, 3)
    assert resize_short_side(frames.transpose(0, 2, 1, 3), 16).shape == (2, 20, 16, 3)
    half = resize(np.repeat(np.repeat(frames, 2, axis=1), 2, axis=2), 32, 40)
    assert np.abs(half.astype(int) - frames).max() <= 1


def test_a_crop_beyond_the_frame_is_named() -> None:
    with pytest.raises(ConfigError, match=r"transforms\.crop.*found 40.*short_side = 32"):
        fixed_views(clip(), config(crop=40), 1)
