"""`kinograph doctor`: does this machine compute, decode, store and train rightly; each line good,
or what is wrong and what to do.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

import configs
from pipelines.app import command, console, names_of

if TYPE_CHECKING:
    from rich.console import Console

    from ops.doctor.finding import Check, Finding

COLOURS = {"good": "green", "note": "yellow", "wrong": "bold red"}
Found = list[tuple["Check", "Finding"]]


@command("doctor", "kinograph doctor --only folders --only machine", reads=True)
def doctor(
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=(
                "Compute this recipe's network at its full size, not the demo's; may be given"
                " again."
            ),
            autocompletion=names_of(configs.names),
        ),
    ] = None,
    all_recipes: Annotated[
        bool, typer.Option("--all-recipes", help="Also the miniature of every family (minutes).")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="GROUP", help="Those of this group alone; may be given again."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of lines.")
    ] = False,
) -> int:
    """Does this machine compute, decode, store and train rightly; each line good, or what is wrong
    and what to do.
    """
    from ops.doctor.checks import checks
    from ops.doctor.run import run as run_checks

    began, screen, found = time.monotonic(), console(), Found()
    settings = configs.settings()
    wanted = checks(settings, recipe or [], all_recipes, only or [])
    with screen.status("starting") as status:  # on a terminal: what is looked at now
        for check, finding in run_checks(
            wanted, settings, lambda check: status.update(f"{check.group}: {escape(check.name)}")
        ):
            found.append((check, finding))
            if not as_json:
                advice = (
                    f"; [bold]what to do[/]: {escape(finding.advice)}" if finding.advice else ""
                )
                text = (
                    f"{check.group}: {escape(finding.name)}: {escape(finding.found)}{advice}"
                    f" ({finding.seconds or 0:.1f} s)"
                )
                screen.print(
                    f"[{COLOURS[finding.state]}]{finding.state:<5}[/]  {text}", soft_wrap=True
                )
    seconds = time.monotonic() - began
    bad = [(check, finding) for check, finding in found if finding.state == "wrong"]
    if as_json:
        lines = [{"group": check.group, **asdict(finding)} for check, finding in found]
        print(
            json.dumps(
                {"good": not bad, "seconds": round(seconds, 1), "findings": lines},
                indent=1,
                ensure_ascii=False,
            )
        )
    else:
        _print_verdict(screen, found, bad, seconds)
    return 1 if bad else 0


def _print_verdict(screen: Console, found: Found, bad: Found, seconds: float) -> None:
    notes = sum(finding.state == "note" for _, finding in found)
    if not bad:
        screen.print(
            f"[bold green]Good[/]: {len(found)} lines, {notes} of them notes, in {seconds:.0f} s."
        )
        return
    screen.print(
        f"[bold red]{len(bad)} of {len(found)} lines are wrong[/] (looked at in {seconds:.0f} s):"
    )
    for check, finding in bad:
        screen.print(
            f"  {check.group}: {escape(finding.name)}: {escape(finding.advice)}", soft_wrap=True
        )
