"""Where this process keeps and finds things. Everything has an embedded default; the environment
overrides it.

Credentials never pass through here: fsspec, obstore, pyarrow and MLflow read them from the
environment themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from configs.schema import ConfigError, Strict

# where one of two writers can be kept out
STORES = ("file", "s3", "gs", "gcs", "az", "abfs", "abfss")


class Settings(Strict):
    """URIs of the services that a run uses."""

    storage: str = Field(
        description=(
            "root of all data, fsspec URI (KINOGRAPH_STORAGE; default: .kinograph in the working"
            " directory)"
        )
    )
    tracking_uri: str = Field(
        repr=False,
        description=(
            "MLflow tracking store (MLFLOW_TRACKING_URI; default: SQLite in the local home)"
        ),
    )
    home: Path = Field(
        description="local folder for Dagster and SQLite (KINOGRAPH_HOME; default: .kinograph)"
    )
    ray_address: str | None = Field(
        None, description="an existing Ray cluster (RAY_ADDRESS); none starts a local one"
    )
    dagster_url: str = Field(
        "http://127.0.0.1:3000",
        description="how links to Dagster runs begin (KINOGRAPH_DAGSTER_URL)",
    )
    mlflow_url: str = Field(
        "http://127.0.0.1:5000", description="how links to MLflow runs begin (KINOGRAPH_MLFLOW_URL)"
    )

    @property
    def artifacts(self) -> str:
        """Where MLflow artifacts go when the tracking store is ours to set up."""
        return f"{self.storage}/mlflow"


def variable(name: str) -> str | None:
    """The environment's value; None where the variable is absent or empty, as compose files and
    batch scripts pass on what is not set.
    """
    value = os.environ.get(name, "")
    return value if value.strip() else None


def absolute(name: str, value: str) -> Path:
    """The absolute path of a folder.

    Args:
        name: of the variable that the folder comes from, for the message.
        value: the path; `~` is the home folder, and a relative one is below the working folder.

    Raises:
        ConfigError: it cannot be told.
    """
    try:
        return Path(value).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:
        reason = "the working folder is gone" if isinstance(error, FileNotFoundError) else error
        raise ConfigError("environment", name, value, f"an absolute path ({reason})") from error


def _uri(value: str) -> str:
    if "://" in value:
        return value.rstrip("/")
    return str(absolute("KINOGRAPH_STORAGE", value))


def settings() -> Settings:
    """Settings of this process, read from the environment on every call."""
    home = absolute("KINOGRAPH_HOME", variable("KINOGRAPH_HOME") or ".kinograph")
    storage = _uri(variable("KINOGRAPH_STORAGE") or str(home))
    scheme = storage.split("://", 1)[0] if "://" in storage else "file"
    if scheme not in STORES or storage.removesuffix(":") in STORES:  # of `s3://` nothing is left
        raise ConfigError(
            "environment",
            "KINOGRAPH_STORAGE",
            storage,
            "a local path, file://, s3://, gs:// or az://",
        )
    return Settings(
        storage=storage.removeprefix("file://"),
        tracking_uri=variable("MLFLOW_TRACKING_URI") or f"sqlite:///{home}/mlflow.db",
        home=home,
        ray_address=variable("RAY_ADDRESS"),
        dagster_url=(variable("KINOGRAPH_DAGSTER_URL") or "http://127.0.0.1:3000").rstrip("/"),
        mlflow_url=(variable("KINOGRAPH_MLFLOW_URL") or "http://127.0.0.1:5000").rstrip("/"),
    )
