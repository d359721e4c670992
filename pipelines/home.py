"""The local home of Dagster: a folder with its SQLite storage and a configuration that neither
reports nor nags.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import configs
from configs.settings import absolute, variable

DAGSTER_YAML = """\
# Written once by `kinograph`; yours to change. Postgres storage, run launchers and concurrency go here.
telemetry: {enabled: false}
nux: {enabled: false}
"""  # noqa: E501
# `dagster dev -m` names a code location after its module; runs, schedules and links belong to a
# location by name.
WORKSPACE_YAML = """\
# Written once by `kinograph`; yours to change. `kinograph ui` loads it.
load_from:
  - python_module: {module_name: pipelines.definitions, location_name: kinograph%s}
"""
LEAST_BYTES = 32 * 2**20  # what the databases of a small run need


def prepare_home(settings: configs.Settings, reads: bool = False) -> Path:
    """Point this process, and all that it starts, at one Dagster home and one storage root; returns
    the home.

    Folders that are made here are their owner's alone: databases hold addresses and names.

    Args:
        settings: name both.
        reads: a command that only reads makes no folder.

    Raises:
        ConfigError: a folder cannot be made or written, or its disk is full; names the variable.
    """
    given = variable("DAGSTER_HOME")
    home = absolute("DAGSTER_HOME", given) if given else settings.home / "dagster"
    if not reads:
        _check_tracking(settings)
        own_folder("KINOGRAPH_HOME", settings.home)
        own_folder("DAGSTER_HOME" if given else "KINOGRAPH_HOME", home)
        if "://" not in settings.storage:
            own_folder("KINOGRAPH_STORAGE", Path(settings.storage), mode=0o777)  # often a team's
        for name, text in (
            ("dagster.yaml", DAGSTER_YAML),
            ("workspace.yaml", workspace_yaml(home)),
        ):
            if (
                not (home / name).exists()
                or (home / name).read_text(encoding="utf-8") == WORKSPACE_YAML % ""
            ):
                (home / name).write_text(text, encoding="utf-8")
    # Absolute from here on: code servers and Ray workers have working directories of their own.
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["KINOGRAPH_HOME"] = str(settings.home)
    os.environ["KINOGRAPH_STORAGE"] = settings.storage
    os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
    if own := variable("KINOGRAPH_CONFIGS"):
        os.environ["KINOGRAPH_CONFIGS"] = str(absolute("KINOGRAPH_CONFIGS", own))
    return home


def _check_tracking(settings: configs.Settings) -> None:
    uri = settings.tracking_uri
    if uri == f"sqlite:///{settings.home}/mlflow.db" and "?" in uri:
        raise configs.ConfigError(
            "environment",
            "KINOGRAPH_HOME",
            str(settings.home),
            "a path without '?', which ends a database's name",
        )
    if "://" not in uri or uri.startswith("file:"):
        allowed = (
            "sqlite:///<file>, postgresql://..., http://... (MLflow no longer writes runs into a"
            " plain folder)"
        )
        raise configs.ConfigError(
            "environment", "MLFLOW_TRACKING_URI", re.sub("[^/]*@", "", uri), allowed
        )


def workspace_yaml(home: Path) -> str:
    """What Dagster's code servers load. They look for modules first in the working directory that
    is named here: one without code.
    """
    return WORKSPACE_YAML % f", working_directory: {json.dumps(str(home))}"


def own_folder(variable_name: str, path: Path, mode: int = 0o700) -> None:
    """Make a folder, its owner's alone unless `mode` says otherwise; one that is there stays as it
    is.

    Raises ConfigError, naming the variable.
    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        free = shutil.disk_usage(path).free
    except OSError as error:
        raise configs.ConfigError(
            "environment",
            variable_name,
            str(path),
            f"a folder that can be written ({error.strerror})",
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise configs.ConfigError(
            "environment",
            variable_name,
            str(path),
            "a folder that can be written (permission denied)",
        )
    # what a run stores is its own reckoning
    if free < LEAST_BYTES and variable_name != "KINOGRAPH_STORAGE":
        found = f"{path} with {free / 2**20:.0f} MB free"
        raise configs.ConfigError(
            "environment",
            variable_name,
            found,
            f"a folder on a disk with {LEAST_BYTES // 2**20} MB free",
        )
