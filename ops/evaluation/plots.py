"""Pictures of an evaluation, as small PNG files: confusion matrix, per-class bars, worst clips,
learning curves.

Figures are made without pyplot: it keeps global state and is not safe in threads.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

INK, SOFT, LINE, PAPER = "#1f2933", "#616e7c", "#e4e7eb", "#ffffff"
BLUE, TEAL, ORANGE, RED, VIOLET, GOLD = (
    "#2563eb",
    "#0d9488",
    "#ea7317",
    "#d64545",
    "#7c3aed",
    "#b7791f",
)
SERIES = (BLUE, ORANGE, TEAL, VIOLET, GOLD, RED)
SHADES = LinearSegmentedColormap.from_list(
    "shades", ["#ffffff", "#dbe7fd", "#8fb4f8", "#2563eb", "#123a94"]
)
MAX_CLASSES = 40  # more do not fit a readable picture; the ones with most mistakes are shown
MAX_PANELS = 6
PANEL_ORDER = ("loss", "top1", "top5", "mean_class_accuracy", "lr")


@dataclass(frozen=True)
class Clip:
    """One evaluated clip for the contact sheet. `frames` is uint8 [T, H, W, 3], RGB, in the order
    of time.
    """

    name: str
    true: str
    predicted: str
    probability: float  # of the predicted label
    true_probability: float
    frames: np.ndarray


def figure_of(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure, photos: bool = False) -> bytes:
    """The figure as PNG.

    Args:
        figure: of `figure_of`.
        photos: False, for drawings, gives a palette of 256 colours: a third of the size, and no
            difference that one sees.
    """
    full = io.BytesIO()
    figure.savefig(
        full,
        format="png",
        bbox_inches="tight",
        pad_inches=0.2,
        dpi=84 if photos else "figure",
        pil_kwargs={"compress_level": 7 if photos else 1},
    )
    if photos:
        return full.getvalue()
    small = io.BytesIO()
    Image.open(full).convert("RGB").quantize(
        256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    ).save(small, "PNG", optimize=True)
    return small.getvalue()


def bare(axes: Axes, *keep: str) -> None:
    """Take the frame away, but for the sides in `keep`."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(LINE)
    axes.tick_params(colors=INK, length=0, labelsize=9)


def titled(axes: Axes, title: str, below: str = "") -> None:
    """Title, and a line below it, at the left."""
    axes.set_title(
        title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=28 if below else 12
    )
    if below:
        axes.annotate(
            below,
            (0, 1),
            xytext=(0, 10),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9.5,
            color=SOFT,
        )


def spoken(label: str) -> str:
    """A label as it is written below a picture, cut where it is long."""
    text = label.replace("_", " ")
    return text if len(text) <= 26 else text[:25] + "…"


def confusion_matrix(counts: np.ndarray, labels: Sequence[str]) -> bytes:
    """PNG of the confusion matrix; cells show share of row and count.

    Args:
        counts: int [C, C], rows true, columns predicted.
        labels: names of the C classes.
    """
    counts, labels, note = _worst_confused(np.asarray(counts), list(labels))
    size = len(labels)
    totals = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(totals, 1)
    cell = 0.62 if size <= 16 else 0.42 if size <= 26 else 0.3
    figure = figure_of(cell * size + 2.4, cell * size + 1.8)
    axes = figure.add_subplot()
    axes.imshow(share, cmap=SHADES, vmin=0, vmax=1, aspect="equal")
    names = [spoken(label) for label in labels]
    axes.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(
        range(size),
        [f"{name}  ({int(total)})" for name, total in zip(names, totals[:, 0], strict=True)],
    )
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=LINE, linewidth=0.8)
    bare(axes)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted", color=SOFT, fontsize=10)
    axes.set_ylabel("true (clips)", color=SOFT, fontsize=10)
    if size <= 26:
        for row, column in zip(*np.nonzero(counts), strict=True):
            _cell_text(
                axes,
                int(row),
                int(column),
                float(share[row, column]),
                int(counts[row, column]),
                size,
            )
    titled(axes, "Confusion matrix", f"share of the true label's clips, and their number{note}")
    return png_of(figure)


