"""`kinograph doctor`: does this machine compute, decode, store and train rightly; each line good, or what is wrong and what to do."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import configs

if TYPE_CHECKING:
    from rich.status import Status

    from ops.doctor.finding import Check, Finding

MARKS = {"good": "[green]good[/]", "note": "[yellow]note[/]", "wrong": "[bold red]WRONG[/]"}
Found = list[tuple["Check", "Finding"]]


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of `kinograph`."""
    doctor = commands.add_parser("doctor", help="does this machine compute, decode, store and train rightly", description=__doc__)
    one = "compute this recipe's network at its full size, not the demo's; may be given again"
    doctor.add_argument("--recipe", action="append", default=[], dest="recipes", metavar="NAME", help=one)
    doctor.add_argument("--all-recipes", action="store_true", help="also the miniature of every family of the catalogue (minutes)")
    doctor.add_argument("--only", action="append", default=[], metavar="GROUP", help="those of this group alone; may be given again")
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    doctor.set_defaults(command=run)


def run(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    """Look at everything. Returns 1 when something is wrong."""
    from ops.doctor.checks import checks

    began = time.monotonic()
    wanted = checks(settings, arguments.recipes, arguments.all_recipes, arguments.only)
    console = Console(width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", 150)), highlight=False)
    found: Found = []
    if arguments.json:
        found += _looked_at(wanted, settings, None)
    elif console.is_terminal:
        _in_tables(console, wanted, settings, found)
    else:
        for check, finding in _looked_at(wanted, settings, None):
            found.append((check, finding))
            _print_line(check, finding)
    seconds = time.monotonic() - began
    bad = [(check, finding) for check, finding in found if finding.state == "wrong"]
    if arguments.json:
        lines = [{"group": check.group, **asdict(finding)} for check, finding in found]
        print(json.dumps({"good": not bad, "seconds": round(seconds, 1), "findings": lines}, indent=1, ensure_ascii=False))
    else:
        _print_verdict(console, found, bad, seconds)
    return 1 if bad else 0


def _looked_at(wanted: list[Check], settings: configs.Settings, status: Status | None) -> Iterator[tuple[Check, Finding]]:
    from ops.doctor.run import run as run_checks

    def started(check: Check) -> None:
        if status is not None:
            status.update(f"{check.group}: {escape(check.name)}")

    yield from run_checks(wanted, settings, started)


def _in_tables(console: Console, wanted: list[Check], settings: configs.Settings, found: Found) -> None:
    """A table for each group as soon as it is done; below them what is looked at now."""
    group: Found = []
    with console.status("starting") as status:
        for check, finding in _looked_at(wanted, settings, status):
            if group and group[0][0].group != check.group:
                console.print(_table(group))
                group = []
            group.append((check, finding))
            found.append((check, finding))
        if group:
            console.print(_table(group))


def _table(group: Found) -> Table:
    table = Table(title=group[0][0].group, title_justify="left", title_style="bold", header_style="bold", expand=True)
    table.add_column("what", ratio=2, overflow="fold")
    table.add_column("", width=5)
    table.add_column("found", ratio=6, overflow="fold")
    table.add_column("seconds", justify="right", width=7)
    for _, finding in group:
        advice = f"\n[bold]what to do[/]: {escape(finding.advice)}" if finding.advice else ""
        table.add_row(escape(finding.name), MARKS[finding.state], escape(finding.found) + advice, f"{finding.seconds or 0:.1f}")
    return table


def _print_line(check: Check, finding: Finding) -> None:
    advice = f"; what to do: {finding.advice}" if finding.advice else ""
    print(f"{finding.state:<5}  {check.group}: {finding.name}: {finding.found}{advice} ({finding.seconds or 0:.1f} s)", flush=True)


def _print_verdict(console: Console, found: Found, bad: Found, seconds: float) -> None:
    notes = sum(finding.state == "note" for _, finding in found)
    if not bad:
        console.print(f"[bold green]Good[/]: {len(found)} lines, {notes} of them notes, in {seconds:.0f} s.")
        return
    console.print(f"[bold red]{len(bad)} of {len(found)} lines are wrong[/] (looked at in {seconds:.0f} s):")
    for check, finding in bad:
        console.print(f"  {check.group}: {escape(finding.name)}: {escape(finding.advice)}", soft_wrap=True)
