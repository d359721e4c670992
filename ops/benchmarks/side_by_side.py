"""All families side by side: what the demo size of each learns of the sample world, and what it
costs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.benchmarks.cost import Cost, cost_of
from ops.benchmarks.measure import Speed, measure
from ops.benchmarks.training import Learnt, demo_recipes, learn
from ops.store.layout import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH = 16  # clips of a measured pass
HEAD = """\
# All families side by side

Every family of the zoo at its demo size (`<family>_tiny_figures`), trained from random weights on the sample world (ten actions,
480 clips, no look of a person in both splits) by the pipeline's own task and loop, and scored on its 160 validation
clips. Chance is {chance:.2f} for top-1, and one half for *order*: the share of clips of paired actions (sit down / stand up, and so on:
each is the other played backwards) that are told from their partner. Settings are small and short so that the table can be made on
two CPU cores, and were picked by their scores on these same clips, one seed each: they say that a family learns through the pipeline,
not which family is best.

![Accuracy against cost]({picture})

"""  # noqa: E501
FOOT = """
GMACs are multiply-adds of one clip, counted. *seconds* are those of the training's epochs, with what else the machine had to do.
*clips/s* is the forward pass in evaluation of {batch} clips on {threads}, and *MB* the most memory above the process itself of that
pass and of a training step, each family in a process of its own.

Made by `kinograph benchmark families --markdown docs/families.md` on a store with the sample world (`kinograph run` makes one); it
trains what is not trained yet.
"""  # noqa: E501


@dataclass(frozen=True)
class Result:
    """One family: what it learnt and what it costs; `speed` is None where it was not measured."""

    family: str
    learnt: Learnt
    cost: Cost
    speed: Speed | None
    threads: int


def learnt_of(
    families: tuple[str, ...], layout: Layout, threads: int, speed: bool = True
) -> list[Result]:
    """Train and score the families and measure them, one after the other.

    Args:
        families: all, without any.
        layout: of the store that has the data and gets the trainings.
        threads: of torch and of the decoder of frames.
        speed: False leaves the measurement out.

    Raises:
        ConfigError: a family has no recipe for this.
        DataError: the data cannot be trained on.
        OSError: a measurement fails.
    """
    recipes = demo_recipes(families)
    learnt = {
        recipe.family: learn(recipe, layout, threads, lambda line: print(line, flush=True))
        for recipe in recipes
    }
    return [
        Result(
            recipe.family,
            learnt[recipe.family],
            cost_of(recipe),
            measure(recipe.name, BATCH, threads) if speed else None,
            threads,
        )
        for recipe in recipes
    ]


def _cells(result: Result) -> list[str]:
    learnt, cost, speed = result.learnt, result.cost, result.speed
    return [
        result.family,
        f"{learnt.top1:.3f}",
        f"{learnt.top5:.3f}",
        "" if learnt.pair_order is None else f"{learnt.pair_order:.3f}",
        str(learnt.epochs),
        f"{learnt.seconds:.0f}",
        f"{cost.params / 1e3:.0f}",
        f"{cost.gmacs:.3f}",
        *(
            ["", "", ""]
            if speed is None
            else [f"{speed.clips_per_s:.0f}", f"{speed.eval_mb:.0f}", f"{speed.step_mb:.0f}"]
        ),
    ]


COLUMNS = (
    "family",
    "top-1",
    "top-5",
    "order",
    "epochs",
    "seconds",
    "k parameters",
    "GMACs",
    "clips/s",
    "MB forward",
    "MB step",
)


def page(results: list[Result], picture: str) -> str:
    """The page of the docs; `picture` is the chart's file beside it."""
    rows = [list(COLUMNS), ["---", *["---:"] * (len(COLUMNS) - 1)], *map(_cells, results)]
    head = HEAD.format(chance=results[0].learnt.chance, picture=picture)
    foot = FOOT.format(batch=BATCH, threads=_threads(results[0].threads))
    return head + "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n" + foot


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def terminal(results: list[Result]) -> str:
    """The table for a person at a terminal."""
    rows = [list(COLUMNS), *map(_cells, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)] for row in rows
    ]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *line]) for row, line in zip(rows, lines, strict=True)
    )


# points from a dot
PLACES = (
    (5, 4, "left"),
    (-5, 4, "right"),
    (5, -10, "left"),
    (-5, -10, "right"),
    (0, 8, "center"),
    (0, -14, "center"),
)


def _name_points(axes: Axes, points: list[tuple[str, float, float]]) -> None:
    """Write each name beside its point, where it covers no other name or point if there is such a
    place.
    """
    from matplotlib.transforms import Bbox

    dots = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for name, x, y in points:
        for right, up, side in PLACES:
            text = axes.annotate(
                name, (x, y), (right, up), textcoords="offset points", fontsize=8, ha=side
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken) or (right, up, side) == PLACES[-1]:
                taken.append(box)
                break
            text.remove()


def chart(results: list[Result]) -> bytes:
    """PNG: top-1 against multiply-adds of a clip, one point a family, with the line of chance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ops.evaluation.plots import BLUE, ORANGE, SOFT

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for result in results:
        sees_order = (result.learnt.pair_order or 0.0) > 0.6
        axes.scatter(
            result.cost.gmacs * 1e3, result.learnt.top1, s=36, color=BLUE if sees_order else ORANGE
        )
    axes.axhline(results[0].learnt.chance, color=SOFT, linestyle=":", linewidth=1)
    axes.text(
        0.995,
        results[0].learnt.chance,
        "chance",
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="bottom",
        color=SOFT,
    )
    axes.set_xscale("log")
    axes.set_ylim(0, 1.08)
    axes.set_xlabel("million multiply-adds a clip")
    axes.set_ylabel("top-1")
    axes.set_title(
        "Demo sizes on the sample world (blue: tells an action from the same played backwards)",
        fontsize=10,
    )
    figure.draw_without_rendering()  # axes have their size only then
    _name_points(
        axes, [(result.family, result.cost.gmacs * 1e3, result.learnt.top1) for result in results]
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
