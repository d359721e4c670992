"""Progress that a person can follow: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def counted(progress: Progress, count: int) -> Progress:
    """Progress in the things that are counted, out of progress in batches of them."""
    return lambda done, total: progress(min(count, round(done * count / max(total, 1))), count)


@contextmanager
def progress_bar(title: str, unit: str, every_s: float = 30.0) -> Iterator[Progress]:
    """Yield `progress(done, total)` that shows count, rate and time left of one stage."""
    bar = _terminal_bar(title, unit) if sys.stdout.isatty() else _log_lines(title, unit, every_s)
    with bar as progress:
        yield progress


@contextmanager
def _terminal_bar(title: str, unit: str) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    texts = (TextColumn(unit), TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[left]}"))
    with Bars(TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), *texts) as bars:
        task = bars.add_task(title, total=None, rate="", left="")
        rate = Rate(time.monotonic())

        def update(done: int, total: int) -> None:
            per_s = rate.per_s(time.monotonic(), done)
            bars.update(task, completed=done, total=total, rate=f"{per_s:.1f}/s", left=f"{time_left(done, total, per_s)} left")

        yield update


@contextmanager
def _log_lines(title: str, unit: str, every_s: float) -> Iterator[Progress]:
    start = time.monotonic()
    rate, due = Rate(start), start + min(every_s, FIRST_LINE_S)

    def update(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        per_s = rate.per_s(now, done)
        if now < due and done < total:
            return
        due = now + every_s
        print(f"{title}: {done}/{total} {unit}, {per_s:.1f} {unit}/s, {time_left(done, total, per_s)} left", flush=True)

    yield update
