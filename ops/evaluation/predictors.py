"""A trained model of any task made ready for videos: out of the registry, or of a run folder."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from configs.errors import KinographError
from configs.settings import Settings
from ops.files.storage import local_copy, sha256_of
from ops.training.task import wing

if TYPE_CHECKING:
    import torch


class PredictionError(KinographError, ValueError):
    """A video or a model that cannot be used: names it and says why."""


class Predictor(Protocol):
    """A trained model with its recipe and vocabulary; each wing's `predictor` has one."""

    def on_video(self, path: Path) -> Any:
        """What it sees in a video file, typed by the task. Raises DecodeError, ValueError."""

    def lines(self, found: Any) -> list[str]:
        """What `on_video` gave, for a terminal: what matters most comes first."""


def load(model: str, settings: Settings, device: torch.device | None = None) -> Predictor:
    """The model of a registry URI or a run folder, whatever its task.

    Args:
        model: models:/<name>@<alias>, models:/<name>/<version>, or the folder of a training run.
        settings: name the registry.
        device: where the model lies; None is where its recipe's networks are served on this
            machine.

    Raises:
        PredictionError: there is no such model.
    """
    kind = _from_registry if model.startswith("models:/") else _from_run
    return kind(model.rstrip("/"), settings, device)


def _from_registry(model: str, settings: Settings, device: torch.device | None) -> Predictor:
    from ops.tracking.artifacts import DamagedModelError, MissingModelError, downloaded
    from ops.tracking.connect import shown

    try:
        with downloaded(model, settings) as folder:
            return _from_folder(folder, settings, device)
    except DamagedModelError as error:
        raise PredictionError(
            f"{model}: {error}; run the line again to mend it from its run folder, or log it again"
        ) from error
    except MissingModelError as error:
        raise PredictionError(
            f"{model}: not in the registry at {shown(settings.tracking_uri)} ({error})"
        ) from error


def _from_run(folder: str, settings: Settings, device: torch.device | None) -> Predictor:
    from ops.training.run_folder import PROVENANCE, RECIPE, VOCABULARY, WEIGHTS, checksums

    wanted = checksums(folder)
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="kinograph-") as scratch:
        for name in (WEIGHTS, RECIPE, VOCABULARY, PROVENANCE):
            try:
                path = stack.enter_context(local_copy(f"{folder}/{name}"))
                Path(scratch, name).symlink_to(path.resolve(strict=True))
            except FileNotFoundError as error:
                if name == PROVENANCE:
                    continue
                raise PredictionError(
                    f"{folder}: not the folder of a finished training run, nor a models:/ URI"
                    f" ({error})"
                ) from error
            if name in wanted and sha256_of(path) != wanted[name]:
                raise PredictionError(
                    f"{folder}/{name}: not what the training wrote: its sha256 is another"
                )
        return _from_folder(Path(scratch), settings, device)


def _from_folder(folder: Path, settings: Settings, device: torch.device | None) -> Predictor:
    from ops.training.run_folder import RECIPE, VOCABULARY, WEIGHTS

    return from_files(
        folder / WEIGHTS, folder / RECIPE, folder / VOCABULARY, settings, device=device
    )


def from_files(
    weights: Path,
    recipe: Path,
    vocabulary: Path,
    settings: Settings | None = None,
    provenance: Path | None = None,
    device: torch.device | None = None,
) -> Any:
    """The predictor of the recipe's task, of files on this machine; the models that MLflow keeps
    are opened by it too.

    Args:
        weights: model.safetensors.
        recipe: recipe.json.
        vocabulary: vocabulary.json.
        settings: lead to the models that it asks in its turn; None are the process's.
        provenance: provenance.json; None is the one beside the weights.
        device: as `load` takes it.

    Raises:
        ConfigError: as `ops.evaluation.weights.served` raises it.
        StorageError: a file is cut short.
    """
    from ops.evaluation.weights import served

    found = served(weights, recipe, vocabulary, provenance, device)
    return wing(found.recipe.task, "predictor").build(found, settings)
