"""What is told in words and what shows its stack: every error class of the project, and the edges
where a person's call ends.
"""

from __future__ import annotations

import ast
import builtins
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import ConfigError, KinographError
from models.errors import ModelConfigError
from ops.files.mistakes import mistakes
from pipelines.main import main
from pipelines.process import guarded

REPO = Path(__file__).resolve().parent.parent
# Caught within the file or the room that raises them; no person sees one.
INTERNAL = {"Refused", "NoQuarterTurn", "Damaged"}


def _classes() -> list[tuple[str, set[str]]]:
    """(name, names of its bases) of every class of the project; a name may stand in several
    files.
    """
    files = [
        path
        for package in ("configs", "models", "ops", "assets", "pipelines")
        for path in (REPO / package).rglob("*.py")
    ]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [
        (node.name, {ast.unparse(base).rpartition(".")[2] for base in node.bases}) for node in nodes
    ]


def _below(names: set[str], classes: list[tuple[str, set[str]]]) -> set[str]:
    """These names, and those of all classes that derive from them."""
    while more := {name for name, bases in classes if bases & names} - names:
        names = names | more
    return names


def test_every_error_for_a_person_is_a_kinograph_error() -> None:
    classes = _classes()
    built_in = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    raised, told = _below(built_in, classes), _below({"KinographError", "ModelError"}, classes)
    assert {
        "ConfigError",
        "StorageError",
        "ModelConfigError",
        "CheckError",
        "DamagedModelError",
    } <= raised & told
    wrong = [
        name
        for name, bases in classes
        if bases & raised and not (bases | {name}) & (told | INTERNAL)
    ]
    assert not wrong, (
        f"these are neither a KinographError nor, below models, a ModelError: {', '.join(wrong)}"
    )


def _raising(error: BaseException):
    def command() -> int:
        raise error

    return command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KINOGRAPH_HOME", "KINOGRAPH_STORAGE", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/home/mlflow.db")


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a.yaml", "lr", -1, "above 0"),
        ModelConfigError("m", "depth", 3, "18"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_mistake_is_one_line_of_the_command(
    home, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(_raising(error), reads=True) == 1
    assert capsys.readouterr().err == f"kinograph: {error}\n"


@pytest.mark.parametrize(
    "bug",
    [ValueError("not enough values to unpack"), KeyError("name"), RuntimeError("shapes differ")],
)
def test_a_bug_shows_its_stack(home, bug: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(bug)) as caught:
        guarded(_raising(bug), reads=True)
    assert caught.value is bug and "kinograph:" not in capsys.readouterr().err


def test_a_bug_in_a_command_ends_it_with_a_plain_traceback(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pipelines.app import command\nfrom pipelines.main import"
        " main\n@command('breaks', '', reads=True)\ndef breaks() -> int:\n    return"
        " {}['name']\nsys.exit(main(['breaks']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 1 and done.stderr.startswith("Traceback (most recent call last):"), (
        done.stderr
    )
    assert done.stderr.splitlines()[-1] == "KeyError: 'name'" and "kinograph:" not in done.stderr


def test_a_bug_in_a_prediction_shows_its_stack(
    tmp_path: Path, home, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def on_video(self, path: Path) -> None:
            raise ValueError("not enough values to unpack")

    (tmp_path / "film.mp4").write_bytes(b"")
    monkeypatch.setattr("ops.evaluation.predictors.load", lambda model, settings: Broken())
    with pytest.raises(ValueError, match="not enough values"):
        main(["predict", str(tmp_path / "film.mp4")])


def test_errors_travel_between_processes_and_keep_both_bases() -> None:
    error = ConfigError("a.yaml", "lr", -1, "more than 0")
    assert (
        isinstance(error, ValueError)
        and isinstance(error, KinographError)
        and str(pickle.loads(pickle.dumps(error))) == str(error)
    )
    assert mistakes()[:2] == (KinographError, OSError)
