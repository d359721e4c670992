"""`kinograph store`: what the stores of a dataset hold and weigh, what of it is garbage, whether it is whole, and ledgers made anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import configs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ops.store.layout import Layout
    from ops.store.stores import Store

SHOWN = 20  # damaged arrays, in words
Act = Callable[[argparse.Namespace, configs.Dataset, "Layout", "list[Store]", "Console"], int]


def add_parser(commands: Any) -> None:
    """Adds the `store` command to the parser's commands."""
    store = commands.add_parser("store", help="sizes, garbage, integrity and ledgers of what is stored")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    _action(actions, "sizes", _sizes, "bytes per store, per hour of video, against the source files")
    gc = _action(actions, "gc", _gc, "arrays that no ledger names, stores of configurations no longer in use; only shows them")
    gc.add_argument("--delete", action="store_true", help="remove them")
    verify = _action(actions, "verify", _verify, "read everything back: checksums, indices, shapes")
    verify.add_argument("--decode", action="store_true", help="decode every frame too")
    verify.add_argument("--repair", action="store_true", help="forget damaged arrays, so that the next run makes them anew")
    verify.add_argument("--all", action="store_true", help="also the stores of configurations no longer in use")
    _action(actions, "rebuild", _rebuild, "make the ledgers anew from the arrays that are there")


def _action(actions: Any, name: str, act: Act, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
    parser.add_argument("dataset", nargs="?", help="name of a dataset (default: every one that has something stored)")
    parser.set_defaults(command=lambda arguments, settings: _run(act, arguments, settings))
    return parser


def _run(act: Act, arguments: argparse.Namespace, settings: configs.Settings) -> int:
    from rich.console import Console

    from ops.store.layout import Layout
    from ops.store.stores import stores

    layout, console, status = Layout(settings.storage), Console(width=None if sys.stdout.isatty() else 150), 0
    seen = 0
    for name in [arguments.dataset] if arguments.dataset else configs.datasets():
        dataset = configs.dataset(name)
        found = stores(layout, name, _current(dataset))
        if found:
            seen += 1
            status = max(status, act(arguments, dataset, layout, found, console))
    if not seen:
        console.print(f"Nothing is stored of {arguments.dataset or 'any dataset'} below {settings.storage}.")
    return status


def _current(dataset: configs.Dataset) -> set[str]:
    features = [configs.features(name) for name in configs.features_names()]
    return {dataset.frames.key(), *(one.key() for one in features if one.dataset == dataset.name)}


def _sizes(arguments: argparse.Namespace, dataset: configs.Dataset, layout: Layout, found: list[Store], console: Console) -> int:
    from ops.store.sizes import sizes

    table = _table(f"Sizes of {dataset.name}", "store", "videos", "hours", "bytes", "per hour", "source", "against source")
    for size in sizes(layout, found):
        ratio = f"{size.ratio:.1f}x" if size.ratio else "-"
        hours = f"{size.hours:.2f}" if size.hours else "-"
        cells = (str(size.videos), hours, shown(size.bytes), shown(size.bytes_per_hour) if size.hours else "-", shown(size.source_bytes))
        table.add_row(_named(size.store), *cells, ratio)
    console.print(table)
    return 0


def _gc(arguments: argparse.Namespace, dataset: configs.Dataset, layout: Layout, found: list[Store], console: Console) -> int:
    from ops.compute.progress import progress_bar
    from ops.store.garbage import find_garbage

    table = _table(f"Garbage of {dataset.name}", "store", "arrays without a row", "temporary files", "whole store", "bytes")
    busy = False
    for store in found:
        with progress_bar("gc", "removed") as progress:
            garbage = find_garbage(store, arguments.delete, progress)
        whole = "yes" if garbage.whole is not None else "no"
        table.add_row(_named(store), str(len(garbage.arrays)), str(len(garbage.temporary)), whole, shown(garbage.bytes))
        busy = busy or bool(garbage.busy)
    console.print(table)
    console.print("Removed." if arguments.delete else "Nothing was removed; run it again with --delete to do so.")
    if busy:
        console.print("A run works on this dataset: its buckets were left alone.")
    return 0


def _verify(arguments: argparse.Namespace, dataset: configs.Dataset, layout: Layout, found: list[Store], console: Console) -> int:
    from ops.compute.progress import progress_bar
    from ops.store.integrity import verify

    table = _table(f"Integrity of {dataset.name}", "store", "arrays", "bytes", "damaged")
    damaged = []
    for store in [store for store in found if store.current or arguments.all]:
        with progress_bar("verify", "arrays") as progress:
            verdict = verify(store, arguments.decode, arguments.repair, progress)
        table.add_row(_named(store), str(verdict.arrays), shown(verdict.bytes), str(len(verdict.damaged)))
        damaged += verdict.damaged
    console.print(table)
    for damage in damaged[:SHOWN]:
        console.print(f"{damage.video_id}: {damage.reason}  ({damage.uri})", markup=False, soft_wrap=True)
    if len(damaged) > SHOWN:
        console.print(f"and {len(damaged) - SHOWN} more")
    if damaged:
        todo = "forgotten; the next run makes them anew" if arguments.repair else "run it again with --repair to have them made anew"
        console.print(f"{len(damaged)} damaged: {todo}.")
    return 1 if damaged and not arguments.repair else 0


def _rebuild(arguments: argparse.Namespace, dataset: configs.Dataset, layout: Layout, found: list[Store], console: Console) -> int:
    from ops.compute.progress import progress_bar
    from ops.store.rebuild import rebuild

    columns = ("store", "arrays", "rows kept", "rows made", "rows dropped", "incomplete", "of other versions", "damaged ledgers")
    table = _table(f"Ledgers of {dataset.name}", *columns)
    for store in [store for store in found if store.current]:
        with progress_bar("rebuild", "arrays") as progress:
            made = rebuild(dataset, layout, store, progress)
        numbers = (made.arrays, made.kept, made.made, made.dropped, made.incomplete, made.foreign, made.damaged)
        table.add_row(_named(store), *map(str, numbers))
    console.print(table)
    return 0


def _table(title: str, first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _named(store: Store) -> str:
    return f"{store.kind} {store.key}" + ("" if store.current else " (no longer in use)")


def shown(number: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")
