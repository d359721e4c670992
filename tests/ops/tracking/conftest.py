"""A fresh MLflow for each test: a copy of one database that is migrated once per session."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from configs import Settings, load
from configs.schema import RecognitionRecipe
from ops.tracking.connect import client


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "mlflow.db"  # the same for all tests: the client is kept, and so is the file
    client(f"sqlite:///{path}")
    return path


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    return Settings(storage=str(tmp_path / "storage"), tracking_uri=f"sqlite:///{home}/mlflow.db", home=home)


@pytest.fixture
def recipe() -> RecognitionRecipe:
    found = load("tsn_tiny_figures")
    assert isinstance(found, RecognitionRecipe)
    return found
