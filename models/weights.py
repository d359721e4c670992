"""Published weights: checkpoints in the original authors' key names, in and out, strictly.

How each family's tensors are called there is in `models.keymaps`, apart from the models.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoints import PublishedWeightsError, read_checkpoint
from models.keymaps.images import image_names

__all__ = [
    "LoadReport", "PublishedWeightsError", "below", "complaint", "export_published", "keymap", "load_imagenet", "load_published",
    "misfit", "original_names", "settled", "unwrap",
]  # fmt: skip

_COUNTER = "num_batches_tracked"
# Classifiers of image networks, and what follows from their window sizes.
_IMAGE_HEAD = re.compile(r"^(fc|head|head_dist|classifier|cls_head|pre_logits|ln_post)\.|^proj$|(attn_mask|relative_position_index)$")
_WRAPPERS = ("state_dict_ema", "state_dict", "model_state", "model", "module")
_LISTED = 12


@dataclass(frozen=True)
class LoadReport:
    """What a load did. `ignored` and `defaulted` hold the checkpoint's key names."""

    source: str
    loaded: int
    ignored: tuple[str, ...] = ()
    defaulted: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.source}: {self.loaded} tensors loaded"
        if self.ignored:
            text += f", {len(self.ignored)} not used ({', '.join(self.ignored)})"
        return text + (f", {len(self.defaulted)} batch counters absent there" if self.defaulted else "")


def load_published(model: nn.Module, source: Mapping[str, Any] | str | Path) -> LoadReport:
    """Loads a checkpoint in the original key names; the model is unchanged unless everything fits.

    `source` is a mapping of key to tensor (or numpy array), or a file that `read_checkpoint` takes; `state_dict`, `model_state`, `model`
    or `module` around it and `module.` before every key are taken off. Raises PublishedWeightsError with all missing, unexpected and
    misshapen keys, and for unreadable files; FileNotFoundError. Batch counters may be absent, all of them: older files have none.
    """
    return _load(model, original_names(model), source)


