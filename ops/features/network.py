"""The recognition models that features come from: found by name, loaded strictly, run without
gradients.

A model has `features(x)`, from (B, 3, T, H, W) to (B, D), or to (B, T, D) with a feature per frame,
which are averaged.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

import configs
import models
from configs.schema import (
    ConfigError,
    Extraction,
    Extractor,
    RecognitionRecipe,
    Transforms,
    content_hash,
)
from configs.settings import Settings
from models.weights import load_published
from ops.data.transforms import check, fixed_views
from ops.files.storage import local_copy, sha256_of

PIXELS = ("short_side", "crop", "interpolation", "mean", "std")


@dataclass(frozen=True)
class Source:
    """A model to extract with, small enough to travel: `weights` is a safetensors file, `sha256`
    that of the file it came from.

    `version` is the registry URI of the very version, where the registry gave it: an alias moves
    on.
    """

    reference: str
    recipe: RecognitionRecipe
    transforms: Transforms
    sampled_frames: int
    sha256: str
    weights: bytes
    version: str | None = None

    @property
    def key(self) -> str:
        """Hash of the weights and of all else that changes a feature."""
        recipe = self.recipe
        return content_hash(
            [
                self.sha256,
                recipe.family,
                recipe.num_classes,
                recipe.model,
                self.pixels,
                self.sampled_frames,
            ]
        )

    @property
    def pixels(self) -> dict[str, Any]:
        """What of the transforms reaches a window: the rest is for training."""
        return {name: getattr(self.transforms, name) for name in PIXELS}

    def facts(self) -> dict[str, Any]:
        """What is noted beside the features."""
        facts = {
            "model": self.reference,
            "weights_sha256": self.sha256,
            "recipe": self.recipe.name,
            "recipe_key": self.recipe.key(),
        }
        facts |= {"version": self.version} if self.version else {}
        return {
            **facts,
            "family": self.recipe.family,
            "sampled_frames": self.sampled_frames,
            **self.pixels,
        }


def resolve(extraction: Extraction, num_frames: int, settings: Settings) -> Source:
    """The model that the extraction names, as it stands now: an alias may have moved since the last
    time.

    Args:
        extraction: a model by registry URI, run folder or a recipe's name with the checkpoint.
        num_frames: of a window, which the model's frames are sampled from.
        settings: name the registry.

    Raises:
        ConfigError: the model is not there or does not fit.
        PublishedWeightsError: a checkpoint does not fit.
        StorageError: a store does not answer.
        TrackingError: MLflow does not answer.
    """
    model = extraction.model
    known = not _is_place(model) and model in configs.names("recognition")
    if extraction.checkpoint is not None and not known:
        raise ConfigError(
            "features",
            "extract.checkpoint",
            extraction.checkpoint,
            "nothing here: the model brings its own weights",
        )
    if model.startswith("models:/"):
        return _source(extraction, num_frames, _from_registry(model, settings))
    if not known:
        return _source(extraction, num_frames, _from_run(model))
    recipe = configs.load(model)
    assert isinstance(recipe, RecognitionRecipe)
    return _source(extraction, num_frames, _published(extraction, recipe))


def resolve_pinned(extractor: Extractor, num_frames: int, settings: Settings) -> Source:
    """The very model that features were made by, wherever aliases point now; needs nothing of the
    catalogue.

    Args:
        extractor: what was noted of it: the registry's version, else any that holds the same
            weights; a run folder or a checkpoint that still has them.
        num_frames: of a window, which the model's frames are sampled from.
        settings: name the registry.

    Raises:
        ConfigError: these weights are nowhere.
        StorageError: a store does not answer.
        TrackingError: MLflow does not answer.
    """
    extraction, wanted = extractor.extraction, extractor.sha256
    if extraction.checkpoint is not None and extractor.recipe is not None:
        found = _published(extraction, RecognitionRecipe.model_validate(extractor.recipe))
    elif extraction.checkpoint is not None:
        return resolve(extraction, num_frames, settings)
    elif extractor.model.startswith("models:/"):
        found = _from_registry(_pinned(extractor, settings), settings)
    else:
        found = _from_run(extractor.model)
    if wanted is not None and found.sha256 != wanted:
        raise ConfigError(
            "features",
            "extract.model",
            f"{extractor.model}, other weights now",
            f"the weights with sha256 {wanted}",
        )
    return _source(extraction, num_frames, found)


class _Found(NamedTuple):
    recipe: RecognitionRecipe
    sha256: str
    weights: bytes
    version: str | None = None


def _source(extraction: Extraction, num_frames: int, found: _Found) -> Source:
    transforms = extraction.transforms or found.recipe.transforms
    check(transforms)
    frames = extraction.sampled_frames or found.recipe.sampling.num_frames
    if frames > num_frames:
        allowed = (
            f"at most num_frames = {num_frames}, the frames of a window ({found.recipe.name} sees"
            f" {found.recipe.sampling.num_frames})"
        )
        raise ConfigError(
            f"features of {extraction.model}", "extract.sampled_frames", frames, allowed
        )
    return Source(
        extraction.model,
        found.recipe,
        transforms,
        frames,
        found.sha256,
        found.weights,
        found.version,
    )


def _pinned(extractor: Extractor, settings: Settings) -> str:
    from ops.tracking.artifacts import MissingModelError, pinned_uri

    try:
        return pinned_uri(extractor, settings)
    except MissingModelError as error:
        raise ConfigError(
            "features", "extract.model", extractor.model, f"a model that is still there ({error})"
        ) from error


def _is_place(model: str) -> bool:
    """Whether the name can only be a registry's or a folder's: then the catalogue is not asked."""
    return model.startswith("models:/") or "/" in model


def _from_registry(model: str, settings: Settings) -> _Found:
    from ops.tracking.artifacts import MissingModelError, downloaded, located
    from ops.tracking.connect import shown
    from ops.training.run_folder import RECIPE, WEIGHTS, read_as

    try:
        version = located(model, settings).version
        with downloaded(version or model, settings, needed=(WEIGHTS, RECIPE)) as folder:
            recipe = read_as(RecognitionRecipe, str(folder / RECIPE))
            return _Found(
                recipe, sha256_of(folder / WEIGHTS), (folder / WEIGHTS).read_bytes(), version
            )
    except MissingModelError as error:
        allowed = (
            f"a model of the registry at {shown(settings.tracking_uri)}, promoted before ({error})"
        )
        raise ConfigError("features", "extract.model", model, allowed) from error


def _from_run(folder: str) -> _Found:
    from ops.training.run_folder import read_as

    folder = folder.rstrip("/")
    try:
        recipe = read_as(RecognitionRecipe, f"{folder}/recipe.json")
        with local_copy(f"{folder}/model.safetensors") as path:
            return _Found(recipe, sha256_of(path), path.read_bytes())
    except FileNotFoundError as error:
        allowed = (
            "models:/<name>@<alias>, the name of a recognition recipe, or the folder of a finished"
            " training run"
        )
        raise ConfigError("features", "extract.model", folder, allowed) from error


def _published(extraction: Extraction, recipe: RecognitionRecipe) -> _Found:
    if extraction.checkpoint is None:
        raise ConfigError(
            "features",
            "extract.checkpoint",
            None,
            f"path or URI of published weights for recipe {recipe.name}",
        )
    network = models.build(recipe)
    with local_copy(extraction.checkpoint) as path:
        load_published(network, path)
        return _Found(
            recipe,
            sha256_of(path),
            save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}),
        )


class Network:
    """A model on its device, in evaluation mode. On a GPU it runs in bfloat16, elsewhere in
    float32.
    """

    def __init__(self, source: Source, device: torch.device) -> None:
        """Raises ConfigError for weights that do not fit, and for a model without `features`."""
        self.source, self.device = source, device
        self.model = models.build(source.recipe).eval()
        if not hasattr(self.model, "features"):
            raise ConfigError(
                f"recipe {source.recipe.name}",
                "family",
                source.recipe.family,
                "a family whose models have features(x)",
            )
        try:
            self.model.load_state_dict(load(source.weights))
        except (RuntimeError, SafetensorError) as error:
            first = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"weights of {source.reference}",
                "(whole file)",
                first,
                f"those of recipe {source.recipe.name}",
            ) from error
        self.model.to(device)

    def prepare(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [n, H, W, 3] -> float32 [3, n, S, S]: resized, centre crop, normalised."""
        return fixed_views(frames, self.source.transforms, 1)[0]

    def features(self, windows: np.ndarray) -> np.ndarray:
        """Windows float32 [B, 3, F, S, S] -> features float32 [B, D]."""
        network: Any = self.model
        gpu = self.device.type == "cuda"
        with (
            torch.inference_mode(),
            torch.autocast("cuda", torch.bfloat16) if gpu else nullcontext(),
        ):
            found = network.features(torch.from_numpy(windows).to(self.device, non_blocking=True))
        if (
            not isinstance(found, torch.Tensor)
            or found.ndim not in (2, 3)
            or len(found) != len(windows)
        ):
            shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise ConfigError(
                f"recipe {self.source.recipe.name}",
                "family",
                f"features of shape {shape}",
                "(B, D) or (B, T, D)",
            )
        found = found.float()
        return (found.mean(1) if found.ndim == 3 else found).cpu().numpy()


def device() -> torch.device:
    """The GPU of this process, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
