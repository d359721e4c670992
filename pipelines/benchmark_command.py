"""`kinograph benchmark`: the catalogue in numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import configs
from assets.layout import layout_of
from pipelines.app import command, group

benchmark = group(
    "benchmark",
    "The catalogue in numbers: what rows cost, what families learn and how fast they are, kernels"
    " that err.",
)
Task = Annotated[
    list[str] | None, typer.Option(metavar="T", help="Only this task's; may be given again.")
]
Family = Annotated[
    list[str] | None, typer.Option(metavar="F", help="Only this family; may be given again.")
]
Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the page of the docs instead of a table.")
]


@command("rows", "kinograph benchmark rows --family tsm --family x3d", of=benchmark, reads=True)
def rows(task: Task = None, family: Family = None, markdown: Markdown = None) -> int:
    """Multiply-adds and parameters of every published row, counted, beside the published
    figures.
    """
    from ops.benchmarks.cost import catalogued, cost_of, view_of
    from ops.benchmarks.page import page

    recipes = catalogued(tuple(task or ()), tuple(family or ()))
    if markdown:
        return _write(markdown, page(recipes))
    print(
        f"{'recipe':44} {'view':>10} {'GMACs':>9} {'published':>9} {'M params':>9} {'published':>9}"
    )
    for recipe in recipes:
        cost, facts = cost_of(recipe), recipe.published
        gmacs, params = (facts.gflops, facts.params_m) if facts else (None, None)
        counted = f"{cost.gmacs:9.2f} {_figure(gmacs)} {cost.params / 1e6:9.2f} {_figure(params)}"
        print(f"{recipe.name:44} {view_of(recipe)!s:>10} {counted}", flush=True)
    return 0


def _figure(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:9.2f}"


@command("families", "kinograph benchmark families --family tsm", of=benchmark)
def families(
    family: Family = None,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Of a training (default: 2, or as many as CPUs)."),
    ] = None,
    measure: Annotated[bool, typer.Option(help="Take speed and memory too.")] = True,
    markdown: Markdown = None,
) -> int:
    """Train every family's demo size on the sample world (what is finished is left alone) and set
    them side by side.
    """
    from ops.benchmarks.side_by_side import chart, learnt_of, page, terminal
    from ops.store.threads import usable_cpus

    results = learnt_of(
        tuple(family or ()),
        layout_of(configs.settings()),
        threads or min(2, usable_cpus()),
        measure,
    )
    if markdown:
        picture = markdown.with_suffix(".png")
        picture.write_bytes(chart(results))
        _write(markdown, page(results, picture.name))
    print(terminal(results))
    return 0


@command(
    "speed",
    "OMP_NUM_THREADS=1 kinograph benchmark speed --family slowfast",
    of=benchmark,
    reads=True,
)
def speed(family: Family = None, markdown: Markdown = None) -> int:
    """Measure one published row of every family against the peak of a matrix product."""
    from ops.benchmarks.speed import line_of, recipes_of, updated, usable_threads, usage_of

    for recipe in recipes_of(tuple(family or ())):
        usage = usage_of(recipe, usable_threads())
        print(line_of(usage), flush=True)
        if markdown:  # a page that is written by hand, but for its table
            markdown.write_text(
                updated(markdown.read_text(encoding="utf-8"), [usage]), encoding="utf-8"
            )
    return 0


@command("kernels", "kinograph benchmark kernels --kind conv3d", of=benchmark, reads=True)
def kernels(
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="K", help="Only kinds with this in the name; may be given again."),
    ] = None,
    markdown: Markdown = None,
) -> int:
    """Compute every kind of layer at odd widths beside float64, with this processor's kernels and
    with narrower ones'.
    """
    from ops.benchmarks.kernels import lines_of, mistakes, page, table_of, wrong_kinds

    kinds = tuple(kind or ())
    torchs = table_of(kinds=kinds)
    if not torchs:
        raise configs.ConfigError(
            "kinograph benchmark kernels", "--kind", ", ".join(kinds), "a part of a layer's name"
        )
    print("Torch's layers", *lines_of(torchs), sep="\n", flush=True)
    networks = table_of(guarded=True, kinds=wrong_kinds(torchs)) if wrong_kinds(torchs) else {}
    if networks:
        print("The networks' convolutions in their place", *lines_of(networks), sep="\n")
    if markdown:
        _write(markdown, page(torchs, networks))
    if found := mistakes(networks):
        print("kinograph: the networks compute wrongly: " + "; ".join(found), file=sys.stderr)
    return 1 if found else 0


def _write(path: Path, text: str) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")
    return 0
