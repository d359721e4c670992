"""The catalogue as a page: every published row with its recipe, the figures of its table and what
was counted here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from configs.schema import Published, Recipe
from ops.benchmarks.cost import Cost, cost_of, view_of

REPO = Path(__file__).resolve().parents[2]
COLUMNS = (
    "recipe",
    "origin",
    "data",
    "pretraining",
    "protocol",
    "top-1",
    "top-5",
    "GFLOPs published",
    "GMACs counted",
    "of a view",
    "M parameters published",
    "counted",
    "note",
)
NUMERIC = range(5, 12)
RECIPE = re.compile(r"([a-z0-9_]+):")
HEAD = """\
# The zoo

Every row of the published tables is a recipe below [configs](../configs), under the name in the first column, which links to its
line. Top-1, top-5, GFLOPs and parameters are the **published** ones: of the original authors' weights, by the protocol beside
them; nothing here was trained on these data sets by this project. *Counted* is what this project's network of the recipe costs: its
parameters with its own number of classes, and the multiply-adds of one view of its test (frames x side²; a table's "FLOPs" are
multiply-adds too, mostly of a view of 224 pixels and of the frames of training, and then differ from a test at 256 by the area). A
figure that is known to be wrong in its table has a note.

Made by `kinograph benchmark rows --markdown docs/zoo.md`; a test holds it up to date.
"""  # noqa: E501


@dataclass(frozen=True)
class Line:
    """Where a recipe is written: file below the repository, and line."""

    file: str
    number: int


def lines_of(recipes: Iterable[Recipe]) -> dict[str, Line]:
    """The place of each recipe in the project's own YAML."""
    found: dict[str, Line] = {}
    for task in sorted({recipe.task for recipe in recipes}):
        for path in sorted((REPO / "configs" / task).glob("*.yaml")):
            for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if named := RECIPE.match(text):
                    found[named[1]] = Line(f"configs/{task}/{path.name}", line)
    return found


def cells(recipe: Recipe, line: Line | None, cost: Cost) -> list[str]:
    """One row of the table, in markdown."""
    # a branch that is trained for a published whole
    facts = recipe.published or Published(dataset=recipe.dataset)
    name = f"[{recipe.name}](../{line.file}#L{line.number})" if line else recipe.name
    return [
        name,
        f"`{recipe.origin}`" if recipe.origin else "",
        facts.dataset,
        facts.pretraining or "",
        facts.protocol or "",
        number(facts.top1),
        number(facts.top5),
        number(facts.gflops),
        f"{cost.gmacs:.1f}" if cost.gmacs >= 10 else f"{cost.gmacs:.2f}",
        str(view_of(recipe)),
        number(facts.params_m),
        f"{cost.params / 1e6:.2f}",
        " ".join((facts.note or "").split()).replace("|", "\\|"),
    ]


def number(value: float | None) -> str:
    """As a table has it, nothing where it has nothing."""
    return "" if value is None else f"{value:.1f}" if value == round(value, 1) else f"{value:.2f}"


def table(rows: Iterable[list[str]]) -> str:
    """Markdown of the rows below COLUMNS."""
    rule = ["---:" if index in NUMERIC else "---" for index in range(len(COLUMNS))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(COLUMNS), rule, *rows]) + "\n"


def page(recipes: list[Recipe], cost: Callable[[Recipe], Cost] = cost_of) -> str:
    """The whole page of these recipes, which are in the order of task and family."""
    lines = lines_of(recipes)
    parts = [HEAD]
    for (task, family), group in groupby(recipes, lambda recipe: (recipe.task, recipe.family)):
        rows = list(group)
        parts.append(f"## {family} ({task}, {len(rows)} rows)\n")
        parts.append(table(cells(recipe, lines.get(recipe.name), cost(recipe)) for recipe in rows))
    return "\n".join(parts)
