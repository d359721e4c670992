"""`kinograph doctor`: what it prints and returns; once whole, from an empty home."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from command import KINOGRAPH
from ops.doctor.checks import GROUPS
from pipelines.main import main


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "KINOGRAPH_STORAGE",
        "KINOGRAPH_CONFIGS",
        "MLFLOW_TRACKING_URI",
        "DAGSTER_HOME",
        "RAY_ADDRESS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    return tmp_path


def test_good_lines_and_a_home_that_is_not_made(bare, capsys) -> None:
    assert main(["doctor", "--only", "folders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"good   folders: storage: {bare}/home, ") and lines[-1].startswith(
        "Good: 7 lines"
    )
    assert not (bare / "home").exists()


def test_what_is_wrong_stands_in_the_json_with_what_to_do(bare, monkeypatch, capsys) -> None:
    (bare / "file").write_text("")
    # no command that writes could start there
    monkeypatch.setenv("KINOGRAPH_HOME", str(bare / "file" / "home"))
    assert main(["doctor", "--only", "folders", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    wrong = {line["name"]: line for line in found["findings"] if line["state"] == "wrong"}
    assert not found["good"] and set(wrong) == {"storage", "home"}
    assert "KINOGRAPH_HOME" in wrong["home"]["advice"] and wrong["home"]["group"] == "folders"


def test_the_closing_words_repeat_what_to_do(bare, monkeypatch, capsys) -> None:
    (bare / "file").write_text("")
    monkeypatch.setenv("KINOGRAPH_STORAGE", str(bare / "file" / "storage"))
    assert main(["doctor", "--only", "folders"]) == 1
    out = capsys.readouterr().out
    assert (
        "wrong  folders: storage: " in out
        and "\n1 of 7 lines are wrong" in out
        and out.count("set KINOGRAPH_STORAGE to") == 2
    )


def test_an_unknown_group_or_recipe_is_named(bare, capsys) -> None:
    assert main(["doctor", "--only", "folder"]) == 1
    assert "--only" in (told := capsys.readouterr().err) and "machine, software, folders" in told
    assert main(["doctor", "--recipe", "none"]) == 1
    assert "found 'none'" in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_it_from_an_empty_home(bare) -> None:
    command = [KINOGRAPH, "doctor", "--json"]
    done = subprocess.run(
        command,
        cwd=bare,
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["good"], done.stdout
    assert {line["group"] for line in found["findings"]} == set(GROUPS)
    assert not (bare / "home").exists()
