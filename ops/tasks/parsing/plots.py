"""Pictures of a parsing evaluation, as small PNG files: people with their parts and states, acc(t),
numbers by part, bottlenecks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import PercentFormatter
from PIL import Image, ImageDraw, ImageFont

from ops.evaluation.plots import (
    BLUE,
    GOLD,
    INK,
    LINE,
    ORANGE,
    RED,
    SOFT,
    TEAL,
    bare,
    figure_of,
    png_of,
    titled,
)
from ops.tasks.parsing.bottleneck import STAGES, Given
from ops.tasks.parsing.metric import ParsingScores

TILE = 330  # pixels of a tile's longer side
COLUMNS = 4
FONT = 11


class Tile(NamedTuple):
    """One frame: uint8 [H, W, 3], a title, persons' boxes [P, 4], and parts as (number, box, state,
    whether it is right or None).
    """

    picture: np.ndarray
    title: str
    below: str
    persons: np.ndarray
    parts: Sequence[tuple[int, Sequence[float], str, bool | None]]


def contact_sheet(tiles: Sequence[Tile], parts: Sequence[str], below: str) -> bytes:
    """PNG of frames with what the model sees in them. Boxes have the colour of their part; states
    are green when they are right, red when they are wrong, grey where the truth does not say.
    """
    drawn = [_drawn(tile) for tile in tiles]
    rows = -(-max(len(drawn), 1) // COLUMNS)
    height = max((tile.height / tile.width for tile in drawn), default=0.75)
    width = 13.6
    side = width / COLUMNS
    figure = figure_of(width, rows * (side * height + 0.46) + 1.0)
    total = figure.get_figheight()
    figure.text(
        0,
        1 - 0.18 / total,
        "People, parts and states",
        fontsize=13,
        fontweight="bold",
        color=INK,
        va="center",
    )
    figure.text(0, 1 - 0.42 / total, below, fontsize=9.5, color=SOFT, va="center")
    for place, name in enumerate(parts):
        figure.text(
            place / max(len(parts), 1),
            1 - 0.66 / total,
            name.replace("_", " "),
            fontsize=9,
            fontweight="bold",
            color=_hex(place),
            va="center",
        )
    for place, (tile, image) in enumerate(zip(tiles, drawn, strict=True)):
        row, column = divmod(place, COLUMNS)
        bottom = 1 - (0.85 + (row + 1) * (side * height + 0.46) - 0.06) / total
        axes = figure.add_axes((column / COLUMNS, bottom, 0.975 / COLUMNS, side * height / total))
        axes.imshow(np.asarray(image), interpolation="bilinear")
        axes.set_axis_off()
        line = bottom + (side * height + 0.12) / total
        figure.text(
            column / COLUMNS,
            line,
            tile.title,
            fontsize=9,
            fontweight="bold",
            color=INK,
            va="center",
        )
        figure.text(
            (column + 0.97) / COLUMNS,
            line,
            tile.below,
            fontsize=8.5,
            color=SOFT,
            va="center",
            ha="right",
        )
    return png_of(figure, photos=True)


def _drawn(tile: Tile) -> Image.Image:
    """The frame, enlarged, with boxes and words on it."""
    scale = 2 * TILE / max(tile.picture.shape[:2])
    size = (round(tile.picture.shape[1] * scale), round(tile.picture.shape[0] * scale))
    image = Image.fromarray(tile.picture).resize(size, Image.Resampling.BILINEAR)
    draw, font = ImageDraw.Draw(image, "RGBA"), ImageFont.load_default(2 * FONT)
    for box in tile.persons:
        draw.rectangle(_scaled(box, scale), outline=(255, 255, 255, 230), width=3)
    for number, box, _, _ in tile.parts:
        draw.rectangle(_scaled(box, scale), outline=_rgb(number), width=3)
    taken: list[tuple[float, float, float, float]] = []
    for number, box, state, right in tile.parts:
        x, y, _, _ = _scaled(box, scale)
        left, top, low, bottom = draw.textbbox((x, y - 2.2 * FONT), state, font=font)
        while any(
            left < other[2] and low > other[0] and top < other[3] and bottom > other[1]
            for other in taken
        ):
            top, bottom = top + FONT, bottom + FONT
        taken.append((left, top, low, bottom))
        ink = (255, 255, 255) if right is None else (120, 255, 150) if right else (255, 130, 130)
        draw.rectangle((left - 3, top - 1, low + 3, bottom + 2), fill=(20, 25, 35, 190))
        draw.rectangle((left - 8, top - 1, left - 3, bottom + 2), fill=_rgb(number))
        draw.text((left, top), state, fill=ink, font=font, anchor="lt")
    return image


def _scaled(box: Sequence[float] | np.ndarray, scale: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(edge) * scale for edge in box)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _rgb(number: int) -> tuple[int, int, int]:
    red, green, blue, _ = colormaps["tab10"](number % 10)
    return round(255 * red), round(255 * green), round(255 * blue)


def _hex(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_rgb(number))


def accuracy_curve(scores: ParsingScores, all_right: ParsingScores) -> bytes:
    """PNG of acc(t) over the threshold t, as scored and with every action right; the areas are
    Acc^p.
    """
    figure = figure_of(7.2, 4.3)
    axes = figure.add_subplot()
    thresholds = np.arange(1, 1000) / 1000
    series = ((all_right, SOFT, "every action right"), (scores, BLUE, "as scored"))
    for own, colour, name in series:
        values = own.accuracy(thresholds)
        axes.plot(
            thresholds,
            values,
            color=colour,
            linewidth=2,
            label=f"{name}: {own.acc_p:.1%}",
            linestyle="-" if own is scores else (0, (4, 3)),
        )
    axes.fill_between(thresholds, scores.accuracy(thresholds), color=BLUE, alpha=0.12)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("t, the PSC that a video must reach", color=SOFT, fontsize=10)
    axes.set_ylabel("videos that reach it, action right", color=SOFT, fontsize=10)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    bare(axes, "bottom")
    axes.legend(frameon=False, fontsize=9.5, labelcolor=INK, loc="lower left")
    titled(
        axes,
        f"Acc^p {scores.acc_p:.1%}",
        f"the area under acc(t) of {len(scores.psc)} videos; mean PSC {scores.mean_psc:.1%}",
    )
    return png_of(figure)


def part_bars(by_part: Mapping[str, Mapping[str, float]]) -> bytes:
    """PNG with a group of bars for each part: how many are found, and how many of these have the
    right state. Best on top.
    """
    ordered = sorted(
        by_part, key=lambda part: by_part[part]["found"] * by_part[part]["state_accuracy"]
    )
    figure = figure_of(7.8, 0.56 * len(ordered) + 1.6)
    axes = figure.add_subplot()
    places = np.arange(len(ordered))
    bars = (
        ("found", "box found (IoU 0.3)", BLUE, 0.25),
        ("state_accuracy", "state right, of these", TEAL, 0.0),
        ("ap50", "box AP50", GOLD, -0.25),
    )
    for name, label, colour, away in bars:
        values = [by_part[part][name] for part in ordered]
        axes.barh(places + away, values, color=colour, height=0.23, label=label)
        for place, value in zip(places, values, strict=True):
            axes.text(
                value + 0.01, place + away, f"{value:.0%}", va="center", fontsize=8, color=INK
            )
    axes.set_yticks(
        places,
        [f"{part.replace('_', ' ')}  ({int(by_part[part]['annotated'])})" for part in ordered],
    )
    axes.set_xlim(0, 1.08)
    axes.set_xticks([])
    bare(axes)
    axes.legend(
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        loc="upper center",
        bbox_to_anchor=(0.45, 0.0),
        ncols=3,
    )
    titled(axes, "Parts", "of the annotated parts (their number)")
    return png_of(figure)


def bottleneck_bars(rows: Sequence[tuple[Given, float]]) -> bytes:
    """PNG of Acc^p with the truth in place of some stages; the first row is the model's own."""
    figure = figure_of(8.6, 0.38 * len(rows) + 1.7)
    axes = figure.add_subplot()
    own = rows[0][1] if rows else 0.0
    for place, (given, score) in enumerate(reversed(rows)):
        axes.barh(
            place,
            score,
            color=(
                ORANGE
                if not any(given)
                else RED
                if given == Given(True, True, True, True)
                else BLUE
            ),
            height=0.62,
            alpha=0.9,
        )
        axes.text(
            score + 0.012,
            place,
            f"{score:.2%}" + (f"  +{score - own:.1%}" if any(given) else ""),
            va="center",
            fontsize=9,
            color=INK,
        )
        for column, mark in enumerate(given):
            axes.text(
                -0.86 + 0.225 * column,
                place,
                "true" if mark else "–",
                va="center",
                ha="center",
                fontsize=9,
                color=TEAL if mark else SOFT,
            )
    for column, stage in enumerate(STAGES):
        axes.text(
            -0.86 + 0.225 * column,
            len(rows) - 0.25,
            stage,
            ha="center",
            va="bottom",
            fontsize=8,
            fontweight="bold",
            color=INK,
        )
    axes.set_xlim(-0.99, 1.2)
    axes.set_ylim(-0.6, len(rows) + 0.2)
    axes.set_xticks([])
    axes.set_yticks([])
    bare(axes)
    titled(axes, "Where it loses", "Acc^p with the truth in place of some of the stages")
    return png_of(figure)
