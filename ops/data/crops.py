"""Windows of a frame: where a crop is cut, at random in training and at fixed places in testing.
Numbers only, no pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from configs.schema import Transforms

ATTEMPTS = 10  # to find a rectangle that fits
ALMOST = 3  # a multi-scale side this close to the crop is the crop (TSN)
CORNERS_AND_CENTRE = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))  # in quarters of the room, x then y
EDGES_AND_QUARTERS = ((0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3))


class Window(NamedTuple):
    """A rectangle in pixels, origin at the top left."""

    x: int
    y: int
    width: int
    height: int


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width after a resize of the shorter side; the longer one is rounded to the nearest
    pixel, half upwards.
    """
    scale = short_side / min(height, width)
    return max(short_side, int(height * scale + 0.5)), max(short_side, int(width * scale + 0.5))


def training_window(
    height: int, width: int, config: Transforms, rng: np.random.Generator
) -> Window:
    """A random window of a stored frame, to be resized to the crop.

    The window of a `random` or `multi_scale` crop is drawn in the frame as it would be after the
    resize of its shorter side, and brought back to the stored pixels: one interpolation instead of
    two, and only of what is seen.
    """
    # a share of the area is the same before and after a resize
    if config.train_crop == "random_resized":
        return random_resized(height, width, config.area, rng, config.aspect)
    short_side = config.short_side
    if config.short_side_range is not None:
        low, high = config.short_side_range
        short_side = int(rng.integers(low, high + 1))
    new_height, new_width = short_side_size(height, width, short_side)
    if config.train_crop == "random":
        window = random_window(new_height, new_width, config.crop, rng)
    else:
        window = multi_scale(
            new_height,
            new_width,
            config.crop,
            rng,
            config.scales,
            config.max_scale_gap,
            config.fixed_places,
        )
    return (
        window
        if (new_height, new_width) == (height, width)
        else _brought(window, width / new_width, height / new_height)
    )


def random_window(height: int, width: int, size: int, rng: np.random.Generator) -> Window:
    """A square anywhere in the frame."""
    return Window(
        int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1)), size, size
    )


def random_resized(
    height: int,
    width: int,
    area: tuple[float, float],
    rng: np.random.Generator,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Window:
    """A rectangle of random area and aspect (Inception crop); the centred square when ten tries
    find none that fits.

    Args:
        height: of the frame, in pixels.
        width: of the frame, in pixels.
        area: least and largest share of the frame's area.
        rng: draws area, aspect and place.
        aspect: least and largest width / height, uniform in the logarithm.
    """
    # [ATTEMPTS] each, all drawn at once; aspects (width / height) uniform in the logarithm, areas
    # in pixels.
    aspects = np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1]), ATTEMPTS))
    areas = rng.uniform(*area, ATTEMPTS) * height * width
    widths = np.round(np.sqrt(areas * aspects)).astype(int)
    heights = np.round(np.sqrt(areas / aspects)).astype(int)
    for w, h in zip(widths, heights, strict=True):
        if 0 < w <= width and 0 < h <= height:
            return Window(
                int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), int(w), int(h)
            )
    side = min(height, width)
    return Window((width - side) // 2, (height - side) // 2, side, side)


def multi_scale(
    height: int,
    width: int,
    crop: int,
    rng: np.random.Generator,
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66),
    max_gap: int = 1,
    places: int | None = 13,
) -> Window:
    """One of TSN's fixed sizes at one of its fixed places.

    Args:
        height: of the frame, in pixels.
        width: of the frame, in pixels.
        crop: a side that comes within 2 pixels of it is made equal to it.
        rng: draws size and place.
        scales: sides, as shares of the frame's shorter one.
        max_gap: how many scales apart width and height may be.
        places: how many fixed places there are, 5 or 13; None is anywhere.
    """
    sides = [int(min(height, width) * scale) for scale in scales]
    sides = [crop if abs(side - crop) < ALMOST else side for side in sides]
    pairs = [
        (sides[i], sides[j])
        for i in range(len(sides))
        for j in range(len(sides))
        if abs(i - j) <= max_gap
    ]
    w, h = pairs[rng.integers(len(pairs))]
    if places is None:
        return Window(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
    x, y = (CORNERS_AND_CENTRE + EDGES_AND_QUARTERS)[rng.integers(places)]
    return Window(x * ((width - w) // 4), y * ((height - h) // 4), w, h)


def fixed_windows(height: int, width: int, crop: int, num_crops: int) -> list[Window]:
    """Windows of the test views, before mirroring.

    1: the centre. 3: left, right, middle (top, bottom, middle of an upright frame). 5 and 10: upper
    left, upper right, lower left, lower right, centre.
    """
    if num_crops == 1:
        return [Window((width - crop) // 2, (height - crop) // 2, crop, crop)]
    if num_crops == 3:
        x, y = (width - crop) // 2, (height - crop) // 2
        if width >= height:
            return [Window(at, y, crop, crop) for at in (0, 2 * x, x)]
        return [Window(x, at, crop, crop) for at in (0, 2 * y, y)]
    # A quarter of the room that the crop has in each direction, in pixels.
    x, y = (width - crop) // 4, (height - crop) // 4
    return [Window(i * x, j * y, crop, crop) for i, j in CORNERS_AND_CENTRE]


def _brought(window: Window, x_scale: float, y_scale: float) -> Window:
    """The window in pixels of another size of the same frame: its edges go to the nearest pixel."""
    left, right = round(window.x * x_scale), round((window.x + window.width) * x_scale)
    top, bottom = round(window.y * y_scale), round((window.y + window.height) * y_scale)
    return Window(left, top, max(1, right - left), max(1, bottom - top))
