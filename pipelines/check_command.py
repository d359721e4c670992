"""`kinograph check`: all that is wrong with a dataset's files, or with a recipe, at once; or, for
files without a YAML, what they are.
"""

from __future__ import annotations

import csv as csv_files
import os
import re
from collections.abc import Callable
from itertools import groupby, islice
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape

import configs
from assets.layout import layout_of
from configs.schema import DOUBTS, NOTES, PROBLEM_KINDS, ConfigError
from pipelines.app import command, console, names_of, new_table

if TYPE_CHECKING:
    from rich.console import Console

    from ops.annotations.check import Examination
    from ops.annotations.guess import Guess, Trial
    from ops.annotations.rows import Problem

NOT_MADE = "make the sample world"
SHOWN = 4  # problem rows of each kind, unless all are asked for
TORN_TOLD = 6  # videos in two splits that the verdict names


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
    _print_places(screen, found)
    _print_files(screen, found)
    _print_labels(screen, found)
    _print_meetings(screen, found)
    _print_counts(screen, found)
    for unusable in found.joined.errors:
        screen.print(f"[red]unusable[/]  {escape(str(unusable))}", soft_wrap=True)
    print_problems(screen, found.joined.problems, found.joined.leave.allows, told.everything)
    _write_csv(screen, told.csv, found.joined.problems, found.joined.leave.allows)
    _print_verdict(screen, found)
    return 0 if found.usable else 1


def _print_config_errors(screen: Console, error: ConfigError, name: str) -> int:
    """All that is wrong with the YAML, not the first thing alone."""
    from ops.annotations.check import yaml_errors

    screen.print(f"[bold red]The YAML cannot be used[/]: {escape(error.where)}", soft_wrap=True)
    for line in yaml_errors(error, name):
        screen.print(f"  {escape(printable(line))}", soft_wrap=True)
    screen.print(f"Next: kinograph check {name}")
    return 1


def _print_places(screen: Console, found: Examination) -> None:
    mark = "" if found.root_exists else "  [red]does not exist[/]"
    screen.print(f"root    {escape(found.root)}{mark}", soft_wrap=True)
    if found.dataset.videos is None:
        screen.print("videos  none: the dataset has features only\n")
        return
    state = f"{found.num_files} files" if found.num_files else "[red]no files[/]"
    ingested = (
        f"not ingested yet: {found.num_lengths} lengths are known, and rows past the end of another"
        " video do not show"
    )
    ingested = "ingested" if found.ingested else ingested
    screen.print(f"videos  {escape(found.videos_folder)}  {state}; {ingested}", soft_wrap=True)
    if found.aside:
        left = ", ".join(f"{count} x {kind}" for kind, count in found.aside.items())
        screen.print(f"        left aside: {escape(left)}", soft_wrap=True)
    if found.dataset.prepare and (
        not found.root_exists or not found.num_files or found.reading.errors
    ):
        screen.print(
            f"how to lay the files out:\n{escape(indent(found.dataset.prepare.rstrip(), '  '))}",
            soft_wrap=True,
        )
    screen.print()


def _print_files(screen: Console, found: Examination) -> None:
    if not found.dataset.annotations:
        screen.print("[red]The YAML names no annotation files.[/]\n")
        return
    table = new_table(
        "Annotation files",
        "file",
        "form",
        "table",
        "split",
        "good rows",
        "problems",
        right=("good rows", "problems"),
    )
    read = {id(item.file): item for item in found.reading.files}
    for file in found.dataset.annotations:
        item = read.get(id(file))
        rows = (
            f"{item.rows:,}" if item is not None and item.rows is not None else "[red]unusable[/]"
        )
        target = "" if file.target == "label" else f" ({file.target})"
        problems = f"{item.problems:,}" if item is not None else "-"
        table.add_row(
            escape(file.path),
            file.format,
            file.table + target,
            file.split or "its own",
            rows,
            problems,
        )
    screen.print(table)


def _print_labels(screen: Console, found: Examination) -> None:
    for (kind, target), words in found.reading.vocabularies.items():
        shown = ", ".join(
            f"{label_id} {name}"
            for name, label_id in islice(zip(words.names, words.ids, strict=True), 4)
        )
        more = ", ..." if len(words.names) > 4 else ""
        name = kind if target == "label" else f"{kind} ({target})"
        screen.print(f"labels of {name}: {len(words.names)}: {escape(shown)}{more}", soft_wrap=True)
    screen.print()


def _print_meetings(screen: Console, found: Examination) -> None:
    if not found.meetings:
        return
    beside = ("rows say", "nearest file") if any(item.examples for item in found.meetings) else ()
    table = new_table(
        "Videos",
        "table",
        "named by rows",
        "have a file",
        *beside,
        right=("named by rows", "have a file"),
    )
    for item in found.meetings:
        colour = "green" if item.met == item.named else "yellow" if item.met else "red"
        first, *others = item.examples or (("", ""),)
        table.add_row(
            item.table,
            f"{item.named:,}",
            f"[{colour}]{item.met:,}[/]",
            *map(escape, first[: len(beside)]),
        )
        for pair in others:
            table.add_row("", "", "", *map(escape, pair))
    screen.print(table)
    for item in found.meetings:
        if item.hint:
            screen.print(f"[yellow]{item.table}[/]: {escape(item.hint)}", soft_wrap=True)
    without = found.joined.report.notes.get("unannotated_video", 0)
    if without:
        screen.print(
            f"{without:,} of {found.num_files:,} files are named by no annotation (a note; it"
            " refuses nothing)"
        )
    screen.print()


