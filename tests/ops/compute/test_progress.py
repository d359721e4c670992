"""What a person sees of a long stage."""

from __future__ import annotations

import pytest

import ops.compute.progress as progress
from ops.compute.progress import Rate, progress_bar, time_left


def test_time_left_reads_well() -> None:
    assert time_left(0, 10, 0.0) == "?" and time_left(10, 10, 0.0) == "0 s"
    assert time_left(0, 96, 2.0) == "48 s"
    assert time_left(0, 1440, 2.0) == "12 min"
    assert time_left(0, 1_000_000, 90.0) == "3 h 05 min"


def test_the_rate_is_that_of_the_last_minute() -> None:
    rate = Rate(0.0)
    for second in range(1, 101):
        rate.per_s(float(second), second)  # 1/s
    for second in range(101, 301):
        last = rate.per_s(float(second), 100 + 5 * (second - 100))
    assert last == pytest.approx(5.0)


def test_a_log_file_has_a_line_now_and_then_and_the_last(monkeypatch, capsys) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress_bar("frames", "videos") as update:
        for done in range(1, 101):
            now[0] = float(done)
            update(done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "frames: 5/100 videos, 1.0 videos/s, 95 s left"
    assert [int(line.split("/")[0].split()[1]) for line in lines] == [5, 35, 65, 95, 100]
    assert lines[-1] == "frames: 100/100 videos, 1.0 videos/s, 0 s left"


def test_a_terminal_shows_rate_and_time_left(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("frames", "videos") as update:
        update(3, 4)
    out = capsys.readouterr().out
    assert "3/4" in out and "videos" in out and "/s" in out and "left" in out
