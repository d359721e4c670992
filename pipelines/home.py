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
# `dagster dev -m` names a code location after its module; runs, schedules and links belong to a location by name.
WORKSPACE_YAML = """\
# Written once by `kinograph`; yours to change. `kinograph ui` loads it.
load_from:
  - python_module: {module_name: pipelines.definitions, location_name: kinograph}
"""


def prepare_home(settings: configs.Settings) -> Path:
    """Point this process, and all that it starts, at one Dagster home and one storage root; returns the home."""
    home = Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").expanduser().resolve()
    home.mkdir(parents=True, exist_ok=True)
    for name, text in (("dagster.yaml", DAGSTER_YAML), ("workspace.yaml", WORKSPACE_YAML)):
        if not (home / name).exists():
            (home / name).write_text(text, encoding="utf-8")
    # Absolute from here on: code servers and Ray workers have working directories of their own.
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["KINOGRAPH_HOME"] = str(settings.home)
    os.environ["KINOGRAPH_STORAGE"] = settings.storage
    os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
    if own := os.environ.get("KINOGRAPH_CONFIGS"):
        os.environ["KINOGRAPH_CONFIGS"] = str(Path(own).expanduser().resolve())
    return home
