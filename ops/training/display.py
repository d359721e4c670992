"""The progress of a training for a person: a bar in a terminal, a line per epoch everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ops.training.callbacks import Display, EpochReport, StepReport

DATA_BOUND = 0.2  # share of waiting from which the data, not the computing, is what to make faster

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def epoch_line(title: str, report: EpochReport) -> str:
    """One line about a finished epoch."""
    m = report.metrics
    scores = "".join(f"  {name} {m[name]:.3f}" for name in ("top1", "mean_ap") if name in m)
    speed = f"{m['samples_per_s']:.0f} clips/s  {m['data_wait_share']:.0%} waiting for data  {m['seconds']:.1f} s"
    return f"{title}: epoch {report.epoch}/{report.epochs}  loss {m['loss']:.3f}  lr {m['lr']:.2g}{scores}  {speed}"


def advice_line(title: str, report: EpochReport) -> str | None:
    """What to do when the training waits for its data, None when it computes most of the time."""
    share = report.metrics["data_wait_share"]
    if share < DATA_BOUND:
        return None
    return f"{title}: waits for data {share:.0%} of the time: raise scale.loader_workers, or give the training more CPUs"


@contextmanager
def training_display(title: str) -> Iterator[Display]:
    """Yield a display on standard output, with a moving bar when that is a terminal."""
    if not sys.stdout.isatty():
        yield _Lines(title)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[state]}"))
    with Progress(*columns, TimeRemainingColumn(compact=True)) as bars:
        yield _Bar(title, bars, bars.add_task(title, total=None, state="starting workers"))


class _Lines:
    """Plain lines, for logs."""

    def __init__(self, title: str) -> None:
        self.title = title

    def step(self, report: StepReport) -> None:
        """Steps are not shown."""

    def epoch(self, report: EpochReport) -> None:
        print(epoch_line(self.title, report), flush=True)
        if advice := advice_line(self.title, report):
            print(advice, flush=True)

    def note(self, text: str) -> None:
        print(f"{self.title}: {text}", flush=True)


class _Bar:
    """One bar over all optimizer steps, and the epochs' lines above it."""

    def __init__(self, title: str, bars: Progress, bar: TaskID) -> None:
        self.title, self.bars, self.bar = title, bars, bar

    def step(self, report: StepReport) -> None:
        done = (report.epoch - 1) * report.steps + report.step
        state = f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.3f}"
        self.bars.update(self.bar, completed=done, total=report.epochs * report.steps, state=state)

    def epoch(self, report: EpochReport) -> None:
        self.bars.console.print(epoch_line(self.title, report), highlight=False)
        if advice := advice_line(self.title, report):
            self.bars.console.print(advice, highlight=False)

    def note(self, text: str) -> None:
        self.bars.console.print(f"{self.title}: {text}", highlight=False)
