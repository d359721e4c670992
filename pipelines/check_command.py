"""`kinograph check`: all that is wrong with a dataset's files, or with a recipe, at once; or, for files without a YAML, what they are."""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import configs
from configs.schema import DOUBTS, NOTES, PROBLEM_KINDS, ConfigError

if TYPE_CHECKING:
    from ops.annotations.check import Examination
    from ops.annotations.guess import Guess, Trial
    from ops.annotations.rows import Problem

NOT_MADE = "make the sample world"
SHOWN = 4  # problem rows of each kind, unless all are asked for
TORN_TOLD = 6  # videos in two splits that the verdict names


def _columns() -> int:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdigit() and int(text) else 120


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of `kinograph`."""
    check = commands.add_parser("check", help="what is wrong with a dataset's files or with a recipe, all at once; or what form files have")
    which = "name of a dataset YAML, or of a recipe (then more recipes that come after it in one line); or annotations without a YAML"
    check.add_argument("what", metavar="DATASET|RECIPE|PATH", help=which)
    check.add_argument("more", nargs="*", metavar="RECIPE", help="recipes that are trained after the first")
    check.add_argument("--all", action="store_true", help=f"show every problem row, not the first {SHOWN} of each kind")
    check.add_argument("--csv", metavar="FILE", help="write every problem row to this csv file")
    check.set_defaults(command=run)


def run(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    """Check a dataset, or guess the form of files. Returns 1 when the dataset would be refused or a file has no known form."""
    console = Console(width=None if sys.stdout.isatty() else _columns(), highlight=False)
    if arguments.what in configs.datasets():
        return _check_dataset(arguments, settings, console)
    path = "://" in arguments.what or Path(arguments.what).expanduser().exists()
    if arguments.more or (not path and arguments.what in configs.names()):
        return _check_recipes([arguments.what, *arguments.more], settings, console)
    if not path:
        allowed = f"a dataset ({', '.join(configs.datasets())}), a recipe (kinograph recipes lists them), or an existing file or folder"
        raise ConfigError("check", "DATASET|RECIPE|PATH", arguments.what, allowed)
    return _check_files(arguments, console)


@contextmanager
def _spinner(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Says what is read now, on a terminal; nothing stays of it."""
    if not console.is_terminal:
        yield lambda what: None
        return
    with console.status(title) as status:
        yield lambda what: status.update(f"{title}: {escape(what)}")


# ------------------------------------------------------------------------------------------------- recipes


def _check_recipes(names: list[str], settings: configs.Settings, console: Console) -> int:
    """A table of all that would end the line of these recipes, in their order."""
    from ops.flow import figures_pending
    from ops.preflight.run import preflight
    from ops.store.layout import Layout

    layout, recipes, count = Layout(settings.storage), [configs.load(name) for name in dict.fromkeys(names)], 0
    for place, recipe in enumerate(recipes):
        world: dict[str, int] | None = {} if recipe.dataset == "figures" and figures_pending(layout, {}) == NOT_MADE else None
        with _spinner(console, "Looking at") as on_recipe:
            on_recipe(recipe.name)
            found = preflight(recipe, layout, settings, before=recipes[:place], world=world)
        count += len(found)
        state = f"[red]{len(found)} {'mistake' if len(found) == 1 else 'mistakes'}[/]" if found else "[green]nothing stands in the way[/]"
        console.print(f"[bold]{recipe.name}[/]  ({recipe.task} on {recipe.dataset}): {state}")
        if found:
            table = _table("", "where", "field", "found", "allowed")
            for error in found:
                table.add_row(*(escape(printable(str(text))) for text in (error.where, error.field, error.found, error.allowed)))
            console.print(table)
    if count:
        console.print("[bold red]Not ready[/]: mend what is named; then: kinograph check " + " ".join(names))
        return 1
    lines = ((dataset, [f"--recipe {recipe.name}" for recipe in of]) for dataset, of in groupby(recipes, key=lambda one: one.dataset))
    commands = (f"kinograph run --dataset {dataset} {' '.join(chosen)}" for dataset, chosen in lines)  # a line is of one dataset
    console.print(f"[bold green]Good[/]. Next: {' && '.join(commands)}", soft_wrap=True)
    return 0


# ------------------------------------------------------------------------------------------------- a dataset


