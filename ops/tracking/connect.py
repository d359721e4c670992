"""Reaching MLflow: one client per process, a database that is created once, an experiment per
task.
"""

from __future__ import annotations

import fcntl
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote, urlsplit

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from configs.errors import KinographError
from configs.settings import Settings

SECRETS = re.compile(
    r"([?&;][\w.-]*(?:pass|pwd|token|secret|key|sig|credential)[\w.-]*)=[^&;\s'\"]*", re.IGNORECASE
)


class TrackingError(KinographError, ValueError):
    """MLflow cannot be used as it is set up: says which setting is at fault and what to do. Never
    holds a password.
    """


class NoDatabaseError(TrackingError):
    """Nothing was tracked there yet, or the file was removed."""


def shown(uri: str) -> str:
    """The URI, or a text with URIs in it, without users and passwords, for messages: a password may
    hold any sign but a blank.
    """
    return SECRETS.sub(r"\1=***", re.sub(r"://(?!/)[^\s'\"]*@", "://", uri))


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between the processes of one machine; the file stays, empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def private_file(path: Path) -> None:
    """Make an empty file that only its owner can read: a database grows in it. One that is there
    stays as it is.
    """
    # a place that is read alone has its file, or an error that the database tells
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def absolute(tracking_uri: str) -> str:
    """The URI with a relative SQLite path made absolute: a Ray worker has another working
    directory.
    """
    if not tracking_uri.startswith("sqlite:///") or tracking_uri.startswith("sqlite:////"):
        return tracking_uri
    return f"sqlite:///{Path(tracking_uri.removeprefix('sqlite:///')).absolute()}"


def client(tracking_uri: str) -> MlflowClient:
    """The process's client of this tracking store, which is the model registry too. Raises
    TrackingError.
    """
    return _client(absolute(tracking_uri))


@lru_cache(maxsize=8)
def _client(tracking_uri: str) -> MlflowClient:
    """Opened once. A SQLite database is created when it is missing (3 s of migrations), under a
    lock: a second process that meets a half-migrated database would refuse it as out of date.
    """
    if tracking_uri.startswith(("http://", "https://")):
        _check_server(tracking_uri)
        return MlflowClient(tracking_uri, registry_uri=tracking_uri)
    if tracking_uri.startswith("sqlite:///"):
        path = Path(tracking_uri.removeprefix("sqlite:///").split("?")[0])
        with lock(path.with_name(path.name + ".lock")):
            private_file(path)
            return _open_store(tracking_uri)
    if "://" not in tracking_uri or tracking_uri.startswith("file:"):
        raise TrackingError(
            f"MLFLOW_TRACKING_URI: found {shown(tracking_uri)!r}; allowed: sqlite:///<file>,"
            " postgresql://..., http://... (MLflow no longer writes runs into a plain folder)"
        )
    return _open_store(tracking_uri)


def reader(tracking_uri: str) -> MlflowClient:
    """A client that only reads, for whoever may not write there: it makes no database, no lock and
    no row. Raises TrackingError.

    A SQLite file is opened read-only, also in a folder that is not ours to write in; other stores
    have rules of their own.
    """
    tracking_uri = absolute(tracking_uri)
    return _reader(tracking_uri) if tracking_uri.startswith("sqlite:///") else _client(tracking_uri)


@lru_cache(maxsize=8)
def _reader(tracking_uri: str) -> MlflowClient:
    path, _, query = tracking_uri.removeprefix("sqlite:///").partition("?")
    if not Path(path).is_file() or not Path(path).stat().st_size:
        raise NoDatabaseError(
            f"MLFLOW_TRACKING_URI: there is no database at {path}: nothing was tracked there yet,"
            " or it was removed"
        )
    options = "&".join(filter(None, (query, "mode=ro", "uri=true")))
    # with the driver's name MLflow makes no folder for it
    return _open_store(f"sqlite+pysqlite:///file:{quote(path)}?{options}")


def _open_store(tracking_uri: str) -> MlflowClient:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        opened = MlflowClient(tracking_uri, registry_uri=tracking_uri)
        opened.search_experiments(max_results=1)
    # ValueError: an address that is none, as a port of letters
    except (MlflowException, SQLAlchemyError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrackingError(
            f"MLFLOW_TRACKING_URI: cannot open {shown(tracking_uri)}: {shown(cause)}"
        ) from None
    return opened


def check_reachable(tracking_uri: str) -> None:
    """Raise TrackingError at once where a server does not answer, instead of after MLflow's own
    minute of retries.
    """
    if tracking_uri.startswith(("http://", "https://")):
        _check_server(tracking_uri)


def _check_server(tracking_uri: str) -> None:
    """One quick question before MLflow starts its own minute of retries."""
    try:
        request = urllib.request.Request(shown(tracking_uri).rstrip("/") + "/health")
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError:
        # it answers; whether it lets us in is MLflow's to find out, with the credentials of the
        # environment
        return
    # HTTPException and ValueError: an address that is none
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"MLFLOW_TRACKING_URI: no MLflow server answers at {shown(tracking_uri)} ({reason});"
            " start one there, or unset the variable to use the local database"
        ) from None


def experiment(settings: Settings, name: str) -> Experiment:
    """The experiment of this name, made when missing.

    Its artifacts lie in `settings.artifacts`, except where an MLflow server keeps its own artifact
    store. The caller holds `creation_lock`. Raises TrackingError when the experiment was deleted:
    MLflow keeps its name and refuses a second one.
    """
    store = client(settings.tracking_uri)
    found = store.get_experiment_by_name(name)
    if found is None:
        served = settings.tracking_uri.startswith(("http://", "https://"))
        store.create_experiment(
            name, artifact_location=None if served else _artifact_location(settings, name)
        )
        found = store.get_experiment_by_name(name)
        assert found is not None
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow experiment {name!r} (id {found.experiment_id}) is deleted; restore it with"
            f" `mlflow experiments restore --experiment-id {found.experiment_id}` or remove it for"
            " good with `mlflow gc`"
        )
    return found


def _artifact_location(settings: Settings, name: str) -> str:
    root = f"{settings.artifacts}/{name}"
    return root if urlsplit(root).scheme else Path(root).resolve().as_uri()


def creation_lock(settings: Settings) -> Path:
    """Lock file for every find-or-create of this machine."""
    return settings.home / "locks" / "mlflow.lock"


def run_url(settings: Settings, run_id: str, experiment_id: str) -> str:
    """Link to the run in the MLflow UI."""
    return f"{settings.mlflow_url}/#/experiments/{experiment_id}/runs/{run_id}"


def dagster_url(settings: Settings, dagster_run_id: str) -> str:
    """Link to the run in the Dagster UI."""
    return f"{settings.dagster_url}/runs/{dagster_run_id}"
