"""What several folders share: the tiny stored datasets, an empty MLflow, and the S3 server."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from configs import Settings
from discs_world import discs  # noqa: F401 - a fixture
from s3_fixtures import disk_server, s3, s3_server  # noqa: F401 - fixtures
from web_fixtures import web_folder  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """The module that makes the tiny stored dataset and its recipe."""
    import clip_world

    return clip_world


@pytest.fixture(scope="session")
def stored(world: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """A layout that holds the dataset; tests only read it."""
    from ops.store.layout import Layout

    layout = Layout(str(tmp_path_factory.mktemp("stored")))
    world.build_world(layout)
    return layout


@pytest.fixture
def own(world: ModuleType, layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The tiny dataset in a storage of this test's own, named by a YAML."""
    world.build_world(layout)
    path = tmp_path / "configs" / "datasets" / "tiny.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(world.DATASET.model_dump(mode="json", exclude={"name"})))
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    return layout


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, migrated once."""
    from ops.tracking.connect import client

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client(f"sqlite:///{path}")
    return path


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Settings:
    """Settings of an MLflow that nothing was written to; its storage is the one of `layout`."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    return Settings(
        storage=str(tmp_path / "storage"), tracking_uri=f"sqlite:///{home}/mlflow.db", home=home
    )


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """command(*arguments) -> exit status of `kinograph` in this process, on the home of
    `settings`.
    """
    from pipelines.main import main

    places = {
        "KINOGRAPH_HOME": str(settings.home),
        "KINOGRAPH_STORAGE": settings.storage,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
    }
    for name, value in {
        **places,
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "KINOGRAPH_CONFIGS": "",
        "RAY_ADDRESS": "",
    }.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: main(arguments)


@pytest.fixture(scope="session")
def people() -> ModuleType:
    """The module that makes the tiny dataset of people with parts, and its recipe."""
    import part_world

    return part_world


@pytest.fixture(scope="session")
def stored_people(people: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """A layout that holds the people; tests only read it."""
    from ops.store.layout import Layout

    layout = Layout(str(tmp_path_factory.mktemp("people")))
    people.build_people(layout)
    return layout


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """One-pixel pictures, for tests that are about something else: the real ones take a second."""
    from PIL import Image

    from ops.evaluation import plots as pictures

    pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    for name in ("confusion_matrix", "class_bars", "worst_clips", "learning_curves"):
        monkeypatch.setattr(pictures, name, lambda *_: pixel.getvalue())