def _cell_text(axes: Axes, row: int, column: int, share: float, count: int, size: int) -> None:
    ink = "#ffffff" if share > 0.5 else INK
    if size > 16:
        axes.text(column, row, str(count), ha="center", va="center", fontsize=7.5, color=ink)
        return
    axes.text(column, row - 0.1, f"{share:.0%}", ha="center", va="center", fontsize=9.5, color=ink)
    axes.text(
        column, row + 0.26, str(count), ha="center", va="center", fontsize=7, color=ink, alpha=0.75
    )


def _worst_confused(counts: np.ndarray, labels: list[str]) -> tuple[np.ndarray, list[str], str]:
    if len(labels) <= MAX_CLASSES:
        return counts, labels, ""
    mistakes = counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal()
    chosen = np.sort(np.argsort(-mistakes, kind="stable")[:MAX_CLASSES])
    note = f"; the {MAX_CLASSES} of {len(labels)} labels with most mistakes"
    return counts[np.ix_(chosen, chosen)], [labels[index] for index in chosen], note


def class_bars(accuracy: Mapping[str, float], clips: Mapping[str, int], chance: float) -> bytes:
    """PNG of accuracy per label, best on top, with the chance level and the number of clips.

    Args:
        accuracy: 0..1 by label.
        clips: number by label.
        chance: accuracy of guessing, 0..1.
    """
    ordered = sorted(accuracy, key=lambda label: (accuracy[label], label))
    note = (
        f"; the {MAX_CLASSES} worst of {len(ordered)} labels" if len(ordered) > MAX_CLASSES else ""
    )
    ordered = ordered[:MAX_CLASSES]
    values = np.array([accuracy[label] for label in ordered])
    mean = float(np.mean(list(accuracy.values()))) if accuracy else 0.0
    figure = figure_of(7.5, 0.36 * len(ordered) + 1.6)
    axes = figure.add_subplot()
    axes.barh(range(len(ordered)), np.ones(len(ordered)), color="#f1f4f8", height=0.62)
    axes.barh(
        range(len(ordered)),
        values,
        color=[TEAL if value >= 0.5 else ORANGE if value > chance else RED for value in values],
        height=0.62,
    )
    for place, (label, value) in enumerate(zip(ordered, values, strict=True)):
        axes.text(
            1.015, place, f"{value:.0%}", va="center", fontsize=9.5, color=INK, fontweight="bold"
        )
        axes.text(1.105, place, f"of {clips[label]}", va="center", fontsize=8.5, color=SOFT)
    axes.axvline(chance, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
    axes.annotate(
        "chance",
        (chance, 0),
        xytext=(0, -14),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=8.5,
        color=SOFT,
        ha="center",
    )
    axes.set_yticks(range(len(ordered)), [spoken(label) for label in ordered])
    axes.set_xticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    bare(axes)
    titled(axes, "Accuracy per label", f"mean {mean:.0%}, chance {chance:.0%}{note}")
    return png_of(figure)


def worst_clips(
    clips: Sequence[Clip], num_mistakes: int, num_clips: int, num_frames: int = 8
) -> bytes:
    """PNG contact sheet: a row of frames over time for each clip, with what it shows and what the
    model says.

    Args:
        clips: the surest mistakes first; the first ten are shown.
        num_mistakes: of all clips, for the title.
        num_clips: that were evaluated.
        num_frames: of a row, evenly spaced over the clip.
    """
    clips = list(clips)[:10]
    strips = [_strip(clip.frames, num_frames) for clip in clips]
    width = 9.2
    row = width * max((strip.shape[0] / strip.shape[1] for strip in strips), default=0.1)
    figure = figure_of(width, 0.7 + (row + 0.42) * max(len(clips), 1))
    top = 1 - 0.6 / figure.get_figheight()
    title = "Worst clips" if clips else "Worst clips: none, every clip is right"
    figure.text(
        0.0,
        1 - 0.2 / figure.get_figheight(),
        title,
        fontsize=13,
        fontweight="bold",
        color=INK,
        va="center",
    )
    below = (
        f"{num_mistakes} of {num_clips} clips are wrong; the surest mistakes first, time runs to"
        " the right"
    )
    figure.text(
        0.0, 1 - 0.45 / figure.get_figheight(), below, fontsize=9.5, color=SOFT, va="center"
    )
    height = row / figure.get_figheight()
    for place, (clip, strip) in enumerate(zip(clips, strips, strict=True)):
        bottom = top - (place + 1) * (row + 0.42) / figure.get_figheight()
        axes = figure.add_axes((0.0, bottom, 1.0, height))
        axes.imshow(strip, aspect="auto", interpolation="bilinear")
        axes.set_axis_off()
        line = bottom + height + 0.13 / figure.get_figheight()
        figure.text(
            0.0, line, spoken(clip.true), fontsize=10, fontweight="bold", color=TEAL, va="center"
        )
        wrong = (
            f"taken for {spoken(clip.predicted)}, {clip.probability:.0%} sure"
            f" ({clip.true_probability:.0%} for the truth)"
        )
        figure.text(0.25, line, wrong, fontsize=10, color=RED, va="center")
        figure.text(1.0, line, clip.name[-34:], fontsize=8, color=SOFT, va="center", ha="right")
    return png_of(figure, photos=True)


def _strip(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """Frames side by side, evenly spaced over the clip, each at most 112 pixels high, with thin
    white gaps.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, num_frames).round().astype(int)]
    height, width = chosen.shape[1:3]
    scale = min(1.0, 112 / height)
    tiles = []
    for frame in chosen:
        picture = Image.fromarray(frame).resize(
            (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR
        )
        tiles += [np.asarray(picture), np.full((picture.height, 2, 3), 255, np.uint8)]
    return np.concatenate(tiles[:-1], axis=1)


def learning_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], title: str = "Learning curves"
) -> bytes:
    """PNG with a panel per quantity.

    Args:
        curves: (epoch, value) by name; 'train_top1' shares the panel of 'top1', the validation's.
        title: above all panels.
    """
    panels: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for key, points in sorted(curves.items()):
        if points and key != "seconds" and not key.startswith("best_"):
            quantity = key.removeprefix("train_")
            panels.setdefault(quantity, {})["training" if quantity != key else "validation"] = (
                points
            )
    order = [name for name in PANEL_ORDER if name in panels] + [
        name for name in panels if name not in PANEL_ORDER
    ]
    shown = order[:MAX_PANELS]
    columns = min(3, max(len(shown), 1))
    rows = -(-max(len(shown), 1) // columns)
    figure = figure_of(4.1 * columns, 3.0 * rows + 0.5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    for place, name in enumerate(shown):
        _panel(figure.add_subplot(rows, columns, place + 1), name, panels[name])
    figure.tight_layout(rect=(0, 0, 1, 0.99), h_pad=2.0, w_pad=2.0)
    return png_of(figure)


def _panel(axes: Axes, name: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    shares = any(word in name for word in ("top1", "top5", "accuracy", "share", "order"))
    for color, (label, points) in zip(SERIES * 3, sorted(series.items()), strict=False):
        steps, values = zip(*points, strict=True)
        axes.plot(
            steps,
            values,
            color=color,
            linewidth=2,
            marker="o" if len(steps) <= 20 else None,
            markersize=3.5,
            label=label,
        )
        last = f"{values[-1]:.1%}" if shares else f"{values[-1]:.3g}"
        axes.annotate(
            last,
            (steps[-1], values[-1]),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=color,
            va="center",
        )
    bare(axes, "bottom")
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.08)
    if shares:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(0, 1.03)
    axes.set_xlabel("epoch", fontsize=8.5, color=SOFT)
    axes.set_title(name.replace("_", " "), loc="left", fontsize=10.5, color=INK)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="best")
