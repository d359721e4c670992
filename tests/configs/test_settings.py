"""Where a process keeps things: embedded defaults, and the environment over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.schema import ConfigError
from configs.settings import settings

VARIABLES = (
    "KINOGRAPH_HOME",
    "KINOGRAPH_STORAGE",
    "MLFLOW_TRACKING_URI",
    "RAY_ADDRESS",
    "KINOGRAPH_DAGSTER_URL",
    "KINOGRAPH_MLFLOW_URL",
)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in an empty folder that sets nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_everything_has_an_embedded_default(tmp_path: Path) -> None:
    found = settings()
    home = str(tmp_path / ".kinograph")
    assert (found.storage, str(found.home), found.tracking_uri) == (
        home,
        home,
        f"sqlite:///{home}/mlflow.db",
    )
    assert found.ray_address is None and found.artifacts == f"{home}/mlflow"
    assert found.dagster_url.startswith("http://127.0.0.1:") and found.mlflow_url.startswith(
        "http://127.0.0.1:"
    )


@pytest.mark.parametrize(
    "given, storage",
    [
        ("s3://bucket/here/", "s3://bucket/here"),
        ("/data/", "/data"),
        ("file:///data", "/data"),
        ("data", "{tmp}/data"),
    ],
)
def test_storage_is_a_folder_or_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, storage: str
) -> None:
    monkeypatch.setenv("KINOGRAPH_STORAGE", given)
    assert settings().storage == storage.format(tmp=tmp_path)


def test_a_store_that_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_STORAGE", "ftp://host/data")
    with pytest.raises(ConfigError, match="KINOGRAPH_STORAGE.*ftp://host/data.*s3://"):
        settings()


def test_services_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setenv("KINOGRAPH_DAGSTER_URL", "https://dagster.example/")
    found = settings()
    assert (found.tracking_uri, found.ray_address, found.dagster_url) == (
        "http://mlflow:5000",
        "ray://head:10001",
        "https://dagster.example",
    )
