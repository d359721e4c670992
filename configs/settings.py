"""Where this process keeps and finds things. Everything has an embedded default; the environment overrides it.

Credentials never pass through here: fsspec, obstore, pyarrow and MLflow read them from the environment themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from configs.schema import ConfigError, Strict


class Settings(Strict):
    """URIs of the services that a run uses."""

    storage: str = Field(description="root of all data, fsspec URI (KINOGRAPH_STORAGE; default: .kinograph in the working directory)")
    tracking_uri: str = Field(description="MLflow tracking store (MLFLOW_TRACKING_URI; default: SQLite in the local home)")
    home: Path = Field(description="local folder for Dagster and SQLite (KINOGRAPH_HOME; default: .kinograph)")
    ray_address: str | None = Field(None, description="an existing Ray cluster (RAY_ADDRESS); none starts a local one")
    dagster_url: str = Field("http://127.0.0.1:3000", description="how links to Dagster runs begin (KINOGRAPH_DAGSTER_URL)")
    mlflow_url: str = Field("http://127.0.0.1:5000", description="how links to MLflow runs begin (KINOGRAPH_MLFLOW_URL)")

    @property
    def artifacts(self) -> str:
        """Where MLflow artifacts go when the tracking store is ours to set up."""
        return f"{self.storage}/mlflow"


def _uri(value: str) -> str:
    if "://" in value:
        return value.rstrip("/")
    return str(Path(value).expanduser().resolve())


def settings() -> Settings:
    """Settings of this process, read from the environment on every call."""
    env = os.environ
    home = Path(env.get("KINOGRAPH_HOME", ".kinograph")).expanduser().resolve()
    storage = _uri(env.get("KINOGRAPH_STORAGE", str(home)))
    scheme = storage.split("://", 1)[0] if "://" in storage else "file"
    if scheme not in ("file", "s3"):
        raise ConfigError("environment", "KINOGRAPH_STORAGE", storage, "a local path, file:// or s3://")
    return Settings(
        storage=storage.removeprefix("file://"),
        tracking_uri=env.get("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db"),
        home=home,
        ray_address=env.get("RAY_ADDRESS"),
        dagster_url=env.get("KINOGRAPH_DAGSTER_URL", "http://127.0.0.1:3000").rstrip("/"),
        mlflow_url=env.get("KINOGRAPH_MLFLOW_URL", "http://127.0.0.1:5000").rstrip("/"),
    )