def export_published(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's tensors under their original names and in their order: the inverse of `load_published`."""
    state = model.state_dict()
    return {original: state[ours].detach().clone() for ours, original in original_names(model).items()}


def load_imagenet(model: nn.Module, source: Mapping[str, Any] | str | Path) -> LoadReport:
    """Starts a model from an image network: torchvision's ResNet and DenseNet, timm's ViT and Swin, mmpretrain's MobileOne and
    MobileNetV2, CLIP's image encoder, each for the families that are made of it.

    What looks along time and the classifier stay fresh. 2D kernels are spread evenly over time (UniFormer's: put into the middle), tables
    of distances repeated along it, and a first convolution with other channels than RGB gets their mean. The image network's own
    classifier is not used, nor are batch counters where our norms are frozen and have none.
    Errors are those of `load_published`; also for a family that starts from no image network.
    """
    names, state = image_names(model), model.state_dict()
    if not names:
        raise PublishedWeightsError(f"a {type(model).__name__} is made of no image network that ImageNet weights are known for")
    where = str(source) if isinstance(source, (str, Path)) else "mapping"
    found = below(unwrap(read_checkpoint(source) if isinstance(source, (str, Path)) else source))
    centred = getattr(keymap(model), "IN_THE_MIDDLE", False)
    grown = {original: _grown(found[original], state[ours], centred) for ours, original in names.items() if original in found}
    ours_of: dict[str, list[str]] = {}
    for ours, original in names.items():
        ours_of.setdefault(original, []).append(ours)
    missing = [original for original in ours_of if original not in found and not original.endswith(_COUNTER)]
    counters = {key for key in found if key.endswith(_COUNTER) and key.replace(_COUNTER, "running_var") in ours_of}  # of norms frozen here
    rest = [key for key in found if key not in ours_of and key not in counters]
    unexpected = [key for key in rest if not _IMAGE_HEAD.search(key)]
    misfits = [
        problem for ours, original in names.items() if original in grown and (problem := misfit(original, grown[original], state[ours]))
    ]
    if missing or unexpected or misfits:
        raise PublishedWeightsError(complaint(where, type(model).__name__, missing, unexpected, misfits))
    model.load_state_dict(
        {ours: grown[original] for original, owners in ours_of.items() if original in grown for ours in owners}, strict=False
    )
    defaulted = tuple(original for original in ours_of if original not in found)
    return LoadReport(where, len(grown), tuple(rest), defaulted)


def below(found: dict[str, Any]) -> dict[str, Any]:
    """Tensors below `backbone.` or `visual.` where the checkpoint has such, without that prefix."""
    for prefix in ("backbone.", "visual."):
        if any(key.startswith(prefix) for key in found):
            return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return found


def _grown(image: Any, ours: Tensor, centred: bool) -> Any:
    """An image network's tensor in the shape of ours where that is one of its extensions; else as it is.

    `centred` puts a 2D kernel into the middle frame of ours instead of a share of it into every frame.
    """
    if not isinstance(image, Tensor):
        return image
    if image.ndim == 4 and ours.ndim == 5:  # a kernel over frames that are all alike does what the 2D one did
        spread = image[:, :, None].expand(-1, -1, ours.shape[2], -1, -1)
        if centred:
            middle = torch.arange(ours.shape[2], device=image.device) == ours.shape[2] // 2
            image = spread * middle[None, None, :, None, None]
        else:
            image = spread / ours.shape[2]
    if image.ndim == 4 and ours.ndim == 4 and image.shape[1] == 3 and ours.shape[1] != 3:
        image = image.mean(1, keepdim=True).expand(-1, ours.shape[1], -1, -1)
    if image.ndim == 2 and ours.ndim == 2 and image.shape[1] == ours.shape[1] and ours.shape[0] % image.shape[0] == 0:
        image = image.repeat(ours.shape[0] // image.shape[0], 1)
    return image


def original_names(model: nn.Module) -> dict[str, str]:
    """Our key -> original key, in the original's order. Raises PublishedWeightsError for a model of no published family."""
    return keymap(model).original_names(model)


def keymap(model: nn.Module) -> ModuleType:
    """`models.keymaps.<family>`; the family is the module that the model's class is in."""
    name = f"models.keymaps.{type(model).__module__.rpartition('.')[2]}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise PublishedWeightsError(f"{type(model).__name__}: found no key map {name}; expected a published family's model") from error


def _load(model: nn.Module, names: dict[str, str], source: Mapping[str, Any] | str | Path) -> LoadReport:
    where = str(source) if isinstance(source, (str, Path)) else "mapping"
    found, ignored = settled(model, unwrap(read_checkpoint(source) if isinstance(source, (str, Path)) else source))
    state = model.state_dict()
    if any(tensor.is_meta for tensor in state.values()):
        raise PublishedWeightsError(f"{where}: the model is on the meta device and cannot hold weights; move it with to_empty() first")
    counters = tuple(original for original in names.values() if original.endswith(_COUNTER))
    defaulted = counters if not any(original in found for original in counters) else ()
    missing = [original for original in names.values() if original not in found and original not in defaulted]
    unexpected = [key for key in found if key not in set(names.values())]
    present = {ours: original for ours, original in names.items() if original in found}
    misfits = [problem for ours, original in present.items() if (problem := misfit(original, found[original], state[ours]))]
    if missing or unexpected or misfits:
        raise PublishedWeightsError(complaint(where, type(model).__name__, missing, unexpected, misfits))
    fresh = {ours: state[ours].new_zeros(()) for ours, original in names.items() if original in defaulted}
    tables = {ours: own for ours, own in state.items() if ours not in names and not own.is_floating_point()}  # follow from the Config
    model.load_state_dict(tables | {ours: found[original] for ours, original in present.items()} | fresh, strict=True)
    return LoadReport(where, len(present), ignored, defaulted)


def settled(model: nn.Module, found: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The checkpoint's tensors under the names of `original_names`, for families whose originals have had others, too; and the keys of
    those that the model makes for itself."""
    rename = getattr(keymap(model), "settled", None)
    return (dict(found), ()) if rename is None else rename(model, found)


def unwrap(found: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint's tensors by name, without what is around them and before every name."""
    for wrapper in _WRAPPERS:
        if isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    prefix = "module." if found and all(str(key).startswith("module.") for key in found) else ""
    return {
        str(key).removeprefix(prefix): torch.as_tensor(value) if isinstance(value, np.ndarray) else value for key, value in found.items()
    }


def misfit(key: str, found: Any, expected: Tensor) -> str | None:
    """What is wrong with one value, or None. Floats of another precision are converted; integers must be integers."""
    if not isinstance(found, Tensor):
        return f"{key}: found a {type(found).__name__}, expected a tensor of shape {tuple(expected.shape)}"
    if found.shape != expected.shape:
        return f"{key}: found shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if found.is_meta or found.is_floating_point() != expected.is_floating_point():
        return f"{key}: found {'a meta tensor' if found.is_meta else found.dtype}, expected {expected.dtype}"
    return None


def complaint(where: str, model: str, missing: list[str], unexpected: list[str], misfits: list[str]) -> str:
    """The message of what does not fit, a dozen keys of each kind."""
    lines = [f"{where} does not fit {model}:"]
    for title, keys in (("missing", missing), ("unexpected", unexpected), ("do not fit", misfits)):
        if keys:
            lines += [f"  {len(keys)} {title}:", *(f"    {key}" for key in keys[:_LISTED])]
            lines += [f"    ... and {len(keys) - _LISTED} more"] if len(keys) > _LISTED else []
    return "\n".join(lines)
