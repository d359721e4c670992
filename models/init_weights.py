"""Weights that a training starts from: a checkpoint of the same network for other classes, of its
trunk alone, of a pre-training, or of the image network that the family is made of.

Stricter than it sounds: apart from the classifier, and from what a pre-training has no use for,
everything has to fit, and the report says what stays fresh.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints import PublishedWeightsError, named_tensors
from models.keymaps.images import image_names
from models.weights import COUNTER, Report, canonical_keys, fit, keymap, original_names

BACKBONE = "backbone."
# What a pre-training has beside the network: classifiers of images, decoders, targets.
_UNUSED = re.compile(
    r"^(fc|head|head_dist|classifier|neck|decoder|encoder_to_decoder|target_generator|data_preprocessor)\.|(^|\.)mask_token$|^encoder\.norm\."
)
# Classifiers of image networks, and what follows from their window sizes.
_IMAGE_HEAD = re.compile(
    r"^(fc|head|head_dist|classifier|cls_head|pre_logits|ln_post)\.|^proj$|(attn_mask|relative_position_index)$"
)


@dataclass(frozen=True)
class Naming:
    """One way to name the model's tensors: our key -> key of the file. Those below `optional` may
    be absent there and stay fresh then.
    """

    kind: str
    keys: dict[str, str]
    optional: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)


def init_from(
    model: nn.Module, source: Mapping[str, Any] | str | Path, channels: Sequence[int] | None = None
) -> Report:
    """Start the model from a checkpoint.

    How its tensors are named is found out: as the original authors name the whole network, the same
    without `backbone.`, as a pre-training or a related family names them, or as an image network.

    Args:
        model: takes the weights; unchanged where anything does not fit.
        source: key to tensor, or a .pth, .pt, .pth.tar, .pyth, .bin or .safetensors file.
        channels: one of the file's classes for each of ours, whose rows a classifier of another
            number of classes gives; None leaves that classifier fresh.

    Raises:
        PublishedWeightsError: what does not fit, or a file that cannot be read.
        FileNotFoundError: there is no such file.
    """
    where, found = named_tensors(source)
    if (
        hasattr(module := keymap(model), "init_from")
        and (report := module.init_from(model, found, where)) is not None
    ):
        return report
    found, tables = canonical_keys(model, found)
    candidates = _names(model)
    counts = [_fitting(names, found, model.state_dict()) for names in candidates]
    if _is_image_network(model, found, max(counts)):
        report = load_imagenet(model, found)
    else:
        report = _load(model, candidates[counts.index(max(counts))], found, channels, where)
    return dataclasses.replace(report, source=where, unused=report.unused + tables)


def load_imagenet(model: nn.Module, source: Mapping[str, Any] | str | Path) -> Report:
    """Starts a model from an image network: torchvision's ResNet and DenseNet, timm's ViT and Swin,
    mmpretrain's MobileOne and MobileNetV2, CLIP's image encoder, each for the families that are
    made of it.

    What looks along time and the classifier stay fresh. 2D kernels are spread evenly over time
    (UniFormer's: put into the middle), tables of distances repeated along it, and a first
    convolution with other channels than RGB gets their mean. The image network's own classifier is
    not used, nor are batch counters where our norms are frozen and have none.

    Args:
        model: takes the weights; unchanged where anything does not fit.
        source: key to tensor, under the image network's own names, or a file that `read_checkpoint`
            takes.

    Raises:
        PublishedWeightsError: as `load_published`; also for a family that starts from no image
            network.
        FileNotFoundError: there is no such file.
    """
    names, state = image_names(model), model.state_dict()
    if not names:
        raise PublishedWeightsError(
            f"a {type(model).__name__} is made of no image network that ImageNet weights are"
            " known for"
        )
    where, found = named_tensors(source)
    places = set(names.values())
    found = {  # without the counters of norms that are frozen here
        key: value
        for key, value in strip_prefix(found).items()
        if key in places
        or not (key.endswith(COUNTER) and key.replace(COUNTER, "running_var") in places)
    }
    fresh = {
        ours: "not in an image network"
        for ours in state
        if ours not in names or ours.endswith(COUNTER)
    }
    centred = getattr(keymap(model), "IN_THE_MIDDLE", False)
    return fit(
        model,
        found,
        names,
        source=where,
        kind="an image network",
        optional=fresh,
        unused=_IMAGE_HEAD.search,
        adapt=lambda _, image, ours: _inflate(image, ours, centred),
    )


def _is_image_network(model: nn.Module, found: dict[str, Any], others: int) -> bool:
    """Whether more of the file's names are those of the image network that the family is made of,
    and none of its kernels spans time.

    Where the names are the trunk's own, a network that spans time tells itself from one that does
    not.
    """
    state = model.state_dict()
    learnt = {
        original for ours, original in image_names(model).items() if state[ours].is_floating_point()
    }
    count = len(learnt & set(strip_prefix(found)))
    if not count or _spans_time(found.values()):
        return False
    return count > others or (count == others and _spans_time(state.values()))


def _spans_time(tensors: Iterable[Any]) -> bool:
    return any(
        isinstance(tensor, Tensor) and tensor.ndim == 5 and tensor.shape[2] > 1
        for tensor in tensors
    )


def head_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Our keys of the tensors that depend on the number of classes -> how much each of their sides
    grows with a class more.

    None for a model without a `config` that names its number of classes.
    """
    config = getattr(model, "config", None)
    if (
        not dataclasses.is_dataclass(config)
        or isinstance(config, type)
        or not hasattr(config, "num_classes")
    ):
        return {}
    with torch.device("meta"):
        more = (
            sys.modules[type(model).__module__]
            .build(dataclasses.replace(config, num_classes=config.num_classes + 1))
            .state_dict()
        )
    grown = {
        key: tuple(b - a for a, b in zip(own.shape, more[key].shape, strict=True))
        for key, own in model.state_dict().items()
    }
    return {key: growth for key, growth in grown.items() if any(growth)}


def _names(model: nn.Module) -> list[Naming]:
    published = original_names(model)
    trunk = {
        ours: key.removeprefix(BACKBONE)
        for ours, key in published.items()
        if key.startswith(BACKBONE)
    }
    rest = tuple(ours for ours in published if ours not in trunk)
    candidates = [Naming("the published network", published)]
    if trunk:
        candidates.append(Naming("its trunk", trunk, rest))
    module = keymap(model)
    if hasattr(module, "init_names"):
        candidates += [Naming(*one) for one in module.init_names(model)]
    return candidates


def _fitting(names: Naming, found: Mapping[str, Any], state: Mapping[str, Tensor]) -> int:
    """How many of the file's names these are; what is no learnt number (counters, indices) proves
    nothing.
    """
    learnt = [key for ours, key in names.keys.items() if state[ours].is_floating_point()]
    return max(sum(prefix + key in found for key in learnt) for prefix in names.prefixes)


def _load(
    model: nn.Module,
    names: Naming,
    found: dict[str, Any],
    channels: Sequence[int] | None,
    where: str,
) -> Report:
    prefix = max(
        names.prefixes, key=lambda one: sum(one + key in found for key in names.keys.values())
    )
    keys = {ours: prefix + key for ours, key in names.keys.items()}
    state = model.state_dict()
    heads = {ours: growth for ours, growth in head_shapes(model).items() if ours in keys}
    without_head = not any(keys[ours] in found for ours in heads)
    optional = {
        ours: "not in the file"
        for ours in state
        if ours not in keys or ours.startswith(names.optional)
    }
    optional |= dict.fromkeys(heads, "not in the file") if without_head else {}
    other = _other_classes(found, keys, state, heads)
    if channels is None:
        optional |= {
            ours: f"{theirs} classes there, {own} here" for ours, (theirs, own) in other.items()
        }
        found = {
            key: value for key, value in found.items() if key not in {keys[ours] for ours in other}
        }
    elif other:
        found = found | _selected(found, keys, heads, other, channels, where)
    report = fit(
        model,
        found,
        keys,
        source=where,
        kind=names.kind,
        optional=optional,
        adapt=_stretched,
        # what has a classifier of ours is another network
        unused=_UNUSED.search if without_head else None,
    )
    if channels is None or not other:
        return report
    theirs, own = next(iter(other.values()))
    return dataclasses.replace(
        report, selected=f"classifier: {own} of its {theirs} classes selected"
    )


def _other_classes(
    found: Mapping[str, Any],
    keys: Mapping[str, str],
    state: Mapping[str, Tensor],
    heads: Mapping[str, tuple[int, ...]],
) -> dict[str, tuple[int, int]]:
    """Our keys of a classifier that is of another number of classes in the file -> their number
    there and here.
    """
    other: dict[str, tuple[int, int]] = {}
    for ours, growth in heads.items():
        value = found.get(keys[ours])
        if (
            isinstance(value, Tensor)
            and value.ndim == len(growth)
            and value.shape != state[ours].shape
        ):
            sides = list(zip(value.shape, state[ours].shape, growth, strict=True))
            if all(theirs == own for theirs, own, grows in sides if not grows):
                other[ours] = next(
                    (theirs // grows, own // grows) for theirs, own, grows in sides if grows
                )
    return other


def _selected(
    found: Mapping[str, Any],
    keys: Mapping[str, str],
    heads: Mapping[str, tuple[int, ...]],
    other: Mapping[str, tuple[int, int]],
    channels: Sequence[int],
    where: str,
) -> dict[str, Tensor]:
    """The file's key -> the rows `channels` of its classifier. Raises PublishedWeightsError where
    it has no such rows.
    """
    wide = [
        ours for ours in other if sorted(heads[ours])[-1] > 1 or sum(map(bool, heads[ours])) > 1
    ]
    theirs, own = next(iter(other.values()))
    if wide or len(channels) != own or not all(0 <= channel < theirs for channel in channels):
        problem = (
            f"{wide[0]} has no row for each class"
            if wide
            else f"{len(channels)} channels up to {max(channels, default=-1)}"
        )
        raise PublishedWeightsError(
            f"{where}: {own} of its {theirs} classes cannot be selected: found {problem}"
        )
    rows = torch.as_tensor(list(channels))
    return {
        keys[ours]: found[keys[ours]].index_select(heads[ours].index(1), rows) for ours in other
    }


def strip_prefix(found: dict[str, Any]) -> dict[str, Any]:
    """Tensors below `backbone.` or `visual.` where the checkpoint has such, without that prefix."""
    for prefix in ("backbone.", "visual."):
        if any(key.startswith(prefix) for key in found):
            return {
                key.removeprefix(prefix): value
                for key, value in found.items()
                if key.startswith(prefix)
            }
    return found


def _inflate(image: Any, ours: Tensor, centred: bool) -> Any:
    """An image network's tensor in the shape of ours where that is one of its extensions; else as
    it is.

    `centred` puts a 2D kernel into the middle frame of ours instead of a share of it into every
    frame.
    """
    if not isinstance(image, Tensor):
        return image
    # a kernel over frames that are all alike does what the 2D one did
    if image.ndim == 4 and ours.ndim == 5:
        spread = image[:, :, None].expand(-1, -1, ours.shape[2], -1, -1)
        if centred:
            middle = torch.arange(ours.shape[2], device=image.device) == ours.shape[2] // 2
            image = spread * middle[None, None, :, None, None]
        else:
            image = spread / ours.shape[2]
    if image.ndim == 4 and ours.ndim == 4 and image.shape[1] == 3 and ours.shape[1] != 3:
        image = image.mean(1, keepdim=True).expand(-1, ours.shape[1], -1, -1)
    if (
        image.ndim == 2
        and ours.ndim == 2
        and image.shape[1] == ours.shape[1]
        and ours.shape[0] % image.shape[0] == 0
    ):
        image = image.repeat(ours.shape[0] // image.shape[0], 1)
    return image


def _stretched(key: str, value: Any, ours: Tensor) -> Any:
    """A table of relative positions in the length of ours; anything else as it is."""
    if (
        not isinstance(value, Tensor)
        or ".rel_pos_" not in key
        or value.ndim != 2
        or value.shape[1] != ours.shape[1]
    ):
        return value
    if len(value) == len(ours):
        return value
    return F.interpolate(value.float().T[None], size=len(ours), mode="linear")[0].T
