"""`kinograph check`: all that is wrong with a dataset's files, or with a recipe, at once; or, for
files without a YAML, what they are.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape

import configs
from assets.layout import layout_of
from configs.schema import ConfigError
from pipelines.app import command, console, names_of, new_table
from pipelines.check_report import (
    SHOWN,
    print_counts,
    print_files,
    print_labels,
    print_meetings,
    print_places,
    print_problems,
    print_verdict,
    printable,
    write_csv,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ops.annotations.guess import Guess, Trial

NOT_MADE = "make the sample world"


@command("check", "kinograph check figures", reads=True)
def check(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|RECIPE|PATH",
            help=(
                "A dataset's name, or a recipe's (then more recipes that come after it in one"
                " line); or annotations without a YAML."
            ),
            autocompletion=names_of(lambda: [*configs.datasets(), *configs.names()]),
        ),
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipes that are trained after the first.",
            autocompletion=names_of(configs.names),
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help=f"Show every problem row, not the first {SHOWN} of each kind."),
    ] = False,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write every problem row to this csv file.")
    ] = None,
) -> int:
    """What is wrong with a dataset's files or with a recipe, all at once; or what form files have,
    and a YAML for them.

    Exit status 1 where the dataset would be refused, a recipe's line would end, or a file has no
    known form.
    """
    screen, told = console(), Told(everything, csv)
    if what in configs.datasets():
        return _check_dataset(what, told, screen)
    path = "://" in what or Path(os.path.expanduser(what)).exists()
    if more or (not path and what in configs.names()):
        return _check_recipes([what, *(more or [])], configs.settings(), screen)
    if not path:
        allowed = (
            f"a dataset ({', '.join(configs.datasets())}), a recipe (kinograph recipes lists them),"
            " or an existing file or folder"
        )
        raise ConfigError("check", "DATASET|RECIPE|PATH", what, allowed)
    return _check_files(what, told, screen)


class Told(NamedTuple):
    """How the problem rows are told: all on the screen, and a csv file for them."""

    everything: bool
    csv: str | None


# -------------------------------------------------------------------------------------------------
# recipes


def _check_recipes(names: list[str], settings: configs.Settings, screen: Console) -> int:
    """A table of all that would end the line of these recipes, in their order."""
    from ops.flow.recipe import figures_pending
    from ops.preflight.run import preflight

    layout, recipes, count = (
        layout_of(settings),
        [configs.load(name) for name in dict.fromkeys(names)],
        0,
    )
    for place, recipe in enumerate(recipes):
        world: dict[str, int] | None = (
            {} if recipe.dataset == "figures" and figures_pending(layout, {}) == NOT_MADE else None
        )
        with screen.status(f"Looking at: {recipe.name}"):
            found = preflight(recipe, layout, settings, before=recipes[:place], world=world)
        count += len(found)
        state = (
            f"[red]{len(found)} {'mistake' if len(found) == 1 else 'mistakes'}[/]"
            if found
            else "[green]nothing stands in the way[/]"
        )
        screen.print(f"[bold]{recipe.name}[/]  ({recipe.task} on {recipe.dataset}): {state}")
        if found:
            table = new_table("", "where", "field", "found", "allowed")
            for error in found:
                table.add_row(
                    *(
                        escape(printable(str(text)))
                        for text in (error.where, error.field, error.found, error.allowed)
                    )
                )
            screen.print(table)
    if count:
        screen.print(
            "[bold red]Not ready[/]: mend what is named; then: kinograph check " + " ".join(names)
        )
        return 1
    lines = (
        (dataset, [f"--recipe {recipe.name}" for recipe in of])
        for dataset, of in groupby(recipes, key=lambda one: one.dataset)
    )
    # a line is of one dataset
    commands = (
        f"kinograph run --dataset {dataset} {' '.join(chosen)}" for dataset, chosen in lines
    )
    screen.print(f"[bold green]Good[/]. Next: {' && '.join(commands)}", soft_wrap=True)
    return 0


# -------------------------------------------------------------------------------------------------
# a dataset


def _check_dataset(name: str, told: Told, screen: Console) -> int:
    from ops.annotations.check import examine

    try:
        dataset = configs.dataset(name)
    except ConfigError as error:
        return _print_config_errors(screen, error, name)
    with screen.status("Reading") as status:
        found = examine(
            dataset,
            layout_of(configs.settings()),
            lambda file: status.update(f"Reading: {escape(file)}"),
        )
    screen.print(f"[bold]{escape(dataset.title)}[/]  (dataset {dataset.name})")
    print_places(screen, found)
    print_files(screen, found)
    print_labels(screen, found)
    print_meetings(screen, found)
    print_counts(screen, found)
    for unusable in found.joined.errors:
        screen.print(f"[red]unusable[/]  {escape(str(unusable))}", soft_wrap=True)
    print_problems(screen, found.joined.problems, found.joined.leave.allows, told.everything)
    write_csv(screen, told.csv, found.joined.problems, found.joined.leave.allows)
    print_verdict(screen, found)
    return 0 if found.usable else 1


def _print_config_errors(screen: Console, error: ConfigError, name: str) -> int:
    """All that is wrong with the YAML, not the first thing alone."""
    from ops.annotations.check import yaml_errors

    screen.print(f"[bold red]The YAML cannot be used[/]: {escape(error.where)}", soft_wrap=True)
    for line in yaml_errors(error, name):
        screen.print(f"  {escape(printable(line))}", soft_wrap=True)
    screen.print(f"Next: kinograph check {name}")
    return 1


# -------------------------------------------------------------------------------------------------
# files without a YAML


def _check_files(what: str, told: Told, screen: Console) -> int:
    from ops.annotations.guess import format_names, guess, yaml_text

    uri = what if "://" in what else str(Path(os.path.expanduser(what)).resolve())
    with screen.status("Trying") as status:
        found = guess(uri, lambda file: status.update(f"Trying: {escape(file)}"))
    if not found.pieces:
        _print_unknown(screen, found, format_names())
        return 1
    problems = list[Any]()
    for piece in found.pieces:
        best = piece.trials[0]
        screen.print(f"[bold]{escape(piece.path)}[/]: {best.format} -> table {best.table}")
        _print_trial(screen, best)
        if len(piece.trials) > 1:
            others = ", ".join(trial.format for trial in piece.trials[1:])
            screen.print(f"  [dim]it could also be: {others}; fewer of its rows make sense so[/]")
        problems += (
            best.read.problems if best.read is not None else getattr(best.error, "problems", [])
        )
        screen.print()
    print_problems(screen, problems, lambda problem: False, told.everything)
    write_csv(screen, told.csv, problems, lambda problem: False)
    if found.unknown:
        screen.print(
            "[yellow]no known form[/]:"
            f" {escape(', '.join(found.unknown[:8]))}{' ...' if len(found.unknown) > 8 else ''}"
        )
    for note in found.notes:
        screen.print(f"[dim]{escape(note)}[/]")
    stem = Path(uri).name if Path(uri).is_dir() else Path(uri).stem
    name = re.sub(r"[^a-z0-9_]+", "_", stem.lower()).strip("_") or "own"
    screen.print(
        "\n[bold]A YAML that reads this[/]; look at every line, save it, then: kinograph check "
        + name
    )
    screen.print(escape(yaml_text(found, name)), soft_wrap=True)
    return 0 if all(piece.trials[0].read is not None for piece in found.pieces) else 1


def _print_unknown(screen: Console, found: Guess, known: list[str]) -> None:
    screen.print(f"[red]no known form[/]: {escape(', '.join(found.unknown[:8]))}", soft_wrap=True)
    from ops.annotations.read import format_module

    table = new_table("Known forms", "format", "table", "what it looks like")
    for name in known:
        module = format_module(name)
        table.add_row(name, module.TABLE, escape(module.EXPECTED))
    screen.print(table)


def _print_trial(screen: Console, trial: Trial) -> None:
    if trial.read is None:
        screen.print(f"  [red]not readable so[/]: {escape(str(trial.error))}", soft_wrap=True)
        return
    rows, read = trial.read.table, trial.read
    videos = rows["video_id"].unique()
    splits = {item["values"]: item["counts"] for item in rows["split"].value_counts().to_pylist()}
    words = rows["label"].unique().to_pylist()
    screen.print(
        f"  {rows.num_rows:,} good rows of {len(videos):,} videos, {len(read.problems):,}"
        " problems; " + ", ".join(f"{split} {count:,}" for split, count in splits.items())
    )
    if read.entries:
        screen.print(f"  {len(read.entries):,} videos listed")
    names = sorted(
        (word for word in words if word is not None),
        key=lambda word: (len(word), word) if word.isdigit() else (0, word),
    )
    screen.print(
        f"  {len(names):,} labels:"
        f" {escape(', '.join(names[:5]))}{', ...' if len(names) > 5 else ''}",
        soft_wrap=True,
    )
    if rows.num_rows:
        table = new_table("", "column", "first row", "last row")
        first, last = (
            rows.slice(0, 1).to_pylist()[0],
            rows.slice(rows.num_rows - 1, 1).to_pylist()[0],
        )
        for column in rows.schema.names:
            if column not in ("dataset", "label_id") and (
                first[column] is not None or last[column] is not None
            ):
                table.add_row(column, _shown(first[column]), _shown(last[column]))
        screen.print(table)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else escape(printable(str(value)))
