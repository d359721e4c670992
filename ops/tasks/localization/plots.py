"""Pictures of a localization evaluation, as small PNG files: AP per label, timelines, false
positives by kind, precision against recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ops.evaluation.plots import (
    BLUE,
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
from ops.tasks.localization.errors import DEPTHS, KINDS

KIND_COLOURS = dict(zip(KINDS, (TEAL, BLUE, ORANGE, GOLD, VIOLET, RED), strict=True))
CURVES = 10
ROW = 0.34  # inches
LETTERS = 170  # that fit side by side into a timeline's width


class Bar(NamedTuple):
    """A segment on a timeline; `kind` is one of KINDS for found ones, '' for true ones."""

    start_s: float
    end_s: float
    label: str
    kind: str = ""


class Timeline(NamedTuple):
    """A video with its true segments and the best of the found ones, and how well they agree
    (0..1).
    """

    video_id: str
    duration_s: float
    true: Sequence[Bar]
    found: Sequence[Bar]
    score: float


def ap_bars(
    by_label: Mapping[str, Sequence[float]], counts: Mapping[str, int], thresholds: Sequence[float]
) -> bytes:
    """PNG of each label's AP, mean over the thresholds, with a tick for the lowest and the highest
    threshold. Best on top.
    """
    ordered = sorted(by_label, key=lambda label: (float(np.mean(by_label[label])), label))
    note = (
        f"; the {MAX_CLASSES} worst of {len(ordered)} labels" if len(ordered) > MAX_CLASSES else ""
    )
    mean = float(np.mean([np.mean(values) for values in by_label.values()]))
    ordered = ordered[:MAX_CLASSES]
    figure = figure_of(7.5, 0.36 * len(ordered) + 1.6)
    axes = figure.add_subplot()
    axes.barh(range(len(ordered)), np.ones(len(ordered)), color="#f1f4f8", height=0.62)
    for place, label in enumerate(ordered):
        values = by_label[label]
        value = float(np.mean(values))
        axes.barh(
            place,
            value,
            color=TEAL if value >= 0.5 else ORANGE if value >= 0.25 else RED,
            height=0.62,
        )
        axes.plot(
            [min(values), max(values)],
            [place, place],
            color=INK,
            linewidth=1,
            marker="|",
            markersize=7,
        )
        axes.text(
            1.015, place, f"{value:.0%}", va="center", fontsize=9.5, color=INK, fontweight="bold"
        )
        axes.text(1.105, place, f"of {counts[label]}", va="center", fontsize=8.5, color=SOFT)
    axes.set_yticks(range(len(ordered)), [spoken(label) for label in ordered])
    axes.set_xticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    bare(axes)
    span = f"tIoU {thresholds[0]:g} to {thresholds[-1]:g}"
    titled(
        axes,
        "Average precision per label",
        f"mean {mean:.1%} over {span}; whiskers: the easiest and the hardest threshold{note}",
    )
    return png_of(figure)


def timelines(rows: Sequence[Timeline], threshold: float) -> bytes:
    """PNG of true segments above found ones along time, for the given videos in their order."""
    figure = figure_of(9.6, 0.9 + 1.25 * max(1, len(rows)))
    labels = sorted({bar.label for row in rows for bar in (*row.true, *row.found)})
    shades = {label: colormaps["tab20"](place % 20) for place, label in enumerate(labels)}
    plots = figure.subplots(max(1, len(rows)), 1, squeeze=False)[:, 0]
    for axes, row in zip(plots, rows, strict=False):
        for bar in row.true:
            _segment(axes, bar, 1, shades[bar.label], row.duration_s)
        for bar in row.found:
            _segment(axes, bar, 0, shades[bar.label], row.duration_s)
        axes.set_yticks([1, 0], ["true", "found"])
        axes.set_xlim(0, row.duration_s)
        axes.set_ylim(-0.55, 1.5)
        bare(axes, "bottom")
        axes.tick_params(labelsize=8)
        axes.set_title(
            f"{row.video_id}   F1 {row.score:.0%}", loc="left", fontsize=9, color=INK, pad=3
        )
    if not rows:
        bare(plots[0])
        plots[0].set_axis_off()
    plots[-1].set_xlabel("seconds", fontsize=8.5, color=SOFT)
    below = (
        "as many found segments as there are true ones, the surest; framed in red: wrong at tIoU"
        f" {threshold:g}"
    )
    figure.text(
        0.0, 1.0, "Best and worst videos", fontsize=13, fontweight="bold", color=INK, va="bottom"
    )
    figure.text(0.0, 0.985, below, fontsize=9.5, color=SOFT, va="top")
    figure.subplots_adjust(
        left=0.07, right=1.0, top=1 - 0.45 / figure.get_figheight(), bottom=0.03, hspace=0.75
    )
    return png_of(figure)


def _segment(axes: Axes, bar: Bar, row: int, colour: tuple[float, ...], duration: float) -> None:
    wrong = bar.kind not in ("", KINDS[0])
    edge, width = (RED, 1.6) if wrong else ("#ffffff", 0.8)
    axes.barh(
        row,
        bar.end_s - bar.start_s,
        left=bar.start_s,
        height=0.72,
        color=colour,
        alpha=0.85,
        edgecolor=edge,
        linewidth=width,
    )
    share = (bar.end_s - bar.start_s) / duration
    if share > 0.02:
        label, room = spoken(bar.label), max(3, int(LETTERS * share))
        if len(label) > room:  # a word a line
            label = "\n".join(word[:room] for word in label.split())
        axes.text(
            (bar.start_s + bar.end_s) / 2,
            row,
            label,
            ha="center",
            va="center",
            fontsize=6,
            color=INK,
            clip_on=True,
        )


def false_positives(shares: np.ndarray, gains: Mapping[str, float], threshold: float) -> bytes:
    """PNG: what the best predictions are, by how many are looked at ([depths, KINDS]), and what the
    mAP would gain without each mistake.
    """
    figure = figure_of(9.2, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    bottom = np.zeros(len(DEPTHS))
    for number, kind in enumerate(KINDS):
        left.bar(
            range(len(DEPTHS)),
            shares[:, number],
            bottom=bottom,
            color=KIND_COLOURS[kind],
            width=0.78,
            label=kind,
        )
        bottom += shares[:, number]
    left.set_xticks(range(len(DEPTHS)), [f"{depth}x" for depth in DEPTHS])
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_xlabel(
        "best predictions, in multiples of the number of true segments", fontsize=8.5, color=SOFT
    )
    left.legend(
        fontsize=7.5, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2)
    )
    bare(left)
    titled(left, "What the predictions are", f"at tIoU {threshold:g}")
    names = list(reversed(list(gains)))
    values = [gains[name] for name in names]
    right.barh(range(len(names)), values, color=[KIND_COLOURS[name] for name in names], height=0.6)
    most = max([*values, 0.01])
    for place, value in enumerate(values):
        right.text(
            max(value, 0) + most * 0.03, place, f"{value:+.1%}", va="center", fontsize=9, color=INK
        )
    right.set_yticks(range(len(names)), names)
    right.set_xticks([])
    right.set_xlim(min([*values, 0]), most * 1.3)
    bare(right)
    titled(right, "Without them", f"gain of mAP at tIoU {threshold:g}")
    figure.subplots_adjust(wspace=0.45)
    return png_of(figure)


def curves(
    by_label: Mapping[str, tuple[np.ndarray, np.ndarray]], mean: np.ndarray, threshold: float
) -> bytes:
    """PNG of precision (interpolated) against recall: the mean over labels [101] in bold, and at
    most ten labels, the worst.
    """
    figure = figure_of(6.4, 4.6)
    axes = figure.add_subplot()
    area = {
        label: float(np.trapezoid(values, recall)) if len(recall) > 1 else 0.0
        for label, (recall, values) in by_label.items()
    }
    shown = sorted(area, key=lambda label: (area[label], label))[:CURVES]
    for place, label in enumerate(shown):
        recall, values = by_label[label]
        line, colour = [values[0] if len(values) else 0, *values], colormaps["tab10"](place)
        axes.step(
            [0, *recall],
            line,
            where="post",
            linewidth=1,
            alpha=0.8,
            color=colour,
            label=spoken(label),
        )
    axes.plot(
        np.linspace(0, 1, len(mean)), mean, color=INK, linewidth=2.4, label="mean of all labels"
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_xlabel("recall", color=SOFT, fontsize=10)
    axes.set_ylabel("precision", color=SOFT, fontsize=10)
    axes.legend(fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    bare(axes, "left", "bottom")
    note = f", the {CURVES} worst of {len(by_label)} labels" if len(by_label) > CURVES else ""
    titled(axes, "Precision and recall", f"at tIoU {threshold:g}{note}")
    return png_of(figure)
