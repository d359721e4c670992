"""What `kinograph check` prints of a dataset's files: places, counts, labels, problems by kind, and
the verdict.
"""

from __future__ import annotations

import csv as csv_files
import re
from collections.abc import Callable
from itertools import islice
from textwrap import indent
from typing import TYPE_CHECKING

from rich.markup import escape

from configs.schema import DOUBTS, NOTES, PROBLEM_KINDS
from pipelines.app import new_table

if TYPE_CHECKING:
    from rich.console import Console

    from ops.annotations.check import Examination
    from ops.annotations.rows import Problem

SHOWN = 4  # problem rows of each kind, unless all are asked for
TORN_TOLD = 6  # videos in two splits that the verdict names


def print_places(screen: Console, found: Examination) -> None:
    """Where the dataset's files are looked for, and what is not there."""
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


def print_files(screen: Console, found: Examination) -> None:
    """Annotation files as the YAML names them, with their good rows and problems."""
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


def print_labels(screen: Console, found: Examination) -> None:
    """How many labels each table has, and the first of them."""
    for (kind, target), words in found.reading.vocabularies.items():
        shown = ", ".join(
            f"{label_id} {name}"
            for name, label_id in islice(zip(words.names, words.ids, strict=True), 4)
        )
        more = ", ..." if len(words.names) > 4 else ""
        name = kind if target == "label" else f"{kind} ({target})"
        screen.print(f"labels of {name}: {len(words.names)}: {escape(shown)}{more}", soft_wrap=True)
    screen.print()


def print_meetings(screen: Console, found: Examination) -> None:
    """How annotations and video files meet."""
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


def print_counts(screen: Console, found: Examination) -> None:
    """Rows beside the numbers that the publisher gives."""
    counts = found.joined.report.counts
    if not counts:
        return
    table = new_table("Counts", "what", "publisher", "files", "", right=("publisher", "files"))
    for count in counts:
        verdict = "[yellow]differs[/]" if count.differs else "[green]as expected[/]"
        table.add_row(count.key, f"{count.expected:,}", f"{count.found:,}", verdict)
    screen.print(table)


def print_verdict(screen: Console, found: Examination) -> None:
    """Whether the dataset can be used, what to mend, and the next command."""
    if found.usable:
        _print_usable(screen, found)
    else:
        _print_unusable(screen, found)


def _print_usable(screen: Console, found: Examination) -> None:
    name, report = found.dataset.name, found.joined.report
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
            f"Next: kinograph run --dataset {name} --recipe RECIPE (it ingests the videos first)"
        )


def _print_unusable(screen: Console, found: Examination) -> None:
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
    screen.print(f"Next: kinograph check {found.dataset.name}")


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


def write_csv(
    screen: Console, path: str | None, problems: list[Problem], allows: Callable[[Problem], bool]
) -> None:
    """Every problem as a row of a CSV file, where one is asked for."""
    if path is None:
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        out = csv_files.writer(file)
        out.writerow(["file", "line", "field", "found", "kind", "allowed", "reason"])
        out.writerows(
            (p.file, p.line, p.field, p.found, p.kind, allows(p), p.reason) for p in problems
        )
    screen.print(f"{len(problems):,} problem rows written to {path}", soft_wrap=True)
