"""MLflow: does the tracking store answer, in which version, and can runs, artifacts and models be
kept there.
"""

from __future__ import annotations

import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.settings import Settings
from ops.doctor.finding import Finding, good, note, wrong
from ops.doctor.seen import shown

EXPERIMENT = "kinograph-doctor"  # one for all visits: MLflow keeps deleted ones
TEXT = "written by kinograph doctor"


def check(settings: Settings) -> Iterator[Finding]:
    """Open the store. A database file that is not there yet is tried in the temporary folder; a
    server gets an experiment and loses it.
    """
    from ops.tracking.connect import client

    path = _sqlite(settings.tracking_uri)
    if path is not None:
        with tempfile.TemporaryDirectory(prefix="kinograph-") as folder:
            there = path.exists()
            opened = client(settings.tracking_uri if there else f"sqlite:///{folder}/mlflow.db")
            yield _registry(
                opened,
                f"{path}" if there else f"{path}, not made yet (one was made elsewhere for trying)",
            )
        return
    opened = client(settings.tracking_uri)
    yield _server_version(settings.tracking_uri)
    yield _registry(opened, shown(settings.tracking_uri))
    yield from _kept(opened, settings.tracking_uri)


def _sqlite(uri: str) -> Path | None:
    return (
        Path(uri.removeprefix("sqlite:///").split("?")[0]) if uri.startswith("sqlite:///") else None
    )


def _registry(opened: Any, where: str) -> Finding:
    experiments = opened.search_experiments(max_results=1000)
    registered = opened.search_registered_models(max_results=100)
    return good(
        "MLflow", f"{where}: {len(experiments)} experiments, {len(registered)} registered models"
    )


def _server_version(uri: str) -> Finding:
    own = metadata.version("mlflow")
    if not uri.startswith("http"):
        return good("MLflow version", f"{own}, with its tables in {uri.split('://')[0]}")
    try:
        with urllib.request.urlopen(shown(uri).rstrip("/") + "/version", timeout=10) as answer:
            theirs = answer.read(64).decode(errors="replace").strip()
    except OSError as error:
        return note("MLflow version", f"{own} here; the server does not tell its own ({error})")
    if theirs.split(".")[0] != own.split(".")[0]:
        return wrong(
            "MLflow version",
            f"{own} here, {theirs} on the server",
            f"run a server of version {own.split('.')[0]}",
        )
    return good("MLflow version", f"{own} here, {theirs} on the server")


def _kept(opened: Any, tracking_uri: str) -> Iterator[Finding]:
    """An experiment, a run and an artifact, and all of them deleted."""
    found = opened.get_experiment_by_name(EXPERIMENT)
    if found is None:
        number = opened.create_experiment(EXPERIMENT)
    else:
        number = found.experiment_id
        if found.lifecycle_stage != "active":
            opened.restore_experiment(number)
    try:
        run = opened.create_run(number)
        opened.log_metric(run.info.run_id, "one", 1.0)
        yield good("MLflow runs", f"one was made in experiment {EXPERIMENT}")
        yield _artifact(opened, run, tracking_uri)
        opened.delete_run(run.info.run_id)
    finally:
        opened.delete_experiment(number)


def _artifact(opened: Any, run: Any, tracking_uri: str) -> Finding:
    name = f"{uuid.uuid4().hex[:12]}.txt"
    where = shown(run.info.artifact_uri)
    try:
        opened.log_text(run.info.run_id, TEXT, name)
        with tempfile.TemporaryDirectory(prefix="kinograph-") as folder:
            read = Path(opened.download_artifacts(run.info.run_id, name, folder)).read_text(
                encoding="utf-8"
            )
    except Exception as error:  # of whatever library the store's kind asks for
        advice = (
            "models and pictures go there: give this machine access to it, or start the server with"
            " --serve-artifacts"
        )
        return wrong(
            "MLflow artifacts",
            f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            advice,
        )
    finally:
        _delete(run.info.artifact_uri, name, tracking_uri)
    if read != TEXT:
        return wrong(
            "MLflow artifacts",
            f"{where}: a text reads back otherwise",
            "look at what serves the artifacts",
        )
    return good("MLflow artifacts", f"written and read at {where}")


def _delete(uri: str, name: str, tracking_uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with suppress(Exception):  # a store may keep what it was given; it is a line of text
        get_artifact_repository(uri, tracking_uri=tracking_uri).delete_artifacts(name)
