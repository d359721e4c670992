"""`kinograph doctor`: does this machine compute, decode, store and train rightly; each line good, or what is wrong and what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

import configs
from pipelines.app import command, console, names_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from ops.doctor.finding import Check, Finding

MARKS = {"good": "[green]good[/]", "note": "[yellow]note[/]", "wrong": "[bold red]WRONG[/]"}
Found = list[tuple["Check", "Finding"]]


@command("doctor", "kinograph doctor --only folders --only machine", reads=True)
def doctor(
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compute this recipe's network at its full size, not the demo's; may be given again.",
            autocompletion=names_of(configs.names),
        ),
    ] = None,
    all_recipes: Annotated[bool, typer.Option("--all-recipes", help="Also the miniature of every family (minutes).")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="GROUP", help="Those of this group alone; may be given again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> int:
    """Does this machine compute, decode, store and train rightly; each line good, or what is wrong and what to do."""
    from ops.doctor.checks import checks

    began = time.monotonic()
    screen, settings = console(), configs.settings()
    wanted, found = checks(settings, recipe or [], all_recipes, only or []), Found()
    if as_json:
        found += _looked_at(wanted, settings, None)
    elif screen.is_terminal:
        _in_tables(screen, wanted, settings, found)
    else:
        for check, finding in _looked_at(wanted, settings, None):
            found.append((check, finding))
            _print_line(check, finding)
    seconds = time.monotonic() - began
    bad = [(check, finding) for check, finding in found if finding.state == "wrong"]
    if as_json:
        lines = [{"group": check.group, **asdict(finding)} for check, finding in found]
        print(json.dumps({"good": not bad, "seconds": round(seconds, 1), "findings": lines}, indent=1, ensure_ascii=False))
    else:
        _print_verdict(screen, found, bad, seconds)
    return 1 if bad else 0


def _looked_at(wanted: list[Check], settings: configs.Settings, status: Status | None) -> Iterator[tuple[Check, Finding]]:
    from ops.doctor.run import run as run_checks

    def started(check: Check) -> None:
        if status is not None:
            status.update(f"{check.group}: {escape(check.name)}")

    yield from run_checks(wanted, settings, started)


def _in_tables(screen: Console, wanted: list[Check], settings: configs.Settings, found: Found) -> None:
    """A table for each group as soon as it is done; below them what is looked at now."""
    group: Found = []
    with screen.status("starting") as status:
        for check, finding in _looked_at(wanted, settings, status):
            if group and group[0][0].group != check.group:
                screen.print(_table(group))
                group = []
            group.append((check, finding))
            found.append((check, finding))
        if group:
            screen.print(_table(group))


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


def _print_verdict(screen: Console, found: Found, bad: Found, seconds: float) -> None:
    notes = sum(finding.state == "note" for _, finding in found)
    if not bad:
        screen.print(f"[bold green]Good[/]: {len(found)} lines, {notes} of them notes, in {seconds:.0f} s.")
        return
    screen.print(f"[bold red]{len(bad)} of {len(found)} lines are wrong[/] (looked at in {seconds:.0f} s):")
    for check, finding in bad:
        screen.print(f"  {check.group}: {escape(finding.name)}: {escape(finding.advice)}", soft_wrap=True)