def _check_dataset(arguments: argparse.Namespace, settings: configs.Settings, console: Console) -> int:
    from ops.annotations.check import examine
    from ops.store.layout import Layout

    try:
        dataset = configs.dataset(arguments.what)
    except ConfigError as error:
        return _print_config_errors(console, error, arguments.what)
    with _spinner(console, "Reading") as on_file:
        found = examine(dataset, Layout(settings.storage), on_file)
    console.print(f"[bold]{escape(dataset.title)}[/]  (dataset {dataset.name})")
    _print_places(console, found)
    _print_files(console, found)
    _print_labels(console, found)
    _print_meetings(console, found)
    _print_counts(console, found)
    for unusable in found.joined.errors:
        console.print(f"[red]unusable[/]  {escape(str(unusable))}", soft_wrap=True)
    print_problems(console, found.joined.problems, found.joined.leave.allows, arguments.all)
    _write_csv(console, arguments.csv, found.joined.problems, found.joined.leave.allows)
    _print_verdict(console, found)
    return 0 if found.usable else 1


def _print_config_errors(console: Console, error: ConfigError, name: str) -> int:
    """All that is wrong with the YAML, not the first thing alone."""
    from ops.annotations.check import yaml_errors

    console.print(f"[bold red]The YAML cannot be used[/]: {escape(error.where)}", soft_wrap=True)
    for line in yaml_errors(error, name):
        console.print(f"  {escape(printable(line))}", soft_wrap=True)
    console.print(f"Next: kinograph check {name}")
    return 1


def _print_places(console: Console, found: Examination) -> None:
    mark = "" if found.root_exists else "  [red]does not exist[/]"
    console.print(f"root    {escape(found.root)}{mark}", soft_wrap=True)
    if found.dataset.videos is None:
        console.print("videos  none: the dataset has features only\n")
        return
    state = f"{found.num_files} files" if found.num_files else "[red]no files[/]"
    ingested = f"not ingested yet: {found.num_lengths} lengths are known, and rows past the end of another video do not show"
    ingested = "ingested" if found.ingested else ingested
    console.print(f"videos  {escape(found.videos_folder)}  {state}; {ingested}", soft_wrap=True)
    if found.aside:
        left = ", ".join(f"{count} x {kind}" for kind, count in found.aside.items())
        console.print(f"        left aside: {escape(left)}", soft_wrap=True)
    if found.dataset.prepare and (not found.root_exists or not found.num_files or found.reading.errors):
        console.print(f"how to lay the files out:\n{escape(indent(found.dataset.prepare.rstrip(), '  '))}", soft_wrap=True)
    console.print()


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title or None, title_justify="left", header_style="bold", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _print_files(console: Console, found: Examination) -> None:
    if not found.dataset.annotations:
        console.print("[red]The YAML names no annotation files.[/]\n")
        return
    table = _table("Annotation files", "file", "form", "table", "split", "good rows", "problems", right=("good rows", "problems"))
    read = {id(item.file): item for item in found.reading.files}
    for file in found.dataset.annotations:
        item = read.get(id(file))
        rows = f"{item.rows:,}" if item is not None and item.rows is not None else "[red]unusable[/]"
        target = "" if file.target == "label" else f" ({file.target})"
        problems = f"{item.problems:,}" if item is not None else "-"
        table.add_row(escape(file.path), file.format, file.table + target, file.split or "its own", rows, problems)
    console.print(table)


def _print_labels(console: Console, found: Examination) -> None:
    for (kind, target), words in found.reading.vocabularies.items():
        shown = ", ".join(f"{label_id} {name}" for name, label_id in islice(zip(words.names, words.ids, strict=True), 4))
        more = ", ..." if len(words.names) > 4 else ""
        name = kind if target == "label" else f"{kind} ({target})"
        console.print(f"labels of {name}: {len(words.names)}: {escape(shown)}{more}", soft_wrap=True)
    console.print()


def _print_meetings(console: Console, found: Examination) -> None:
    if not found.meetings:
        return
    beside = ("rows say", "nearest file") if any(item.examples for item in found.meetings) else ()
    table = _table("Videos", "table", "named by rows", "have a file", *beside, right=("named by rows", "have a file"))
    for item in found.meetings:
        colour = "green" if item.met == item.named else "yellow" if item.met else "red"
        first, *others = item.examples or (("", ""),)
        table.add_row(item.table, f"{item.named:,}", f"[{colour}]{item.met:,}[/]", *map(escape, first[: len(beside)]))
        for pair in others:
            table.add_row("", "", "", *map(escape, pair))
    console.print(table)
    for item in found.meetings:
        if item.hint:
            console.print(f"[yellow]{item.table}[/]: {escape(item.hint)}", soft_wrap=True)
    without = found.joined.report.notes.get("unannotated_video", 0)
    if without:
        console.print(f"{without:,} of {found.num_files:,} files are named by no annotation (a note; it refuses nothing)")
    console.print()


