"""The command line itself: what every command of `kinograph` has in common."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from configs.errors import KinographError
from pipelines.process import guarded

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
STATUS = """\b
Exit status: 0 done; 1 a mistake, or a store that refuses, in one line on the standard error; 2 a command line that is not understood;
128 and the number of the signal that stopped it: the same command goes on from there."""  # noqa: E501

# Plain help and plain stacks: rich's help takes a tenth of a second more, and its stacks hide what
# a stack is read for.
_PLAIN: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": SETTINGS,
}
app = typer.Typer(name="kinograph", pretty_exceptions_enable=False, epilog=STATUS, **_PLAIN)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"kinograph {version('kinograph')}")
        raise typer.Exit


@app.callback()
def kinograph(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="Say which version this is."
        ),
    ] = False,
) -> None:
    """From raw video to promoted video-understanding models."""


def group(name: str, about: str) -> typer.Typer:
    """A command that has commands of its own."""
    made = typer.Typer(help=about, **_PLAIN)
    app.add_typer(made, name=name)
    return made


def command(
    name: str, example: str, *, of: typer.Typer = app, reads: bool = False
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a function that returns an exit status a command. It runs in a prepared process
    (`pipelines.process.guarded`).

    Args:
        name: as it is typed.
        example: stands below the function's docstring, which is the help.
        of: the group that it belongs to.
        reads: nothing is made in the home.
    """

    def added(work: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(work)
        def run(**given: Any) -> None:
            raise typer.Exit(guarded(functools.partial(work, **given), reads))

        of.command(name, epilog=f"Example: {example}", context_settings=SETTINGS)(run)
        return work

    return added


def names_of(known: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """What a shell completes a name to: nothing where a file cannot be read, which the command
    itself tells.
    """

    def completed(incomplete: str) -> list[str]:
        with suppress(KinographError):
            return [name for name in known() if name.startswith(incomplete)]
        return []

    return completed


def new_table(title: str, *columns: str, right: Collection[str] = ()) -> Table:
    """A table without rows yet; the columns `right` stand to the right, as numbers do."""
    made = Table(title=title or None, title_justify="left", header_style="bold", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def console() -> Console:
    """The standard output for tables: as wide as a terminal is, else as COLUMNS says, else 150."""
    columns = os.environ.get("COLUMNS", "")
    return Console(
        width=(
            None
            if sys.stdout.isatty()
            else int(columns)
            if columns.isdigit() and int(columns)
            else 150
        ),
        highlight=False,
    )
