"""Windows: the originals' places and sizes, and random ones that stay inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from configs.schema import Transforms
from ops.data.crops import (
    Window,
    fixed_windows,
    multi_scale,
    random_resized,
    random_window,
    short_side_size,
    training_window,
)


def places(windows: list[Window]) -> list[tuple[int, int]]:
    return [(window.x, window.y) for window in windows]


def test_fixed_windows_known_answers() -> None:
    assert fixed_windows(256, 340, 224, 1) == [Window(58, 16, 224, 224)]
    # left, right, middle
    assert places(fixed_windows(256, 340, 256, 3)) == [(0, 0), (84, 0), (42, 0)]
    # of an upright frame: top, bottom, middle
    assert places(fixed_windows(340, 256, 256, 3)) == [(0, 0), (0, 84), (0, 42)]
    # twice the step of 85 // 2, not the last column
    assert places(fixed_windows(256, 341, 256, 3)) == [(0, 0), (84, 0), (42, 0)]
    five = [(0, 0), (116, 0), (0, 32), (116, 32), (58, 16)]
    assert (
        places(fixed_windows(256, 340, 224, 5)) == places(fixed_windows(256, 340, 224, 10)) == five
    )


def test_short_sides_are_exact_and_long_ones_rounded() -> None:
    assert short_side_size(240, 320, 256) == (256, 341)  # 341.33
    assert short_side_size(320, 240, 256) == (341, 256)
    assert short_side_size(10, 25, 5) == (5, 13)  # 12.5 goes up


def drawn(make: Any, count: int = 500) -> set[Window]:
    rng = np.random.default_rng(5)
    return {make(rng) for _ in range(count)}


def test_random_windows_reach_every_place() -> None:
    found = drawn(lambda rng: random_window(8, 10, 6, rng))
    assert found == {Window(x, y, 6, 6) for x in range(5) for y in range(3)}


def test_random_resized_areas_aspects_and_fallback() -> None:
    found = drawn(lambda rng: random_resized(256, 320, (0.25, 0.5), rng))
    areas = [w.width * w.height / (320 * 256) for w in found]
    aspects = [w.width / w.height for w in found]
    assert 0.24 < min(areas) < 0.3 and 0.45 < max(areas) < 0.51
    assert 0.74 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.35
    assert all(0 <= w.x <= 320 - w.width and 0 <= w.y <= 256 - w.height for w in found)
    wide = drawn(lambda rng: random_resized(256, 320, (0.1, 0.2), rng, (2.0, 3.0)))
    assert min(w.width / w.height for w in wide) > 1.9
    # no such rectangle fits
    assert random_resized(10, 1000, (0.9, 1.0), np.random.default_rng(6)) == Window(495, 0, 10, 10)


def test_multi_scale_sizes_and_places_are_the_originals() -> None:
    sides = [256, 224, 192, 168]  # int(256 * 0.66) is 168
    found = drawn(lambda rng: multi_scale(256, 340, 224, rng), 4000)
    sizes = {(w.width, w.height) for w in found}
    assert sizes == {
        (a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1
    }
    x, y = (340 - 224) // 4, (256 - 192) // 4
    thirteen = {
        (0, 0),
        (4, 0),
        (0, 4),
        (4, 4),
        (2, 2),
        (0, 2),
        (4, 2),
        (2, 4),
        (2, 0),
        (1, 1),
        (3, 1),
        (1, 3),
        (3, 3),
    }
    assert {(w.x, w.y) for w in found if w[2:] == (224, 192)} == {
        (i * x, j * y) for i, j in thirteen
    }


def test_multi_scale_options() -> None:
    squares = drawn(lambda rng: multi_scale(256, 340, 224, rng, (1.0, 0.8), 0, 5), 1000)
    assert {w[2:] for w in squares} == {(256, 256), (204, 204)}
    assert len({(w.x, w.y) for w in squares if w.width == 204}) == 5
    anywhere = drawn(lambda rng: multi_scale(256, 340, 224, rng, (0.8,), 1, None), 1000)
    assert (
        max(w.x for w in anywhere) > 4 * ((340 - 204) // 4) - 5
        and len({w.x for w in anywhere}) > 100
    )
    almost = drawn(lambda rng: multi_scale(258, 340, 224, rng, (0.862,)))
    assert {w[2:] for w in almost} == {(224, 224)}  # 222 is less than three pixels off


def config(**changes: Any) -> Transforms:
    return Transforms(**{"short_side": 32, "crop": 24, "train_crop": "random", **changes})


def test_a_window_is_brought_back_to_the_stored_pixels() -> None:
    """Frames of twice the size: windows of twice the size at twice the place, and the same
    draws.
    """
    for seed in range(50):
        small = training_window(32, 40, config(), np.random.default_rng(seed))
        large = training_window(64, 80, config(), np.random.default_rng(seed))
        assert large == Window(*(2 * value for value in small)) and small.width == 24
    odd = drawn(lambda rng: training_window(37, 51, config(train_crop="multi_scale"), rng))
    assert all(0 <= w.x <= 51 - w.width and 0 <= w.y <= 37 - w.height and w.width > 0 for w in odd)


def test_the_short_side_is_drawn_from_both_bounds() -> None:
    found = drawn(lambda rng: training_window(64, 64, config(short_side_range=(24, 32)), rng))
    sides = {round(24 * 64 / side) for side in range(24, 33)}
    widths = {w.width for w in found}
    assert (
        max(widths) == 64
        and min(widths) in (48, 47)
        and all(min(abs(w - side) for side in sides) <= 1 for w in widths)
    )


@pytest.mark.parametrize("kind", ["random", "random_resized", "multi_scale"])
def test_windows_depend_on_the_seed_alone(kind: str) -> None:
    one, two = (
        training_window(32, 40, config(train_crop=kind), np.random.default_rng(3)) for _ in range(2)
    )
    assert one == two
