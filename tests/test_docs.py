"""The documents: pictures are those of the code, what is named is there, and YAML for other
programs can be read.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

REPO = Path(__file__).resolve().parent.parent
# Pages that tell a reader where to go. The others quote what was measured once, of files as they
# were then.
FOLDERS = ("docs/decisions", "docs/examples")
PAGES = ["README.md", "docs/CONTRIBUTING.md", "docs/architecture.md"]
PAGES += [
    path.relative_to(REPO).as_posix()
    for folder in FOLDERS
    for path in sorted((REPO / folder).glob("*.md"))
]
PLACE = re.compile(r"`((?:configs|models|ops|assets|pipelines|tests|docs|\.ci|\.github)/[^`\s]*)`")
OTHERS = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")  # links to other files
TARGET = re.compile(r"(?:^|[`;&]) *make ([a-z][a-z-]*)", re.MULTILINE)


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPO / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


architecture = _script("make_architecture")


def _text(page: str) -> str:
    return (REPO / page).read_text(encoding="utf-8")


def _there(place: str) -> bool:
    """Whether a path is in the repository. `<task>` stands for any name, and `*` too."""
    return any(REPO.glob(re.sub(r"<[a-z_]+>", "*", place.rstrip("/"))))


def test_the_picture_of_the_house_is_that_of_its_imports() -> None:
    assert architecture.draw(architecture.house()) == _text("docs/architecture.svg"), (
        "python -P docs/make_architecture.py"
    )


def test_every_room_and_every_import_between_rooms_is_in_the_picture(tmp_path: Path) -> None:
    """A house of two rooms, each import of another kind."""
    for path, text in {
        "tests/test_layers.py": "ROOMS = ('files', 'store')\n",
        "ops/files/__init__.py": '"""Files & folders."""',
        "ops/store/__init__.py": "def f():\n    from ops.files.storage import exists\n",
        "assets/a.py": "import ops.store.ledger\nfrom ops import files\n",
        "pipelines/a.py": "wing('recognition', 'task')",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for name in ("pipelines", "assets", "models", "configs"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").touch()
    found = architecture.house(tmp_path)
    assert [room for room, _ in found.rooms] == [
        "pipelines",
        "assets",
        "ops/store",
        "ops/files",
        "models",
        "configs",
    ]
    assert found.imports == {
        ("ops/store", "ops/files"),
        ("assets", "ops/store"),
        ("assets", "ops/files"),
    }
    assert found.by_name == {"pipelines"} and dict(found.rooms)["ops/files"] == "Files & folders"
    picture = architecture.draw(found)
    # the legend has two
    assert picture.count("<circle") == 3 + 2 and "Files &amp; folders" in picture


@pytest.mark.parametrize("page", PAGES)
def test_files_and_links_and_targets_that_a_page_names_are_there(page: str) -> None:
    text, folder = _text(page), (REPO / page).parent
    gone = [place for place in PLACE.findall(text) if not _there(place.split("::")[0])]
    gone += [link for link in OTHERS.findall(text) if not (folder / link).exists()]
    targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
    gone += [f"make {name}" for name in TARGET.findall(text) if name not in targets]
    assert not gone, f"{page} names what is not there: {', '.join(gone)}"


def test_a_place_that_is_not_there_is_seen() -> None:
    assert (
        _there("ops/tasks/<task>/task.py")
        and _there("models/keymaps/")
        and not _there("ops/tasks/<task>/nothing.py")
    )
    assert PLACE.findall("see `ops/store/ledger.py` and `make`") == ["ops/store/ledger.py"]


def _yaml_files() -> list[Path]:
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.yml", "*.yaml"]
    listed = subprocess.run(asked, cwd=REPO, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    # those have tests of their own
    return [REPO / name for name in listed.stdout.split() if not name.startswith("configs/")]


def test_yaml_for_other_programs_can_be_read() -> None:
    for path in _yaml_files():
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path


def test_workflows_call_what_is_there_and_nothing_that_moves() -> None:
    targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
    workflows = sorted((REPO / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in workflows] == ["lint", "slow", "test", "wheel"]
    for path in workflows:
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        for step in (step for job in jobs.values() for step in job["steps"]):
            called = TARGET.findall(step.get("run", ""))
            assert set(called) <= targets, f"{path.name}: {called}"
            assert "uses" not in step or re.fullmatch(
                r"actions/[a-z-]+@v\d+\.\d+\.\d+", step["uses"]
            ), f"{path.name}: {step['uses']}"


def test_every_decision_is_in_their_list() -> None:
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", _text("docs/decisions/README.md")))
    assert listed == {path.name for path in (REPO / "docs" / "decisions").glob("*.md")} - {
        "README.md"
    }


PACKAGES = ("configs", "models", "ops", "assets", "pipelines")
EXAMPLES = [
    path.relative_to(REPO).with_suffix("").as_posix().replace("/", ".")
    for package in PACKAGES
    for path in sorted((REPO / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_of_docstrings_give_what_they_say(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed
