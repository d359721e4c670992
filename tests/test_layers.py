"""The import chain configs, models <- ops <- assets <- pipelines, and what an import may pull
in.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PACKAGES = ("configs", "models", "ops", "assets", "pipelines")
HEAVY = ("torch", "ray", "mlflow", "decord", "zarr")

# What a package's files may import when they are loaded, and what else inside a function. The
# standard library is free.
AT_LOAD = {
    "configs": {"configs", "pydantic", "yaml"},
    "models": {"models", "torch", "numpy"},
    "assets": {"assets", "configs", "dagster"},
    # the command line, and its tables
    "pipelines": {"pipelines", "assets", "configs", "dagster", "rich", "typer"},
}
IN_BODIES = {
    "configs": set[str](),
    "models": {"safetensors", "scipy"},
    "assets": {"ops"},
    "pipelines": {"ops"},
}
NEVER_IN_OPS = {"dagster", "assets", "pipelines"}
# Files of ops that may load a heavy library; everywhere else a function imports it when it needs
# it.
HEAVY_IN_OPS = {
    "torch": (
        "ops/data/",
        "ops/evaluation/",
        "ops/features/network.py",
        "ops/tasks/",
        "ops/tracking/",
        "ops/training/",
        "ops/benchmarks/kernel_cases.py",
    ),
    "ray": (
        "ops/compute/ray_engine.py",
        "ops/compute/cluster.py",
        "ops/features/actors.py",
        "ops/training/",
    ),
    "mlflow": ("ops/tasks/", "ops/tracking/"),
    "decord": ("ops/media/decord_reader.py",),
    "zarr": ("ops/store/",),
}
# The rooms of ops, ground floor first: each imports from those before it only, functions' own
# imports and annotations counted. Who knows no task asks a wing for its part by name:
# `ops.training.task.wing`.
ROOMS = (
    "files",
    "store",
    "compute",
    "media",
    "annotations",
    "data",
    "training",
    "tracking",
    "features",
    "evaluation",
    "synthetic",
    "preflight",
    "tasks",
    "serving",
    "flow",
    "benchmarks",
    "doctor",
)
# the action of a parsed video is a recognition model's to say; else tasks do not know each other
WINGS = {"parsing": {"recognition"}}


def _files(package: str) -> list[Path]:
    return sorted((REPO / package).rglob("*.py"))


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def _imports(node: ast.AST, in_body: bool = False) -> Iterator[tuple[str, bool, int]]:
    """(top-level module, whether only a function's body imports it, line) of every import that ever
    runs.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name.split(".")[0], in_body, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import in line {child.lineno}"
            yield (child.module or "").split(".")[0], in_body, child.lineno
        elif not _type_checking(child):
            yield from _imports(
                child,
                in_body or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)),
            )


def _third_party(path: Path) -> Iterator[tuple[str, bool, str]]:
    for name, in_body, line in _imports(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if name not in sys.stdlib_module_names:
            yield name, in_body, f"{path.relative_to(REPO)}:{line}: {name}"


def _python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter that finds the packages by their installation alone."""
    unset = ("PYTHONPATH", "DAGSTER_HOME", "KINOGRAPH_CONFIGS", "OMP_WAIT_POLICY")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("package", AT_LOAD)
def test_a_package_imports_only_what_its_layer_may(package: str) -> None:
    wrong = [
        where
        for path in _files(package)
        for name, in_body, where in _third_party(path)
        if name not in AT_LOAD[package] and not (in_body and name in IN_BODIES[package])
    ]
    assert not wrong, "\n".join(wrong)


def test_ops_knows_nothing_of_dagster() -> None:
    wrong = [
        where
        for path in _files("ops")
        for name, _, where in _third_party(path)
        if name in NEVER_IN_OPS
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_load_only_in_the_files_of_ops_that_need_them() -> None:
    wrong = [
        where
        for path in _files("ops")
        for name, in_body, where in _third_party(path)
        if name in HEAVY_IN_OPS
        and not in_body
        and not path.relative_to(REPO).as_posix().startswith(HEAVY_IN_OPS[name])
    ]
    assert not wrong, "\n".join(wrong)


def _modules(path: Path) -> Iterator[tuple[str, int]]:
    """(module of this project, line) of every import of a file, whoever runs it and when."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (
                (alias.name, node.lineno)
                for alias in node.names
                if alias.name.split(".")[0] in PACKAGES
            )
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in PACKAGES
        ):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (REPO / f"{inner.replace('.', '/')}.py").exists() or (
                    REPO / inner.replace(".", "/")
                ).is_dir()
                yield inner if is_module else node.module, node.lineno


def _module_of(path: Path) -> str:
    return (
        path.relative_to(REPO)
        .with_suffix("")
        .as_posix()
        .replace("/", ".")
        .removesuffix(".__init__")
    )


def test_the_rooms_of_ops_are_those_of_the_plan() -> None:
    rooms = {path.parent.name for path in (REPO / "ops").glob("*/__init__.py")}
    assert rooms == set(ROOMS)
    assert [path.name for path in (REPO / "ops").glob("*.py")] == ["__init__.py"]


