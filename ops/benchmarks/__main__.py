"""The zoo in numbers.

python -m ops.benchmarks rows [--task T] [--family F ...] [--markdown FILE]    cost of every published row beside the published figures
python -m ops.benchmarks families [--family F ...] [--markdown FILE]           every family's demo size, trained on the sample world
python -m ops.benchmarks speed [--family F ...] [--markdown FILE]              every family's speed and memory, over what the machine can do
python -m ops.benchmarks kernels [--kind K ...] [--markdown FILE]              every kind of layer at odd widths beside float64
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import configs
from ops.store.threads import usable_cpus


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m ops.benchmarks", description="The zoo in numbers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    rows = commands.add_parser("rows", help="multiply-adds and parameters of every published row, counted, beside the published figures")
    rows.add_argument("--task", action="append", default=[], dest="tasks", help="only this task's; may be given again")
    rows.set_defaults(command=_rows)
    families = commands.add_parser(
        "families", help="train every family's demo size on the sample world (what is finished is left alone) and set them side by side"
    )
    families.add_argument("--threads", type=int, default=min(2, usable_cpus()), help="of a training (%(default)s)")
    families.add_argument("--no-measure", action="store_false", dest="measure", help="leave out speed and memory")
    families.set_defaults(command=_families)
    speed = commands.add_parser("speed", help="measure one published row of every family against the peak of a matrix product")
    speed.set_defaults(command=_speed)
    kernels = commands.add_parser(
        "kernels", help="compute every kind of layer at odd widths beside float64, with this processor's kernels and with narrower ones'"
    )
    kernels.add_argument("--kind", action="append", default=[], dest="kinds", help="only kinds with this in the name; may be given again")
    kernels.set_defaults(command=_kernels)
    for command in (rows, families, speed):
        command.add_argument("--family", action="append", default=[], dest="families", help="only this family; may be given again")
    for command in (rows, families, speed, kernels):
        command.add_argument("--markdown", type=Path, metavar="FILE", help="write the page of the docs instead of a table")
    return parser


def _rows(given: argparse.Namespace) -> None:
    from ops.benchmarks.cost import catalogued, cost_of, view_of
    from ops.benchmarks.page import page

    recipes = catalogued(tuple(given.tasks), tuple(given.families))
    if given.markdown:
        _write(given.markdown, page(recipes))
        return
    print(f"{'recipe':44} {'view':>10} {'GMACs':>9} {'published':>9} {'M params':>9} {'published':>9}")
    for recipe in recipes:
        cost, facts = cost_of(recipe), recipe.published
        gmacs, params = (facts.gflops, facts.params_m) if facts else (None, None)
        counted = f"{cost.gmacs:9.2f} {_figure(gmacs)} {cost.params / 1e6:9.2f} {_figure(params)}"
        print(f"{recipe.name:44} {view_of(recipe)!s:>10} {counted}", flush=True)


def _figure(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:9.2f}"


def _families(given: argparse.Namespace) -> None:
    from ops.benchmarks.side_by_side import chart, learnt_of, page, terminal
    from ops.store.layout import Layout

    results = learnt_of(tuple(given.families), Layout(configs.settings().storage), given.threads, given.measure)
    if given.markdown:
        picture = given.markdown.with_suffix(".png")
        picture.write_bytes(chart(results))
        _write(given.markdown, page(results, picture.name))
    print(terminal(results))


def _speed(given: argparse.Namespace) -> None:
    from ops.benchmarks.speed import line_of, recipes_of, updated, usable_threads, usage_of

    for recipe in recipes_of(tuple(given.families)):
        usage = usage_of(recipe, usable_threads())
        print(line_of(usage), flush=True)
        if given.markdown:  # a page that is written by hand, but for its table
            text = updated(given.markdown.read_text(encoding="utf-8"), [usage])
            given.markdown.write_text(text, encoding="utf-8")


def _kernels(given: argparse.Namespace) -> None:
    from ops.benchmarks.kernels import lines_of, mistakes, page, table_of, wrong_kinds

    kinds = tuple(given.kinds)
    torchs = table_of(kinds=kinds)
    if not torchs:
        raise ValueError(f"--kind: found {', '.join(kinds)}; no layer has this in its name")
    print("Torch's layers", *lines_of(torchs), sep="\n", flush=True)
    networks = table_of(guarded=True, kinds=wrong_kinds(torchs)) if wrong_kinds(torchs) else {}
    if networks:
        print("The networks' convolutions in their place", *lines_of(networks), sep="\n")
    if given.markdown:
        _write(given.markdown, page(torchs, networks))
    if found := mistakes(networks):
        raise ValueError("the networks compute wrongly: " + "; ".join(found))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


def main() -> int:
    """Run the command; 0, or 1 with one clear message for a mistake of the user or a store that refuses."""
    given = _parser().parse_args()
    try:
        given.command(given)
    except (ValueError, OSError) as error:
        print(f"python -m ops.benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
