"""Colours, RandAugment and random erasing: known answers, one draw for a whole clip, and seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from configs.schema import RandAugment, RandomErasing, Transforms
from ops.data.augment import (
    OPERATIONS,
    Colour,
    erase,
    operation_of,
    rand_augment,
    random_colour,
    random_operations,
    shift_hue,
)

FILL = (124, 116, 104)


def picture(seed: int = 0, height: int = 24, width: int = 32) -> Image.Image:
    noise = np.random.default_rng(seed).integers(
        0, 256, (height // 4, width // 4, 3), dtype=np.uint8
    )
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def apply(
    name: str,
    magnitude: float,
    sign: float = 1,
    increasing: bool = True,
    source: Image.Image | None = None,
) -> np.ndarray:
    source = source or picture()
    return np.asarray(
        operation_of(name, magnitude, sign, increasing, source.size, FILL, "bicubic")(source)
    )


# --------------------------------------------------------------------------------------------------
# colour


def test_a_jitter_is_uniform_around_no_change() -> None:
    config = Transforms(
        short_side=32, crop=24, brightness=0.4, contrast=0.2, saturation=1.5, hue=0.1
    )
    found = np.array([random_colour(config, np.random.default_rng(seed)) for seed in range(500)])
    low, high = found.min(0), found.max(0)
    np.testing.assert_allclose(low, [0.6, 0.8, 0.0, -0.1], atol=0.02)
    np.testing.assert_allclose(high, [1.4, 1.2, 2.5, 0.1], atol=0.02)
    assert np.abs(np.corrcoef(found.T) - np.eye(4)).max() < 0.15


def test_a_jitter_comes_with_its_probability() -> None:
    config = Transforms(short_side=32, crop=24, brightness=0.4, hue=0.1, colour_probability=0.3)
    found = [random_colour(config, np.random.default_rng(seed)) == Colour() for seed in range(500)]
    assert 0.62 < np.mean(found) < 0.78
    assert random_colour(Transforms(short_side=32, crop=24), np.random.default_rng(0)) == Colour()


def test_hue_turns_the_colours() -> None:
    red = np.zeros((2, 3, 4, 3), np.uint8)
    red[..., 0] = 240
    third = shift_hue(red, 1 / 3)
    assert np.abs(third.astype(int) - [0, 240, 0]).max() <= 6  # in steps of 1/256
    back = shift_hue(red, -1 / 3)
    assert np.abs(back.astype(int) - [0, 0, 240]).max() <= 6
    grey = np.full((1, 2, 2, 3), 90, np.uint8)
    assert np.array_equal(shift_hue(grey, 0.2), grey)
    assert shift_hue(red, 0.001) is red


# --------------------------------------------------------------------------------------------------
# RandAugment


def test_the_operations_are_timms() -> None:
    assert len(OPERATIONS) == 15
    source = picture()
    plain = np.asarray(source)
    assert np.array_equal(apply("auto_contrast", 5), np.asarray(ImageOps.autocontrast(source)))
    assert np.array_equal(apply("equalize", 5), np.asarray(ImageOps.equalize(source)))
    assert np.array_equal(apply("invert", 5), 255 - plain)
    assert np.array_equal(
        apply("rotate", 5, -1),
        np.asarray(source.rotate(-15, Image.Resampling.BICUBIC, fillcolor=FILL)),
    )
    assert np.array_equal(apply("posterize", 5), plain & 0b11000000)  # 4 - int(0.5 * 4) bits stay
    assert np.array_equal(apply("posterize", 10), np.zeros_like(plain))
    # int(0.74 * 4)
    assert np.array_equal(apply("posterize", 7.4, increasing=False), plain & 0b11000000)
    # int(0.7 * 256)
    assert np.array_equal(apply("solarize", 7), np.where(plain < 256 - 179, plain, 255 - plain))
    assert np.array_equal(apply("solarize", 0), plain)
    assert np.array_equal(
        apply("solarize", 7, increasing=False), np.where(plain < 179, plain, 255 - plain)
    )
    assert np.array_equal(
        apply("solarize_add", 10),
        np.where(plain < 128, np.minimum(plain.astype(int) + 110, 255), plain),
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("colour", ImageEnhance.Color),
        ("contrast", ImageEnhance.Contrast),
        ("brightness", ImageEnhance.Brightness),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_enhancements_have_their_strength(name: str, kind: Any) -> None:
    for magnitude, sign, increasing, factor in (
        (5, 1, True, 1.45),
        (5, -1, True, 0.55),
        (10, -1, True, 0.1),
        (7, 1, False, 1.36),
    ):
        assert np.array_equal(
            apply(name, magnitude, sign, increasing), np.asarray(kind(picture()).enhance(factor))
        )


def test_geometry_moves_and_fills() -> None:
    flat = Image.new("RGB", (40, 20), (10, 20, 30))
    # 0.45 * 0.5 * 40 = 9 columns come in from the right
    moved = apply("translate_x", 5, 1, source=flat)
    assert (moved[:, -9:] == FILL).all() and (moved[:, :30] == (10, 20, 30)).all()
    moved = apply("translate_y", 10, -1, source=flat)  # 9 rows from the top
    assert (moved[:8] == FILL).all() and (moved[10:] == (10, 20, 30)).all()
    sheared = apply("shear_x", 10, 1, source=flat)  # by 0.3 of the row
    assert (sheared[0] == (10, 20, 30)).all() and (sheared[-1, -4:] == FILL).all()
    sheared = apply("shear_y", 10, 1, source=flat)
    assert (sheared[:, 0] == (10, 20, 30)).all() and (sheared[-10:, -1] == FILL).all()


def test_a_clip_has_the_same_operations_in_all_frames() -> None:
    frame = np.asarray(picture())
    clip = np.stack([frame, frame, frame])
    config = RandAugment(probability=1.0)
    for seed in range(20):
        found = rand_augment(clip, config, np.random.default_rng(seed), FILL)
        assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
        assert np.array_equal(found, rand_augment(clip, config, np.random.default_rng(seed), FILL))
    assert not np.array_equal(found, clip)


def test_operations_are_drawn_with_their_probability() -> None:
    drawn = [
        random_operations(
            RandAugment(num_ops=4), np.random.default_rng(seed), 32, 24, FILL, "bilinear"
        )
        for seed in range(400)
    ]
    counts = np.bincount([len(operations) for operations in drawn], minlength=5) / 400
    np.testing.assert_allclose(counts, np.array([1, 4, 6, 4, 1]) / 16, atol=0.08)
    clip = np.zeros((1, 4, 4, 3), np.uint8)
    assert rand_augment(clip, RandAugment(probability=0), np.random.default_rng(0)) is clip


# --------------------------------------------------------------------------------------------------
# erasing


def holes(**changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Clips of 7 after erasing, and where they changed."""
    clips = np.full((300, 3, 2, 20, 30), 7, np.float32)
    for seed, pixels in enumerate(clips):
        erase(pixels, RandomErasing(**changes), np.random.default_rng(seed))
    return clips, clips != 7


