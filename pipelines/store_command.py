"""`kinograph store`: what the stores of a dataset hold and weigh, what of it is garbage, whether it
is whole, and ledgers made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

import configs
from assets.layout import layout_of
from pipelines.app import command, console, group, names_of, new_table

if TYPE_CHECKING:
    from rich.table import Table

    from ops.store.stores import Store

SHOWN = 20  # damaged arrays, in words
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="DATASET",
        help="Default: every dataset that has something stored.",
        autocompletion=names_of(configs.datasets),
    ),
]
store = group("store", "Sizes, garbage, integrity and ledgers of what is stored.")


def _stored(name: str | None) -> Iterator[tuple[configs.Dataset, list[Store]]]:
    """The stores of the dataset, or of every one that has some; a line where there are none."""
    from ops.store.stores import stores

    settings, seen = configs.settings(), 0
    for one in [name] if name else configs.datasets():
        dataset = configs.dataset(one)
        if found := stores(layout_of(settings), one, _current(dataset)):
            seen += 1
            yield dataset, found
    if not seen:
        console().print(f"Nothing is stored of {name or 'any dataset'} below {settings.storage}.")


def _current(dataset: configs.Dataset) -> set[str]:
    features = [configs.features(name) for name in configs.features_names()]
    return {dataset.frames.key(), *(one.key() for one in features if one.dataset == dataset.name)}


@command("sizes", "kinograph store sizes", of=store)
def sizes(name: Name = None) -> int:
    """Bytes per store, per hour of video, against the source files."""
    from ops.store.sizes import sizes

    for dataset, found in _stored(name):
        rows = _rows(
            f"Sizes of {dataset.name}",
            "store",
            "videos",
            "hours",
            "bytes",
            "per hour",
            "source",
            "against source",
        )
        for size in sizes(layout_of(configs.settings()), found):
            ratio = f"{size.ratio:.1f}x" if size.ratio else "-"
            hours, per_hour = (
                (f"{size.hours:.2f}", shown(size.bytes_per_hour)) if size.hours else ("-", "-")
            )
            rows.add_row(
                _named(size.store),
                str(size.videos),
                hours,
                shown(size.bytes),
                per_hour,
                shown(size.source_bytes),
                ratio,
            )
        console().print(rows)
    return 0


@command("gc", "kinograph store gc figures --delete", of=store)
def gc(
    name: Name = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them.")] = False,
) -> int:
    """Arrays that no ledger names, stores of configurations no longer in use; only shows them."""
    from ops.compute.progress import progress_bar
    from ops.store.garbage import find_garbage

    for dataset, found in _stored(name):
        rows = _rows(
            f"Garbage of {dataset.name}",
            "store",
            "arrays without a row",
            "temporary files",
            "whole store",
            "bytes",
        )
        busy = False
        for one in found:
            with progress_bar("gc", "removed") as progress:
                garbage = find_garbage(one, delete, progress)
            whole = "yes" if garbage.whole is not None else "no"
            rows.add_row(
                _named(one),
                str(len(garbage.arrays)),
                str(len(garbage.temporary)),
                whole,
                shown(garbage.bytes),
            )
            busy = busy or bool(garbage.busy)
        console().print(rows)
        console().print(
            "Removed." if delete else "Nothing was removed; run it again with --delete to do so."
        )
        if busy:
            console().print("A run works on this dataset: its buckets were left alone.")
    return 0


@command("verify", "kinograph store verify figures --decode --repair", of=store)
def verify(
    name: Name = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every frame too.")] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Forget damaged arrays, so that the next run makes them anew."
        ),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the stores of configurations no longer in use.")
    ] = False,
) -> int:
    """Read everything back: checksums, indices, shapes. Exit status 1 where something is damaged
    and not repaired.
    """
    from ops.compute.progress import progress_bar
    from ops.store.integrity import verify

    status = 0
    for dataset, found in _stored(name):
        rows, damaged = (
            _rows(f"Integrity of {dataset.name}", "store", "arrays", "bytes", "damaged"),
            [],
        )
        for one in [one for one in found if one.current or everything]:
            with progress_bar("verify", "arrays") as progress:
                verification = verify(one, decode, repair, progress)
            rows.add_row(
                _named(one),
                str(verification.arrays),
                shown(verification.bytes),
                str(len(verification.damaged)),
            )
            damaged += verification.damaged
        console().print(rows)
        for damage in damaged[:SHOWN]:
            console().print(
                f"{damage.video_id}: {damage.reason}  ({damage.uri})", markup=False, soft_wrap=True
            )
        if len(damaged) > SHOWN:
            console().print(f"and {len(damaged) - SHOWN} more")
        if damaged:
            todo = (
                "forgotten; the next run makes them anew"
                if repair
                else "run it again with --repair to have them made anew"
            )
            console().print(f"{len(damaged)} damaged: {todo}.")
        status = max(status, int(bool(damaged) and not repair))
    return status


@command("rebuild", "kinograph store rebuild figures", of=store)
def rebuild(name: Name = None) -> int:
    """Make the ledgers anew from the arrays that are there."""
    from ops.compute.progress import progress_bar
    from ops.store.rebuild import rebuild

    columns = (
        "store",
        "arrays",
        "rows kept",
        "rows made",
        "rows dropped",
        "incomplete",
        "of other versions",
        "damaged ledgers",
    )
    for dataset, found in _stored(name):
        rows = _rows(f"Ledgers of {dataset.name}", *columns)
        for one in [one for one in found if one.current]:
            with progress_bar("rebuild", "arrays") as progress:
                made = rebuild(dataset, layout_of(configs.settings()), one, progress)
            numbers = (
                made.arrays,
                made.kept,
                made.made,
                made.dropped,
                made.incomplete,
                made.foreign,
                made.damaged,
            )
            rows.add_row(_named(one), *map(str, numbers))
        console().print(rows)
    return 0


def _rows(title: str, first: str, *columns: str) -> Table:
    return new_table(title, first, *columns, right=columns)


def _named(store: Store) -> str:
    return f"{store.kind} {store.key}" + ("" if store.current else " (no longer in use)")


def shown(number: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")
