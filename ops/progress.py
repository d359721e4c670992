"""Progress that a person can follow: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]  # (done, total)


@contextmanager
def progress_bar(title: str, unit: str, every_s: float = 5.0) -> Iterator[Progress]:
    """Yield `progress(done, total)` that shows count, rate and time left of one stage."""
    bar = _terminal_bar(title, unit) if sys.stdout.isatty() else _log_lines(title, unit, every_s)
    with bar as progress:
        yield progress


@contextmanager
def _terminal_bar(title: str, unit: str) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TextColumn("{task.fields[rate]}"))
    with Bars(*columns, TimeRemainingColumn(compact=True)) as bars:
        task = bars.add_task(title, total=None, rate="")
        start = time.monotonic()

        def update(done: int, total: int) -> None:
            rate = f"{done / max(time.monotonic() - start, 1e-6):.1f}/s"
            bars.update(task, completed=done, total=total, rate=rate)

        yield update


@contextmanager
def _log_lines(title: str, unit: str, every_s: float) -> Iterator[Progress]:
    start = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every_s and done < total:
            return
        last = now
        rate = done / max(now - start, 1e-6)
        left = (total - done) / rate if rate else 0.0
        print(f"{title}: {done}/{total} {unit}, {rate:.1f}/s, {left:.0f} s left", flush=True)

    yield update