def _print_counts(console: Console, found: Examination) -> None:
    counts = found.joined.report.counts
    if not counts:
        return
    table = _table("Counts", "what", "publisher", "files", "", right=("publisher", "files"))
    for count in counts:
        verdict = "[yellow]differs[/]" if count.differs else "[green]as expected[/]"
        table.add_row(count.key, f"{count.expected:,}", f"{count.found:,}", verdict)
    console.print(table)


def _print_verdict(console: Console, found: Examination) -> None:
    name, report = found.dataset.name, found.joined.report
    if found.usable:
        rows = f"{report.rows:,} rows can be used, {report.num_problems:,} are left out by name."
        if not found.dataset.annotations:
            rows = "the videos can be brought in; without annotation files there is nothing to learn from them."
        console.print(f"[bold green]Good[/]: {rows}" if found.good else f"[bold yellow]Usable, but see the doubts above[/]: {rows}")
        if found.torn:
            some = ", ".join(map(repr, found.torn[:TORN_TOLD])) + (", ..." if len(found.torn) > TORN_TOLD else "")
            what = f"{len(found.torn):,} videos stand in two splits ({some}), and a run stops before it trains on them"
            meant = escape("allow: [no_leak]")
            console.print(f"  {escape(what)}: correct the files; or say in the YAML that it is meant so: [bold]{meant}[/]", soft_wrap=True)
        if found.doubts:
            names = escape(f"allow: [{', '.join(dict.fromkeys((*found.dataset.allow, *(item.kind for item in found.doubts))))}]")
            console.print(f"  correct the files; or say in the YAML that it is meant so: [bold]{names}[/]", soft_wrap=True)
        if found.ingested:
            console.print(f"Next: kinograph run --dataset {name} --recipe RECIPE")
        else:
            console.print(f"Next: kinograph run --dataset {name} --recipe RECIPE (it ingests the videos first)")
        return
    console.print("[bold red]Not usable as it is[/]:")
    if not found.num_files and found.dataset.videos is not None:
        console.print(f"  put the videos below {escape(found.videos_folder)}, or correct 'root' and 'videos' in the YAML", soft_wrap=True)
    if found.joined.errors:
        console.print("  mend what is named as unusable above")
    barred = {problem.kind for problem in found.joined.problems if not found.joined.leave.allows(problem)}
    if barred:
        kinds = dict.fromkeys((*found.dataset.allow, *(kind for kind in PROBLEM_KINDS if kind in barred)))
        names = escape(f"allow: [{', '.join(kinds)}]")
        console.print(f"  mend the rows, or leave them out by name in the YAML: [bold]{names}[/]", soft_wrap=True)
    console.print(f"Next: kinograph check {name}")


# ------------------------------------------------------------------------------------------------- problems


def print_problems(console: Console, problems: list[Problem], allows: Callable[[Problem], bool], everything: bool) -> None:
    """Problems by kind: how many, whether the YAML lets them pass, what to do, and rows as examples."""
    from ops.annotations.check import ADVICE
    from ops.annotations.report import by_kind
    from ops.annotations.rows import describe

    by = {kind: [problem for problem in problems if problem.kind == kind] for kind in by_kind(problems)}
    refusals = {kind: sum(not allows(problem) for problem in rows) for kind, rows in by.items()}
    for kind in sorted(by, key=lambda kind: (kind in NOTES, not refusals[kind])):  # what stands in the way comes first
        rows, count, refused = by[kind], len(by[kind]), refusals[kind]
        if kind == "count" and not everything:
            continue  # the table of counts has said it
        state = "[green]allowed[/]" if not refused else f"[red]{refused:,} refused[/]"
        state = "a note" if kind in NOTES else "[yellow]to look at[/]" if kind in DOUBTS else state
        title = f"[cyan]{kind}[/]: {PROBLEM_KINDS[kind]}; {count:,} {'row' if count == 1 else 'rows'}, {state}"  # type: ignore[index]
        console.print(f"[bold]{title}[/]", soft_wrap=True)
        if everything:  # there may be a million, and a table would have to wait for the last
            for problem in rows:
                print("  " + printable(describe(problem)))
        else:
            table = _table("", "where", "field", "found", "reason")
            for problem in rows[:SHOWN]:
                where = f"{problem.file}:{problem.line}" if problem.line else problem.file
                table.add_row(*(escape(printable(text)) for text in (where, problem.field, problem.found, problem.reason)))
            if count > SHOWN:
                table.add_row(f"... {count - SHOWN:,} more", "", "", "")
            console.print(table)
        console.print(f"  [dim]what to do: {ADVICE[kind]}[/]\n")  # type: ignore[index]


