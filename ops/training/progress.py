"""How far a training is, in a small file of its run folder: workers and driver may be on different machines."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from ops.files.storage import read_bytes, remove, write_bytes
from ops.training.callbacks import Display, EpochReport, StepReport

FILE = "progress.json"
STEP_S = 2.0  # between two writes of the step
LOOK_S = 0.5  # between two looks at the file


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
        content = {"epochs": [asdict(report) for report in self._epochs], "step": asdict(step) if step else None}
        write_bytes(self._uri, json.dumps(content).encode())
        self._written = time.monotonic()


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
