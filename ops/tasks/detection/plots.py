"""Pictures of a detection evaluation: average precision per class, a contact sheet and a film of
true and found persons.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ops.evaluation.plots import (
    GOLD,
    INK,
    LINE,
    MAX_CLASSES,
    ORANGE,
    RED,
    SOFT,
    TEAL,
    VIOLET,
    bare,
    figure_of,
    png_of,
    spoken,
    titled,
)
from ops.media.encode import Coding, write_mp4

TRUE, FOUND = "#f2c14e", "#4fd1c5"  # on photographs: truth dashed gold, finds teal
PANEL_WIDTH, FILM_HEIGHT = 384, 360
COLUMNS, PANELS = 3, 12
MAX_LABELS = 3
GROUP_INKS = (TEAL, ORANGE, VIOLET, GOLD, RED)


@dataclass(frozen=True)
class Person:
    """One box, xyxy as shares of the picture, and its labels in the order of their scores (None:
    true, without scores).
    """

    box: Sequence[float]
    labels: Sequence[tuple[str, float | None]] = ()
    score: float | None = None


@dataclass(frozen=True)
class Shown:
    """One picture uint8 [H, W, 3] RGB with its persons."""

    name: str
    picture: np.ndarray
    true: Sequence[Person] = ()
    found: Sequence[Person] = ()
    note: str = field(default="")


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def drawn(shown: Shown, height: int, width: int) -> np.ndarray:
    """The picture with its boxes and labels, uint8 [height, width, 3]: true persons dashed, found
    ones whole.
    """
    smooth = Image.Resampling.BILINEAR
    image = Image.fromarray(shown.picture).resize((width, height), smooth)
    draw = ImageDraw.Draw(image)
    size = max(10, height // 26)
    for person in shown.true:
        _dashed(draw, _corners(person.box, width, height), TRUE)
        _text(
            draw,
            person,
            _corners(person.box, width, height),
            TRUE,
            size,
            below=True,
            limit=(width, height),
        )
    for person in shown.found:
        corners = _corners(person.box, width, height)
        draw.rectangle(corners, outline=FOUND, width=2)
        _text(draw, person, corners, FOUND, size, below=False, limit=(width, height))
    return np.asarray(image)


def _corners(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """In the picture and never backwards, as the drawing wants it."""
    x1, x2 = (min(max(value, 0.0), 1.0) * (width - 1) for value in (box[0], box[2]))
    y1, y2 = (min(max(value, 0.0), 1.0) * (height - 1) for value in (box[1], box[3]))
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _dashed(
    draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], ink: str, dash: int = 6
) -> None:
    x1, y1, x2, y2 = corners
    for start, end in (
        ((x1, y1), (x2, y1)),
        ((x2, y1), (x2, y2)),
        ((x2, y2), (x1, y2)),
        ((x1, y2), (x1, y1)),
    ):
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        for at in np.arange(0, length, 2 * dash):
            low, high = at / length, min(1.0, (at + dash) / length)
            points = [
                tuple(s + (e - s) * share for s, e in zip(start, end, strict=True))
                for share in (low, high)
            ]
            draw.line([*points[0], *points[1]], fill=ink, width=2)


def _text(
    draw: ImageDraw.ImageDraw,
    person: Person,
    corners: tuple[float, ...],
    ink: str,
    size: int,
    below: bool,
    limit: tuple[int, int],
) -> None:
    """The person's labels on a dark strip: true ones at the box's foot, found ones at its head."""
    words = [
        label if score is None else f"{label} {score:.0%}"
        for label, score in list(person.labels)[:MAX_LABELS]
    ]
    text = ", ".join(word.replace("_", " ") for word in words) or ("nothing" if below else "")
    if not text:
        return
    font = _font(size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(0.0, corners[0]), max(0.0, limit[0] - width))
    y = min(corners[3] - height, limit[1] - height) if below else corners[1]
    draw.rectangle((x, y, x + width, y + height), fill="#111827")
    draw.text((x + 2 - left, y + 2 - top), text, font=font, fill=ink)


def contact_sheet(shown: Sequence[Shown], about: str) -> bytes:
    """PNG of key frames side by side with true (dashed) and found boxes."""
    shown = list(shown)[:PANELS]
    rows = max(1, -(-len(shown) // COLUMNS))
    shape = max((panel.picture.shape[0] / panel.picture.shape[1] for panel in shown), default=0.75)
    width = 4.0
    figure = figure_of(width * COLUMNS, 0.75 + rows * (width * shape + 0.28))
    tall = figure.get_figheight()
    # the sheet keeps its width, however few there are
    figure.add_axes((0.0, 0.0, 1.0, 1.0)).set_axis_off()
    figure.text(
        0.0, 1 - 0.2 / tall, "Key frames", fontsize=13, fontweight="bold", color=INK, va="center"
    )
    figure.text(0.0, 1 - 0.47 / tall, about, fontsize=9.5, color=SOFT, va="center")
    for place, panel in enumerate(shown):
        row, column = divmod(place, COLUMNS)
        height, wide = panel.picture.shape[:2]
        own = width * height / wide
        bottom = 1 - (0.75 + row * (width * shape + 0.28) + own) / tall
        axes = figure.add_axes((column / COLUMNS, bottom, 0.985 / COLUMNS, own / tall))
        axes.imshow(
            drawn(panel, round(PANEL_WIDTH * height / wide), PANEL_WIDTH),
            aspect="auto",
            interpolation="bilinear",
        )
        axes.set_axis_off()
        figure.text(
            column / COLUMNS,
            bottom - 0.1 / tall,
            f"{panel.name}  {panel.note}",
            fontsize=8,
            color=SOFT,
            va="center",
        )
    return png_of(figure, photos=True)


def average_precisions(
    per_class: Mapping[str, float],
    counts: Mapping[str, int],
    groups: Mapping[str, Sequence[str]],
    mean: float,
) -> bytes:
    """PNG of AP per class, grouped by colour, best on top, with the number of true boxes of
    each.
    """
    ordered = sorted(per_class, key=lambda label: (per_class[label], label))
    note = (
        f"; the {MAX_CLASSES} worst of {len(ordered)} classes" if len(ordered) > MAX_CLASSES else ""
    )
    ordered = ordered[:MAX_CLASSES]
    ink = {
        label: color
        for color, members in zip(GROUP_INKS, groups.values(), strict=False)
        for label in members
    }
    figure = figure_of(7.5, 0.36 * max(len(ordered), 1) + 1.6)
    axes = figure.add_subplot()
    axes.barh(range(len(ordered)), np.ones(len(ordered)), color="#f1f4f8", height=0.62)
    axes.barh(
        range(len(ordered)),
        [per_class[label] for label in ordered],
        color=[ink.get(label, TEAL) for label in ordered],
        height=0.62,
    )
    for place, label in enumerate(ordered):
        axes.text(
            1.015,
            place,
            f"{per_class[label]:.1%}",
            va="center",
            fontsize=9.5,
            color=INK,
            fontweight="bold",
        )
        axes.text(1.13, place, f"of {counts.get(label, 0)}", va="center", fontsize=8.5, color=SOFT)
    axes.axvline(mean, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_yticks(range(len(ordered)), [spoken(label) for label in ordered])
    axes.set_xticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, max(len(ordered), 1) - 0.4)
    bare(axes)
    shown = [(name, color) for (name, _), color in zip(groups.items(), GROUP_INKS, strict=False)]
    for place, (name, color) in enumerate(shown):
        axes.annotate(
            name,
            (place / max(len(shown), 1), 0),
            xytext=(0, -14),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            color=color,
            fontweight="bold",
        )
    axes.hlines([], 0, 1, color=LINE)
    titled(axes, "Average precision per class", f"frame-mAP@0.5 {mean:.1%}{note}")
    return png_of(figure)


def film(shown: Iterable[Shown], fps: int) -> bytes:
    """H.264 mp4 of pictures of one size with their boxes, `fps` a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "overlay.mp4")
        write_mp4(
            path,
            (_film_picture(picture) for picture in shown),
            fps,
            Coding(crf=23, gop=2 * fps, bframes=0, faststart=True),
        )
        return path.read_bytes()


def _film_picture(shown: Shown) -> np.ndarray:
    height, width = shown.picture.shape[:2]
    wide = round(FILM_HEIGHT * width / height)
    return drawn(shown, FILM_HEIGHT, wide + wide % 2)
