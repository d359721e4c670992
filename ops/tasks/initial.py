"""The weights that a training starts from, where the recipe names some."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from models.checkpoints import read_checkpoint
from models.weights import export_published, load_imagenet, load_published
from ops.store.files import StorageError, local_copy

log = logging.getLogger(__name__)
HEAD = "cls_head."  # of the original key names


def load_initial(model: nn.Module, uri: str | None) -> None:
    """Load `training.init_from`: a checkpoint of the same family, or an ImageNet ResNet in torchvision's names.

    A classifier of another number of classes stays fresh (fine-tuning); everything else has to fit. Raises
    PublishedWeightsError (a ValueError) for what does not fit, FileNotFoundError, StorageError. A web address is downloaded
    once, into torch's cache of checkpoints.
    """
    if uri is None:
        return
    with _on_this_machine(uri) as path:
        weights = read_checkpoint(path)
    weights = weights.get("state_dict", weights)
    if "conv1.weight" in weights:
        log.info("%s", load_imagenet(model, weights))
        return
    fresh = {
        key: tensor
        for key, tensor in export_published(model).items()
        if key.startswith(HEAD) and key in weights and weights[key].shape != tensor.shape
    }
    report = load_published(model, {**weights, **fresh})
    log.info("%s: %s; fresh: %s", uri, report, ", ".join(fresh) or "nothing")


@contextmanager
def _on_this_machine(uri: str) -> Iterator[Path]:
    if not uri.startswith(("https://", "http://")):
        with local_copy(uri) as path:
            yield path
        return
    cached = Path(torch.hub.get_dir(), "checkpoints", uri.rpartition("/")[2])
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(uri, str(cached), progress=False)  # by a temporary file beside it
        except (OSError, RuntimeError) as error:
            raise StorageError(uri, f"the starting weights cannot be downloaded: {error}") from error
    yield cached