def test_one_rectangle_at_the_same_place_in_all_frames() -> None:
    clips, changed = holes(probability=1.0, mode="constant", area=(0.1, 0.3))
    assert (changed == changed[:, :1, :1]).all() and (clips[changed] == 0).all()
    masks = changed[:, 0, 0]
    for mask in masks:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()  # a rectangle
        assert 0 < rows.sum() < 20 and 0 < columns.sum() < 30
    shares = masks.mean((1, 2))
    assert 0.09 < shares.min() < 0.13 and 0.25 < shares.max() < 0.32
    assert masks.any(0).all()  # every place may be hit
    assert np.ptp(masks.any(2).sum(1) / masks.any(1).sum(1)) > 1


def test_modes_fill_with_their_noise() -> None:
    clips, changed = holes(probability=1.0, mode="pixel")
    values = clips[changed]
    assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02
    clips, changed = holes(probability=1.0, mode="random")
    one = [
        np.unique(clip[channel][where[channel]])
        for clip, where in zip(clips, changed, strict=True)
        for channel in range(3)
    ]
    assert {len(values) for values in one} == {1} and len(np.unique(np.concatenate(one))) == len(
        one
    )


def test_bytes_are_uniform_and_normalised() -> None:
    pixels, config = (
        np.full((3, 2, 200, 200), 7, np.float32),
        RandomErasing(probability=1.0, mode="bytes", area=(0.3, 0.33)),
    )
    erase(pixels, config, np.random.default_rng(0), (100.0, 120.0, 140.0), (50.0, 60.0, 70.0))
    for plane, mean, std in zip(pixels, (100, 120, 140), (50, 60, 70), strict=True):
        values = plane[plane != 7] * std + mean
        np.testing.assert_allclose(values, values.round(), atol=1e-3)
        assert (
            abs(values.mean() - 127.5) < 1
            and abs(values.std() - 73.9) < 1
            and values.min() < 1
            and values.max() > 254
        )


def test_erasing_comes_with_its_probability() -> None:
    _, changed = holes(probability=0.25)
    assert 0.18 < changed.any((1, 2, 3, 4)).mean() < 0.32
    assert not holes(probability=0.0)[1].any()
    # no such rectangle is smaller than the frame
    assert not holes(probability=1.0, area=(1.0, 1.0), aspect=(1.0, 1.0))[1].any()