def printable(text: str) -> str:
    """Text without what would move the cursor or colour the terminal."""
    unseen = "\\x00-\\x1f\\x7f-\\x9f\\xad\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff"  # zero-width, and what turns the direction
    return re.sub(f"[{unseen}]", lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}", text)


def _write_csv(console: Console, path: str | None, problems: list[Problem], allows: Callable[[Problem], bool]) -> None:
    if path is None:
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["file", "line", "field", "found", "kind", "allowed", "reason"])
        out.writerows((p.file, p.line, p.field, p.found, p.kind, allows(p), p.reason) for p in problems)
    console.print(f"{len(problems):,} problem rows written to {path}", soft_wrap=True)


# ------------------------------------------------------------------------------------------------- files without a YAML


def _check_files(arguments: argparse.Namespace, console: Console) -> int:
    from ops.annotations.guess import format_names, guess, yaml_text

    uri = arguments.what if "://" in arguments.what else str(Path(arguments.what).expanduser().resolve())
    with _spinner(console, "Trying") as on_file:
        found = guess(uri, on_file)
    if not found.pieces:
        _print_unknown(console, found, format_names())
        return 1
    problems = list[Any]()
    for piece in found.pieces:
        best = piece.trials[0]
        console.print(f"[bold]{escape(piece.path)}[/]: {best.format} -> table {best.table}")
        _print_trial(console, best)
        if len(piece.trials) > 1:
            others = ", ".join(trial.format for trial in piece.trials[1:])
            console.print(f"  [dim]it could also be: {others}; fewer of its rows make sense so[/]")
        problems += best.read.problems if best.read is not None else getattr(best.error, "problems", [])
        console.print()
    print_problems(console, problems, lambda problem: False, arguments.all)
    _write_csv(console, arguments.csv, problems, lambda problem: False)
    if found.unknown:
        console.print(f"[yellow]no known form[/]: {escape(', '.join(found.unknown[:8]))}{' ...' if len(found.unknown) > 8 else ''}")
    for note in found.notes:
        console.print(f"[dim]{escape(note)}[/]")
    stem = Path(uri).name if Path(uri).is_dir() else Path(uri).stem
    name = re.sub(r"[^a-z0-9_]+", "_", stem.lower()).strip("_") or "own"
    console.print("\n[bold]A YAML that reads this[/]; look at every line, save it, then: kinograph check " + name)
    console.print(escape(yaml_text(found, name)), soft_wrap=True)
    return 0 if all(piece.trials[0].read is not None for piece in found.pieces) else 1


def _print_unknown(console: Console, found: Guess, known: list[str]) -> None:
    console.print(f"[red]no known form[/]: {escape(', '.join(found.unknown[:8]))}", soft_wrap=True)
    from ops.annotations.read import format_module

    table = _table("Known forms", "format", "table", "what it looks like")
    for name in known:
        module = format_module(name)
        table.add_row(name, module.TABLE, escape(module.EXPECTED))
    console.print(table)


def _print_trial(console: Console, trial: Trial) -> None:
    if trial.read is None:
        console.print(f"  [red]not readable so[/]: {escape(str(trial.error))}", soft_wrap=True)
        return
    rows, read = trial.read.table, trial.read
    videos = rows["video_id"].unique()
    splits = {item["values"]: item["counts"] for item in rows["split"].value_counts().to_pylist()}
    words = rows["label"].unique().to_pylist()
    console.print(
        f"  {rows.num_rows:,} good rows of {len(videos):,} videos, {len(read.problems):,} problems; "
        + ", ".join(f"{split} {count:,}" for split, count in splits.items())
    )
    if read.entries:
        console.print(f"  {len(read.entries):,} videos listed")
    names = sorted((word for word in words if word is not None), key=lambda word: (len(word), word) if word.isdigit() else (0, word))
    console.print(f"  {len(names):,} labels: {escape(', '.join(names[:5]))}{', ...' if len(names) > 5 else ''}", soft_wrap=True)
    if rows.num_rows:
        table = _table("", "column", "first row", "last row")
        first, last = rows.slice(0, 1).to_pylist()[0], rows.slice(rows.num_rows - 1, 1).to_pylist()[0]
        for column in rows.schema.names:
            if column not in ("dataset", "label_id") and (first[column] is not None or last[column] is not None):
                table.add_row(column, _shown(first[column]), _shown(last[column]))
        console.print(table)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else escape(printable(str(value)))
