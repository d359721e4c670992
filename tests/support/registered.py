"""A look at the registry as a test wants it: who holds an alias."""

from __future__ import annotations

from mlflow.exceptions import MlflowException

from configs import Settings
from ops.tracking.connect import client
from ops.tracking.registry import Registered, _registered


def find_version(name: str, alias: str, settings: Settings) -> Registered | None:
    """The version that holds the alias, or None."""
    try:
        version = client(settings.tracking_uri).get_model_version_by_alias(name, alias)
    except MlflowException:
        return None
    return _registered(version)
