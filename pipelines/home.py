"""The local home of Dagster: a folder with its SQLite storage and a configuration that neither reports nor nags."""

from __future__ import annotations

import os
from pathlib import Path

import configs

DAGSTER_YAML = """\
# Written once by `kinograph`; yours to change. Postgres storage, run launchers and concurrency go here.
telemetry: {enabled: false}
nux: {enabled: false}
"""


def prepare_home(settings: configs.Settings) -> Path:
    """Point this process, and all that it starts, at one Dagster home and one storage root; returns the home."""
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(settings.home / "dagster")))
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(DAGSTER_YAML, encoding="utf-8")
    # Absolute from here on: code servers and Ray workers have working directories of their own.
    os.environ["KINOGRAPH_HOME"] = str(settings.home)
    os.environ["KINOGRAPH_STORAGE"] = settings.storage
    os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
    if own := os.environ.get("KINOGRAPH_CONFIGS"):
        os.environ["KINOGRAPH_CONFIGS"] = str(Path(own).expanduser().resolve())
    return home
