"""The `kinograph` command as a process of its own, a home for it, and recipes that train in
seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import small_world
from command import KINOGRAPH
from configs.loading import _recipe_sources
from s3_fixtures import s3, s3_server  # noqa: F401 - fixtures

RECIPE: dict[str, Any] = {
    "about": "a recipe of the tests",
    "dataset": "figures",
    "num_classes": 10,
    "model": {"depth": 10, "width": 8, "stem": "stride", "dropout": 0.2},
    "sampling": {"kind": "segments", "num_segments": 3},
    "transforms": {"short_side": 48, "crop": 32, "train_crop": "random"},
    "views": {"average": "feature"},
    "optimizer": {"name": "sgd", "lr": 0.02},
    "schedule": {"kind": "constant"},
    "training": {"epochs": 4, "batch_size": 8, "evaluate_every": 2},
    "scale": {"cpus_per_worker": 1},
    # Whatever it scores, the first is promoted; no later one gains a whole 1.
    "gate": {
        "metric": "top1",
        "floor": -1.0,
        "min_gain": 1.0,
        "registered_model": "tests-recognition",
    },
}
# Few enough damaged files beside them that the quarantine check holds.
SIZE = ("--train", "32", "--val", "16", "--untrimmed", "6", "--scenes", "8")


def write_recipe(folder: Path, name: str, **changes: Any) -> Path:
    """A TSN recipe in a folder of the layout of `configs`; a second call changes it, and a mapping
    only what it names.
    """
    path = folder / "recognition" / "tsn.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = yaml.safe_load(path.read_text()) if path.exists() else {}
    merged = dict(before.get(name, RECIPE))
    for key, value in changes.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump({**before, name: merged}))
    _recipe_sources.cache_clear()  # this process reads every file once
    return path


@dataclass
class Home:
    """One KINOGRAPH_HOME with a configs folder, and the command that works on it."""

    root: Path
    configs: Path
    storage: str = ""
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.storage = self.storage or str(self.root)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead there."""
        return {
            "KINOGRAPH_HOME": str(self.root),
            "KINOGRAPH_STORAGE": self.storage,
            "KINOGRAPH_CONFIGS": str(self.configs),
            **self.more,
        }

    @property
    def process_environment(self) -> dict[str, str]:
        """A whole environment for a process: this one's without its own settings."""
        ours = {"DAGSTER_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
        return {
            **{name: value for name, value in os.environ.items() if name not in ours},
            **self.environment,
            "PYTHONWARNINGS": "ignore",
        }

    @property
    def settings(self) -> Any:
        """Settings as the command sees them."""
        from configs.settings import Settings

        return Settings(
            storage=self.storage, tracking_uri=f"sqlite:///{self.root}/mlflow.db", home=self.root
        )

    @property
    def layout(self) -> Any:
        """Where its data lie."""
        from ops.store.layout import Layout

        return Layout(self.storage)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command in a process group of its own."""
        command = [KINOGRAPH, *arguments]
        return subprocess.Popen(
            command,
            env=self.process_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
        )

    def run(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """The command from start to end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def killed_when(
        self, condition: Callable[[], object], *arguments: str, timeout: float = 600
    ) -> None:
        """Start the command and kill it outright, and only it, as soon as the condition holds."""
        process = self.start(*arguments)
        until = time.monotonic() + timeout
        while not condition():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(
                    f"the command ended before the moment came: {out[-2000:]}\n{err[-2000:]}"
                )
            time.sleep(0.02)
        helpers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # Ray's agents ask only now and then whether their parent lives
        _, left = psutil.wait_procs(helpers, timeout=180)
        assert not left, f"processes outlive the command that started them: {left}"


@pytest.fixture(scope="session")
def recipe_file() -> Callable[..., Path]:
    """recipe_file(folder, name, **changes) -> path of the YAML."""
    return write_recipe


@pytest.fixture(scope="session")
def size() -> tuple[str, ...]:
    """Arguments for a small sample world."""
    return SIZE


@pytest.fixture(scope="session")
def new_home() -> Callable[..., Home]:
    """new_home(root, configs, storage="", more={}) -> Home."""
    return Home


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    for name, value in values.items():
        patch.setenv(name, value)
    try:
        yield
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def variables() -> Callable[[dict[str, str]], Any]:
    """with variables({...}): the environment has these values inside the block."""
    return _variables


# -------------------------------------------------------------------------------------------------
# a small world, in this process


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home that this process itself works on."""
    made = Home(tmp_path / "home", tmp_path / "configs")
    made.configs.mkdir()
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**made.environment, "DAGSTER_HOME": str(made.root / "dagster")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.settings.tracking_uri)
    return made


@pytest.fixture
def small(home: Home, tmp_path: Path, recipe_file: Callable[..., Path]) -> Any:
    """A world of twelve videos, and the recipe `small_tsn` on it."""
    world = small_world.SmallWorld(tmp_path / "world", home.configs)
    gate = {"registered_model": "small-recognition"}
    recipe_file(
        home.configs,
        "small_tsn",
        dataset="kinetics400",
        num_classes=2,
        gate=gate,
        training={"epochs": 1},
    )
    return world


@pytest.fixture
def write_video() -> Callable[..., Path]:
    """write_video(path, seed) -> path."""
    return small_world.write_video
