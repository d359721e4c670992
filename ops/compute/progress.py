"""Progress that a person can follow: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

Progress = Callable[[int, int], None]  # (done, total)
FIRST_LINE_S = 5.0  # of a log file; then one every `every_s`
RECENT_S = 60.0  # the rate is that of the last minute, not of a start that was slow


class Rate:
    """How fast a count grows, by its last minute."""

    def __init__(self, now: float) -> None:
        self._seen: deque[tuple[float, int]] = deque([(now, 0)])

    def per_s(self, now: float, done: int) -> float:
        """Counts per second; call it with every count."""
        while len(self._seen) > 1 and now - self._seen[1][0] > RECENT_S:
            self._seen.popleft()
        if now - self._seen[-1][0] >= 1.0:
            self._seen.append((now, done))
        since, before = self._seen[0]
        return max(0.0, (done - before) / max(now - since, 1e-6))


def time_left(done: int, total: int, per_s: float) -> str:
    """Time until the end in words: "48 s", "12 min", "3 h 05 min"; "?" while nothing is known."""
    if per_s <= 0:
        return "?" if done < total else "0 s"
    seconds = round((total - done) / per_s)
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


class Bar:
    """One stage as a person follows it: call it with (done, total), and with the stage's own words
    where a count says too little.
    """

    def __init__(self, title: str, unit: str, every_s: float, bars: Bars | None = None) -> None:
        self._title, self._unit, self._every_s, self._bars = title, unit, every_s, bars
        start = time.monotonic()
        self._rate, self._due = Rate(start), start + min(every_s, FIRST_LINE_S)
        self._task = bars.add_task(title, total=None, state="starting") if bars else None

    def __call__(self, done: int, total: int, words: str = "") -> None:
        now = time.monotonic()
        per_s = self._rate.per_s(now, done)
        left = f"{time_left(done, total, per_s)} left"
        if self._bars is not None and self._task is not None:
            state = words or f"{done}/{total} {self._unit}, {per_s:.1f} {self._unit}/s"
            self._bars.update(self._task, completed=done, total=total, state=f"{state}, {left}")
        elif not words and (now >= self._due or done >= total):
            self._due = now + self._every_s
            print(
                f"{self._title}: {done}/{total} {self._unit}, {per_s:.1f} {self._unit}/s, {left}",
                flush=True,
            )

    def say(self, text: str) -> None:
        """A line that stays, above the bar where there is one."""
        if self._bars is not None:
            self._bars.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)


@contextmanager
def progress_bar(title: str, unit: str, every_s: float = 30.0) -> Iterator[Bar]:
    """Yield what shows count, rate and time left of one stage: a bar in a terminal, else a line now
    and then.

    Args:
        title: the stage's name.
        unit: what is counted, in the plural.
        every_s: seconds between two lines where there is no terminal.
    """
    if not sys.stdout.isatty():
        yield Bar(title, unit, every_s)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.fields[state]}")
    ) as bars:
        yield Bar(title, unit, every_s, bars)
