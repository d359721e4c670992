"""The files of a model in MLflow: where they lie, what they were when they were logged, and whether
they still are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from configs.errors import KinographError
from configs.schema import Pinned
from configs.settings import Settings
from ops.files.storage import sha256_of
from ops.tracking.connect import absolute, reader, shown
from ops.training.run_folder import PROVENANCE, RECIPE, RECORD, VOCABULARY, WEIGHTS

WEIGHTS_SHA256 = "kinograph.weights_sha256"
FILES = "kinograph.files"  # tag: JSON, name -> [bytes, sha256]
NEEDED = (WEIGHTS, RECIPE, VOCABULARY)
# below artifacts/ of the model's folder; versions of before have no more than the needed
KNOWN = (*NEEDED, PROVENANCE, RECORD)


class MissingModelError(KinographError, LookupError):
    """No model under this URI, or none that can be read."""


class DamagedModelError(MissingModelError):
    """A model whose files are not those that were logged."""


@dataclass(frozen=True)
class Located:
    """A model's folder in MLflow, and what is known of its files: bytes (None: not noted) and
    sha256 by name.
    """

    location: str
    files: Mapping[str, tuple[int | None, str]] = field(repr=False)
    # 'models:/<name>/<number>', None for a logged model that is named by its id
    version: str | None = None

    @property
    def artifacts(self) -> str:
        """Folder of the files."""
        return f"{self.location.rstrip('/')}/artifacts"

    @property
    def sha256(self) -> str | None:
        """Of the weights, as they were logged; None where it was not noted."""
        return self.files[WEIGHTS][1] if WEIGHTS in self.files else None


def file_tags(folder: Path) -> dict[str, str]:
    """Tags that say what the files of a folder are."""
    stamps = {
        name: ((folder / name).stat().st_size, sha256_of(folder / name))
        for name in KNOWN
        if (folder / name).is_file()
    }
    return {FILES: json.dumps(stamps), WEIGHTS_SHA256: stamps[WEIGHTS][1]}


def tagged(tags: Mapping[str, str]) -> dict[str, tuple[int | None, str]]:
    """Bytes and sha256 by name, as the tags have them; of a model of before only the weights'
    sha256.
    """
    found: dict[str, tuple[int | None, str]]
    try:
        found = {
            name: (int(size), str(sha256))
            for name, (size, sha256) in json.loads(tags.get(FILES, "{}")).items()
        }
    except (ValueError, TypeError, AttributeError):
        found = {}
    return found or ({WEIGHTS: (None, tags[WEIGHTS_SHA256])} if WEIGHTS_SHA256 in tags else {})


def located(uri: str, settings: Settings) -> Located:
    """What MLflow says of a models:/ URI.

    Args:
        uri: models:/ and name@alias, name/version or a model's id.
        settings: name the tracking store, whatever MLflow's global one is.

    Raises:
        MissingModelError: there is no such model.
        TrackingError: MLflow does not answer.
    """
    store, name = reader(settings.tracking_uri), uri.removeprefix("models:/")
    try:
        if "@" not in name and "/" not in name:
            model = store.get_logged_model(name)
            return Located(model.artifact_location, tagged(model.tags))
        if "@" in name:
            name, _, alias = name.partition("@")
            version = store.get_model_version_by_alias(name, alias)
        else:
            version = store.get_model_version(*name.split("/", 1))
        if not version.source:
            raise MissingModelError(
                f"version {version.version} of {name} was deleted, and its alias was left behind"
            )
        location = store.get_model_version_download_uri(version.name, version.version)
        return Located(
            location, _of_version(store, version), f"models:/{version.name}/{version.version}"
        )
    except MlflowException as error:
        raise MissingModelError(error.message) from error


def _of_version(store: Any, version: Any) -> dict[str, tuple[int | None, str]]:
    """The version's own tags; for one of before those of the logged model behind it."""
    if (own := tagged(version.tags)) or not version.model_id:
        return own
    try:
        return tagged(store.get_logged_model(version.model_id).tags)
    except MlflowException:
        return {}


def version_with(name: str, sha256: str, settings: Settings) -> str | None:
    """URI of the newest version of a registered model that was logged with these weights. Raises
    TrackingError.
    """
    store = reader(settings.tracking_uri)
    for version in sorted(
        store.search_model_versions(f"name = '{name}'"), key=lambda version: -int(version.version)
    ):
        if _of_version(store, version).get(WEIGHTS, (None, None))[1] == sha256:
            return f"models:/{name}/{version.version}"
    return None