def _print_counts(screen: Console, found: Examination) -> None:
    counts = found.joined.report.counts
    if not counts:
        return
    table = new_table("Counts", "what", "publisher", "files", "", right=("publisher", "files"))
    for count in counts:
        verdict = "[yellow]differs[/]" if count.differs else "[green]as expected[/]"
        table.add_row(count.key, f"{count.expected:,}", f"{count.found:,}", verdict)
    screen.print(table)


def _print_verdict(screen: Console, found: Examination) -> None:
    name, report = found.dataset.name, found.joined.report
    if found.usable:
        rows = f"{report.rows:,} rows can be used, {report.num_problems:,} are left out by name."
        if not found.dataset.annotations:
            rows = (
                "the videos can be brought in; without annotation files there is nothing to learn"
                " from them."
            )
        screen.print(
            f"[bold green]Good[/]: {rows}"
            if found.good
            else f"[bold yellow]Usable, but see the doubts above[/]: {rows}"
        )
        if found.torn:
            some = ", ".join(map(repr, found.torn[:TORN_TOLD])) + (
                ", ..." if len(found.torn) > TORN_TOLD else ""
            )
            what = (
                f"{len(found.torn):,} videos stand in two splits ({some}), and a run stops before"
                " it trains on them"
            )
            meant = escape("allow: [no_leak]")
            screen.print(
                f"  {escape(what)}: correct the files; or say in the YAML that it is meant so:"
                f" [bold]{meant}[/]",
                soft_wrap=True,
            )
        if found.doubts:
            names = escape(
                "allow:"
                f" [{', '.join(dict.fromkeys((*found.dataset.allow, *(item.kind for item in found.doubts))))}]"  # noqa: E501
            )
            screen.print(
                f"  correct the files; or say in the YAML that it is meant so: [bold]{names}[/]",
                soft_wrap=True,
            )
        if found.ingested:
            screen.print(f"Next: kinograph run --dataset {name} --recipe RECIPE")
        else:
            screen.print(
                f"Next: kinograph run --dataset {name} --recipe RECIPE (it ingests the videos"
                " first)"
            )
        return
    screen.print("[bold red]Not usable as it is[/]:")
    if not found.num_files and found.dataset.videos is not None:
        screen.print(
            f"  put the videos below {escape(found.videos_folder)}, or correct 'root' and 'videos'"
            " in the YAML",
            soft_wrap=True,
        )
    if found.joined.errors:
        screen.print("  mend what is named as unusable above")
    barred = {
        problem.kind for problem in found.joined.problems if not found.joined.leave.allows(problem)
    }
    if barred:
        kinds = dict.fromkeys(
            (*found.dataset.allow, *(kind for kind in PROBLEM_KINDS if kind in barred))
        )
        names = escape(f"allow: [{', '.join(kinds)}]")
        screen.print(
            f"  mend the rows, or leave them out by name in the YAML: [bold]{names}[/]",
            soft_wrap=True,
        )
    screen.print(f"Next: kinograph check {name}")


# -------------------------------------------------------------------------------------------------
# problems


def print_problems(
    screen: Console, problems: list[Problem], allows: Callable[[Problem], bool], everything: bool
) -> None:
    """Problems by kind: how many, whether the YAML lets them pass, what to do, and rows as
    examples.
    """
    from ops.annotations.check import ADVICE
    from ops.annotations.report import by_kind
    from ops.annotations.rows import describe

    by = {
        kind: [problem for problem in problems if problem.kind == kind]
        for kind in by_kind(problems)
    }
    refusals = {kind: sum(not allows(problem) for problem in rows) for kind, rows in by.items()}
    # what stands in the way comes first
    for kind in sorted(by, key=lambda kind: (kind in NOTES, not refusals[kind])):
        rows, count, refused = by[kind], len(by[kind]), refusals[kind]
        if kind == "count" and not everything:
            continue  # the table of counts has said it
        state = "[green]allowed[/]" if not refused else f"[red]{refused:,} refused[/]"
        state = "a note" if kind in NOTES else "[yellow]to look at[/]" if kind in DOUBTS else state
        title = f"[cyan]{kind}[/]: {PROBLEM_KINDS[kind]}; {count:,} {'row' if count == 1 else 'rows'}, {state}"  # type: ignore[index]  # noqa: E501
        screen.print(f"[bold]{title}[/]", soft_wrap=True)
        if everything:  # there may be a million, and a table would have to wait for the last
            for problem in rows:
                print("  " + printable(describe(problem)))
        else:
            table = new_table("", "where", "field", "found", "reason")
            for problem in rows[:SHOWN]:
                where = f"{problem.file}:{problem.line}" if problem.line else problem.file
                table.add_row(
                    *(
                        escape(printable(text))
                        for text in (where, problem.field, problem.found, problem.reason)
                    )
                )
            if count > SHOWN:
                table.add_row(f"... {count - SHOWN:,} more", "", "", "")
            screen.print(table)
        screen.print(f"  [dim]what to do: {ADVICE[kind]}[/]\n")  # type: ignore[index]


def printable(text: str) -> str:
    """Text without what would move the cursor or colour the terminal."""
    # zero-width, and what turns the direction
    unseen = "\\x00-\\x1f\\x7f-\\x9f\\xad\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff"
    return re.sub(
        f"[{unseen}]",
        lambda match: (
            f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}"
        ),
        text,
    )


def _write_csv(
    screen: Console, path: str | None, problems: list[Problem], allows: Callable[[Problem], bool]
) -> None:
    if path is None:
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        out = csv_files.writer(file)
        out.writerow(["file", "line", "field", "found", "kind", "allowed", "reason"])
        out.writerows(
            (p.file, p.line, p.field, p.found, p.kind, allows(p), p.reason) for p in problems
        )
    screen.print(f"{len(problems):,} problem rows written to {path}", soft_wrap=True)


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
    _write_csv(screen, told.csv, problems, lambda problem: False)
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
