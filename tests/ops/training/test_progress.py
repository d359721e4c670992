"""What a person sees of a training that runs elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ops.compute.progress import progress_bar
from ops.training.callbacks import EpochReport, StepReport
from ops.training.progress import FILE, Display, ProgressFile, advice_line, epoch_line, followed

METRICS = {
    "loss": 1.25,
    "lr": 0.01,
    "samples_per_s": 100.0,
    "data_wait_share": 0.031,
    "seconds": 4.0,
    "top1": 0.625,
}


class Recorder:
    """A display that notes what it is shown."""

    def __init__(self) -> None:
        self.shown: list[object] = []

    def step(self, report: StepReport) -> None:
        self.shown.append(("step", report.step))

    def epoch(self, report: EpochReport) -> None:
        self.shown.append(("epoch", report.epoch))

    def note(self, text: str) -> None:
        self.shown.append(text)

    def wait_for(self, entry: object) -> None:
        until = time.monotonic() + 30
        while entry not in self.shown:
            assert time.monotonic() < until, f"{entry} is not shown"
            time.sleep(0.01)


def test_epochs_are_shown_once_and_the_file_goes(tmp_path: Path) -> None:
    recorder, file = Recorder(), tmp_path / FILE
    # of a run that was killed
    file.write_text('{"epochs": [{"epoch": 9, "epochs": 9, "metrics": {}}], "step": null}')
    with followed(str(tmp_path), recorder):
        writer = ProgressFile(str(tmp_path))
        writer.step(StepReport(1, 2, 1, 5, 2.0))
        recorder.wait_for(("step", 1))
        writer.epoch(EpochReport(1, 2, METRICS))
        recorder.wait_for(("epoch", 1))
        writer.epoch(EpochReport(2, 2, METRICS))
    assert [entry for entry in recorder.shown if entry[0] == "epoch"] == [
        ("epoch", 1),
        ("epoch", 2),
    ]  # type: ignore[index]
    assert not file.exists()


def test_it_ends_when_the_training_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="worker"), followed(str(tmp_path), Recorder()):
        raise RuntimeError("worker")


def test_steps_are_not_written_all_the_time(tmp_path: Path) -> None:
    writer = ProgressFile(str(tmp_path))
    writer.step(StepReport(1, 2, 1, 5, 2.0))
    first = (tmp_path / FILE).read_text()
    writer.step(StepReport(1, 2, 2, 5, 2.0))
    assert (tmp_path / FILE).read_text() == first


def test_lines_say_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("name", "steps") as bar:
        display = Display("name", bar)
        display.note("training with 2 worker(s)")
        display.step(StepReport(1, 2, 1, 5, 2.0))
        display.epoch(EpochReport(1, 2, METRICS))
    assert capsys.readouterr().out.splitlines() == [
        "name: training with 2 worker(s)",
        "name: epoch 1/2  loss 1.250  lr 0.01  top1 0.625  100 clips/s  3% waiting for data  4.0 s",
    ]
    slow = EpochReport(2, 2, {**METRICS, "data_wait_share": 0.43})
    assert advice_line("name", EpochReport(1, 2, METRICS)) is None
    with progress_bar("name", "steps") as bar:
        Display("name", bar).epoch(slow)
    advice = (
        "name: waits for data 43% of the time: raise scale.loader_workers, or give the training"
        " more CPUs"
    )
    assert capsys.readouterr().out.splitlines()[1:] == [advice]
    assert "top1" not in epoch_line(
        "name", EpochReport(1, 2, {key: value for key, value in METRICS.items() if key != "top1"})
    )