def test_imports_between_the_rooms_of_ops_run_one_way() -> None:
    wrong = []
    for path in _files("ops"):
        own = _module_of(path).split(".")
        for module, line in _modules(path):
            other = module.split(".")
            if other[0] != "ops" or len(other) == 1 or own == ["ops"]:
                continue
            if ROOMS.index(other[1]) > ROOMS.index(own[1]):
                wrong.append(f"{path.relative_to(REPO)}:{line}: {own[1]} stands below {other[1]}")
            if (
                own[1] == other[1] == "tasks"
                and own[2] != other[2]
                and other[2] not in WINGS.get(own[2], ())
            ):
                wrong.append(
                    f"{path.relative_to(REPO)}:{line}: the wing of {own[2]} knows that of"
                    f" {other[2]}"
                )
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {
        _module_of(path): {module for module, _ in _modules(path)}
        for package in PACKAGES
        for path in _files(package)
    }
    free: set[str] = set()  # of circles: all that it imports is
    while found := {
        module
        for module, needs in graph.items()
        if module not in free and not (needs & graph.keys()) - free - {module}
    }:
        free |= found
    left = sorted(graph.keys() - free)
    assert not left, f"these files, or what they import, import each other: {', '.join(left)}"


def test_no_room_asks_for_a_task_by_name() -> None:
    """What differs from task to task stands in the wings: elsewhere nothing is compared with a
    task's name, and nothing listed by them.
    """
    from configs.schema import TASKS

    wrong = []
    for path in (
        path for package in ("ops", "assets", "pipelines", "configs") for path in _files(package)
    ):
        if path.relative_to(REPO).as_posix().startswith(("ops/tasks/", "ops/synthetic/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked = (
                [*node.comparators, node.left]
                if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq)
                else []
            )
            asked += (
                [key for key in node.keys if key is not None] if isinstance(node, ast.Dict) else []
            )
            named = [one for one in asked if isinstance(one, ast.Constant) and one.value in TASKS]
            wrong += [f"{path.relative_to(REPO)}:{one.lineno}: {one.value}" for one in named]
    assert not wrong, "\n".join(wrong)


def test_the_guard_sees_what_it_must() -> None:
    source = (
        "import os, ray.train\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import"
        " mlflow\ntry:\n    import decord\nexcept ImportError: pass\nclass A:\n    import zarr\n   "
        " def f(self):\n        from torch.nn import Linear\n"
    )
    found = {name: in_body for name, in_body, _ in _imports(ast.parse(source))}
    assert found == {
        "os": False,
        "ray": False,
        "typing": False,
        "decord": False,
        "zarr": False,
        "torch": True,
    }


def test_every_package_is_named_in_the_installation() -> None:
    import tomllib

    named = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]["packages"]
    found = [
        path.parent.relative_to(REPO).as_posix().replace("/", ".")
        for name in PACKAGES
        for path in (REPO / name).rglob("__init__.py")
    ]
    assert sorted(named) == sorted(found)


def test_no_file_unpickles() -> None:
    """Weights come as safetensors or with weights_only=True: a pickle runs code."""
    wrong = []
    for path in (path for package in PACKAGES for path in _files(package)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                safe = any(
                    word.arg == "weights_only" and ast.unparse(word.value) == "True"
                    for word in node.keywords
                )
                if called in ("pickle.load", "pickle.loads", "pickle.Unpickler") or (
                    called == "torch.load" and not safe
                ):
                    wrong.append(f"{path.relative_to(REPO)}:{node.lineno}: {called}")
    assert not wrong, "\n".join(wrong)


def test_packages_are_those_of_this_checkout_from_any_folder(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u, json; print(json.dumps({name: u.find_spec(name).origin for"
        f" name in {PACKAGES!r}}}))"
    )
    done = _python(code, tmp_path)
    assert done.returncode == 0, f"pip install -e . first: {done.stderr}"
    assert json.loads(done.stdout) == {name: str(REPO / name / "__init__.py") for name in PACKAGES}


def test_the_packages_of_ops_and_the_configs_pull_in_nothing_heavy(tmp_path: Path) -> None:
    names = [
        path.parent.relative_to(REPO).as_posix().replace("/", ".")
        for path in (REPO / "ops").rglob("__init__.py")
    ]
    code = (
        f"import importlib, os, sys\nfor name in {['configs', *names]!r}:"
        " importlib.import_module(name)\nprint([name for name in"
        f" {(*HEAVY, 'pyarrow', 'numpy', 'dagster')!r} if name in sys.modules],"
        " os.environ['OMP_WAIT_POLICY'])"
    )
    done = _python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] PASSIVE"


def test_definitions_load_fast_and_light(tmp_path: Path) -> None:
    code = (
        "import sys, time; began = time.process_time(); import pipelines.definitions; seconds ="
        " time.process_time() - began\nimport json; print(json.dumps([seconds, [name for name in"
        f" {HEAVY!r} if name in sys.modules]]))"
    )
    seconds: list[float] = []
    # processor time, and the best of a few: other work on the machine is no fault of the import
    for _ in range(3):
        done = _python(code, tmp_path)
        assert done.returncode == 0, done.stderr
        taken, heavy = json.loads(done.stdout.splitlines()[-1])
        assert heavy == []
        seconds.append(taken)
        if taken < 3:
            return
    pytest.fail(f"pipelines.definitions takes {min(seconds):.1f} s to import; 3 s are allowed")
