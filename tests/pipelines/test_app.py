"""The command line itself: help, version, exit status, completion, and names that are odd."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from command import KINOGRAPH
from pipelines.app import app
from pipelines.main import main

REPO = Path(__file__).resolve().parents[2]


def commands() -> list[list[str]]:
    """The words of every command, those of groups too."""
    main(["--version"])  # takes every file of commands along
    root = typer.main.get_command(app)
    found = {name: getattr(command, "commands", {}) for name, command in root.commands.items()}  # type: ignore[attr-defined]
    return [
        [name, *inner]
        for name, inside in found.items()
        for inner in [[one] for one in inside] or [[]]
    ]


def test_every_command_helps_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    known = commands()
    assert {"run", "ui", "predict", "check", "sample-world", "benchmark", "store"} <= {
        words[0] for words in known
    }
    for words in known:
        assert main([*words, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"kinograph {' '.join(words)}" in said.partition("Example: ")[2], words


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    version = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kinograph {version}\n", (
        "install the project again: make does so"
    )
    assert f"## [{version}]" in (REPO / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    [
        "nothing",
        "run --nothing",
        "run --train many",
        "predict",
        "features --format mat",
        "sample-world w --seed -1",
        "sample-world w --workers 0",
        "benchmark families --threads -1",
    ],
)
def test_a_command_line_that_is_not_understood_is_2(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Error: " in said.err and "Traceback" not in said.err


def test_shells_complete_commands_and_names() -> None:
    def completed(line: str) -> list[str]:
        told = {
            "_KINOGRAPH_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
        }
        done = subprocess.run(
            [KINOGRAPH], env={**os.environ, **told}, capture_output=True, text=True, timeout=60
        )
        return done.stdout.split()

    assert completed("kinograph sam") == ["sample-world"]
    assert completed("kinograph run --recipe tsm_tiny") == ["tsm_tiny_figures"]


def test_there_is_one_way_to_each_command() -> None:
    others = [
        path
        for package in ("configs", "models", "ops", "assets", "pipelines")
        for path in (REPO / package).rglob("__main__.py")
    ]
    parsers = [
        path
        for path in (REPO / "ops").rglob("*.py")
        if "argparse" in path.read_text(encoding="utf-8")
    ]
    assert not others and not parsers


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("torch", "ray", "mlflow", "decord", "zarr", "pyarrow", "numpy", "dagster", "fsspec")
    code = (
        "import sys; from pipelines.main import main; main(['--help']); print([name for name in"
        f" {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
