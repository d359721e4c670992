"""How far a training is: told by its first worker in a small file of the run folder, shown by the
driver, perhaps on another machine.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from ops.compute.progress import Bar
from ops.files.storage import read_bytes, remove, write_bytes
from ops.training.callbacks import EpochReport, StepReport

FILE = "progress.json"
STEP_S = 2.0  # between two writes of the step
LOOK_S = 0.5  # between two looks at the file
DATA_BOUND = 0.2  # share of waiting from which the data, not the computing, is what to make faster


class ProgressFile:
    """Rank 0's side: the epochs since the start of the workers, and the newest step."""

    def __init__(self, run_dir: str) -> None:
        self._uri = f"{run_dir}/{FILE}"
        self._epochs: list[EpochReport] = []
        self._written = 0.0

    def step(self, report: StepReport) -> None:
        """Note a step, unless one was noted just before."""
        if time.monotonic() - self._written > STEP_S:
            self._write(report)

    def epoch(self, report: EpochReport) -> None:
        """Note a finished epoch."""
        self._epochs.append(report)
        self._write(None)

    def _write(self, step: StepReport | None) -> None:
        content = {
            "epochs": [asdict(report) for report in self._epochs],
            "step": asdict(step) if step else None,
        }
        write_bytes(self._uri, json.dumps(content).encode())
        self._written = time.monotonic()


def epoch_line(title: str, report: EpochReport) -> str:
    """One line about a finished epoch."""
    m = report.metrics
    scores = "".join(f"  {name} {m[name]:.3f}" for name in ("top1", "mean_ap") if name in m)
    speed = (
        f"{m['samples_per_s']:.0f} clips/s  {m['data_wait_share']:.0%} waiting for data "
        f" {m['seconds']:.1f} s"
    )
    return (
        f"{title}: epoch {report.epoch}/{report.epochs}  loss {m['loss']:.3f}  lr"
        f" {m['lr']:.2g}{scores}  {speed}"
    )


def advice_line(title: str, report: EpochReport) -> str | None:
    """What to do when the training waits for its data, None when it computes most of the time."""
    share = report.metrics["data_wait_share"]
    if share < DATA_BOUND:
        return None
    return (
        f"{title}: waits for data {share:.0%} of the time: raise scale.loader_workers, or give the"
        " training more CPUs"
    )


class Display:
    """A training on the standard output: a line an epoch, and over all optimizer steps a bar where
    that is a terminal.
    """

    def __init__(self, title: str, bar: Bar) -> None:
        self.title, self.bar = title, bar

    def step(self, report: StepReport) -> None:
        """Move the bar."""
        done, state = (
            (report.epoch - 1) * report.steps + report.step,
            f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.3f}",
        )
        self.bar(done, report.epochs * report.steps, state)

    def epoch(self, report: EpochReport) -> None:
        """A finished epoch, and what would make the next faster."""
        for line in filter(None, (epoch_line(self.title, report), advice_line(self.title, report))):
            self.bar.say(line)

    def note(self, text: str) -> None:
        """Something else that is worth a line."""
        self.bar.say(f"{self.title}: {text}")


@contextmanager
def followed(run_dir: str, display: Display) -> Iterator[None]:
    """Show the file's news while the block runs, and remove it in the end."""
    uri = f"{run_dir}/{FILE}"
    remove(uri)
    stop = threading.Event()
    shown: set[int] = set()

    def look() -> None:
        try:
            content = json.loads(read_bytes(uri))
        except OSError:
            return  # not there yet, or a store that fails: the training itself will say so
        for report in content["epochs"]:
            if report["epoch"] not in shown:
                shown.add(report["epoch"])
                display.epoch(EpochReport(**report))
        if content["step"]:
            display.step(StepReport(**content["step"]))

    def watch() -> None:
        while not stop.wait(LOOK_S):
            look()

    watcher = threading.Thread(target=watch, name="training progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        look()
        remove(uri)