def pin(model: str, settings: Settings) -> Pinned:
    """The very version that a model's name stands for now; a run folder, or a name that stands for
    nothing, stays as it is.
    """
    if not model.startswith("models:/"):
        return Pinned(model=model)
    try:
        found = located(model, settings)
    except MissingModelError:
        return Pinned(model=model)
    return Pinned(model=found.version or model, sha256=found.sha256)


def pinned_uri(pinned: Pinned, settings: Settings) -> str:
    """Where the pinned model is now: its version, or another one of the same weights. Raises
    MissingModelError, TrackingError.
    """
    if not pinned.model.startswith("models:/"):
        return pinned.model
    try:
        noted = located(pinned.model, settings)
        if pinned.sha256 is None or noted.sha256 in (None, pinned.sha256):
            return noted.version or pinned.model
    except MissingModelError:
        if pinned.sha256 is None:
            raise
    name = pinned.model.removeprefix("models:/").partition("@")[0].partition("/")[0]
    if (
        pinned.sha256 is not None
        and (found := version_with(name, pinned.sha256, settings)) is not None
    ):
        return found
    where = shown(settings.tracking_uri)
    raise MissingModelError(
        f"{pinned.model}: the registry at {where} has no version with these weights any more"
        f" (sha256 {pinned.sha256})"
    )


def problems(model: Located, settings: Settings) -> list[str]:
    """What of the model's files is missing or not as it was logged, in words: sizes everywhere,
    contents on this machine.
    """
    try:
        repository = get_artifact_repository(
            model.artifacts, tracking_uri=absolute(settings.tracking_uri)
        )
        sizes = {
            Path(info.path).name: info.file_size
            for info in repository.list_artifacts()
            if not info.is_dir
        }
    except (MlflowException, OSError) as error:
        return [f"its files at {model.location} cannot be listed: {error}"]
    found = []
    folder = (
        Path(model.artifacts.removeprefix("file://"))
        if "://" not in model.artifacts.removeprefix("file://")
        else None
    )
    for name in dict.fromkeys((*NEEDED, *model.files)):
        size, sha256 = model.files.get(name, (None, None))
        if name not in sizes:
            found.append(f"{name} is missing")
        elif size is not None and sizes[name] is not None and sizes[name] != size:
            found.append(f"{name} has {sizes[name]} bytes of {size}")
        elif sha256 is not None and folder is not None and sha256_of(folder / name) != sha256:
            found.append(f"{name} is not what was logged (sha256)")
    return found


def restore(model: Located, folder: Path, settings: Settings) -> None:
    """Write the model's folder again where it was.

    Args:
        model: says where that is.
        folder: the whole model folder, as `ops.tracking.model.model_folder` makes it.
        settings: name the tracking store.

    Raises:
        MissingModelError: MLflow does not let us.
    """
    try:
        get_artifact_repository(
            model.location, tracking_uri=absolute(settings.tracking_uri)
        ).log_artifacts(str(folder))
    except (MlflowException, OSError) as error:
        raise MissingModelError(
            f"its files at {model.location} cannot be written again: {error}"
        ) from error


@contextmanager
def downloaded(uri: str, settings: Settings, needed: tuple[str, ...] = NEEDED) -> Iterator[Path]:
    """A local folder with the files KNOWN of a models:/ URI, as far as it has them, each compared
    with what was logged. Writes nothing into the store.

    Args:
        uri: as `located` takes it.
        settings: name the tracking store, whatever MLflow's global one is.
        needed: names of the files without which the caller can do nothing.

    Raises:
        MissingModelError: the model or a needed file is gone; DamagedModelError, a kind of it: a
            file is not the one that was logged.
        TrackingError: MLflow does not answer.
    """
    model = located(uri, settings)
    with tempfile.TemporaryDirectory(prefix="kinograph-") as scratch:
        try:
            copy = download_artifacts(
                model.artifacts, dst_path=scratch, tracking_uri=absolute(settings.tracking_uri)
            )
        except (MlflowException, OSError) as error:
            raise MissingModelError(
                f"its files at {model.location} cannot be read: {error}"
            ) from error
        folder = Path(copy)
        for name in dict.fromkeys((*needed, *model.files)):
            if not (folder / name).is_file():
                raise MissingModelError(f"its file {name} is gone from {model.artifacts}")
            if (wanted := model.files.get(name)) is not None and sha256_of(folder / name) != wanted[
                1
            ]:
                raise DamagedModelError(
                    f"its file {name} at {model.artifacts} is not the one that was logged: its"
                    " sha256 is another"
                )
        yield folder
