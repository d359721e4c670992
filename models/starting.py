"""Weights that a training starts from: a checkpoint of the same network for other classes, of its trunk alone, of a pre-training, or of
the image network that the family is made of.

Stricter than it sounds: apart from the classifier, and from what a pre-training has no use for, everything has to fit, and the report
says what stays fresh.
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

from models.checkpoints import PublishedWeightsError, read_checkpoint
from models.keymaps.images import image_names
from models.weights import below, complaint, keymap, load_imagenet, misfit, original_names, settled, unwrap

BACKBONE = "backbone."
# What a pre-training has beside the network: classifiers of images, decoders, targets.
_UNUSED = re.compile(
    r"^(fc|head|head_dist|classifier|neck|decoder|encoder_to_decoder|target_generator|data_preprocessor)\.|(^|\.)mask_token$|^encoder\.norm\."
)
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Names:
    """One way to name the model's tensors: our key -> key of the file. Those below `optional` may be absent there and stay fresh then."""

    kind: str
    keys: dict[str, str]
    optional: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class StartReport:
    """What a start took over. `fresh` maps our keys that keep their random weights to the reason."""

    source: str
    kind: str
    loaded: int
    fresh: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused: tuple[str, ...] = ()
    selected: str = ""

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.loaded} tensors loaded as {self.kind}"]
        lines += [f"  {self.selected}"] if self.selected else []
        lines += [f"  fresh: {key} ({why})" for key, why in self.fresh.items()]
        if self.unused:
            lines.append(f"  not used: {', '.join(self.unused[:8])}{' ...' if len(self.unused) > 8 else ''}")
        return "\n".join(lines)


def start_from(model: nn.Module, source: Mapping[str, Any] | str | Path, channels: Sequence[int] | None = None) -> StartReport:
    """Start the model from a checkpoint, a mapping or a .pth, .pt, .pth.tar, .pyth or .safetensors file.

    How its tensors are named is found out: as the original authors name the whole network, the same without `backbone.`, as a
    pre-training or a related family names them, or as an image network. A classifier of another number of classes stays fresh, or
    takes the rows that `channels` names (one of the file's classes for each of ours). Raises PublishedWeightsError for what does not
    fit and for unreadable files, FileNotFoundError; the model is unchanged then.
    """
    where = str(source) if isinstance(source, (str, Path)) else "mapping"
    found, tables = settled(model, unwrap(read_checkpoint(source) if isinstance(source, (str, Path)) else source))
    candidates = _names(model)
    counts = [_fitting(names, found, model.state_dict()) for names in candidates]
    if _is_image_network(model, found, max(counts)):
        image = load_imagenet(model, found)
        named = image_names(model)
        fresh = {key: "not in an image network" for key, own in model.state_dict().items() if key not in named and own.is_floating_point()}
        return StartReport(where, "an image network", image.loaded, fresh, image.ignored + tables)
    report = _load(model, candidates[counts.index(max(counts))], where, found, channels)
    return dataclasses.replace(report, unused=report.unused + tables)


def _is_image_network(model: nn.Module, found: Mapping[str, Any], others: int) -> bool:
    """Whether more of the file's names are those of the image network that the family is made of, and none of its kernels spans time.

    Where the names are the trunk's own, a network that spans time tells itself from one that does not.
    """
    state = model.state_dict()
    learnt = {original for ours, original in image_names(model).items() if state[ours].is_floating_point()}
    count = len(learnt & set(below(dict(found))))
    if not count or _spans_time(found.values()):
        return False
    return count > others or (count == others and _spans_time(state.values()))


def _spans_time(tensors: Iterable[Any]) -> bool:
    return any(isinstance(tensor, Tensor) and tensor.ndim == 5 and tensor.shape[2] > 1 for tensor in tensors)


def head_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Our keys of the tensors that depend on the number of classes -> how much each of their sides grows with a class more.

    None for a model without a `config` that names its number of classes.
    """
    config = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config) or isinstance(config, type) or not hasattr(config, "num_classes"):
        return {}
    with torch.device("meta"):
        more = sys.modules[type(model).__module__].build(dataclasses.replace(config, num_classes=config.num_classes + 1)).state_dict()
    grown = {key: tuple(b - a for a, b in zip(own.shape, more[key].shape, strict=True)) for key, own in model.state_dict().items()}
    return {key: growth for key, growth in grown.items() if any(growth)}


def _names(model: nn.Module) -> list[Names]:
    published = original_names(model)
    trunk = {ours: key.removeprefix(BACKBONE) for ours, key in published.items() if key.startswith(BACKBONE)}
    rest = tuple(ours for ours in published if ours not in trunk)
    candidates = [Names("the published network", published)]
    if trunk:
        candidates.append(Names("its trunk", trunk, rest))
    module = keymap(model)
    if hasattr(module, "starting_names"):
        candidates += [Names(*one) for one in module.starting_names(model)]
    return candidates


def _fitting(names: Names, found: Mapping[str, Any], state: Mapping[str, Tensor]) -> int:
    """How many of the file's names these are; what is no learnt number (counters, indices) proves nothing."""
    learnt = [key for ours, key in names.keys.items() if state[ours].is_floating_point()]
    return max(sum(prefix + key in found for key in learnt) for prefix in names.prefixes)


def _load(model: nn.Module, names: Names, where: str, found: dict[str, Any], channels: Sequence[int] | None) -> StartReport:
    prefix = max(names.prefixes, key=lambda one: sum(one + key in found for key in names.keys.values()))
    keys = {ours: prefix + key for ours, key in names.keys.items()}
    state, heads = model.state_dict(), head_shapes(model)
    values = {ours: _stretched(key, found[key], state[ours]) for ours, key in keys.items() if key in found}
    values, fresh, selected = _classes(values, state, heads, where, channels)
    without_head = not any(ours in values or ours in fresh for ours in heads)
    optional = names.optional + (tuple(heads) if without_head else ())
    absent = [ours for ours in keys if ours not in values and ours not in fresh]
    counters = [ours for ours in absent if ours.endswith(_COUNTER)]
    no_counters = not any(ours.endswith(_COUNTER) for ours in values)
    missing = [keys[ours] for ours in absent if not _below_any(ours, optional) and not (no_counters and ours in counters)]
    unexpected = [key for key in found if key not in set(keys.values())]
    unused = tuple(key for key in unexpected if without_head and _UNUSED.search(key))  # what has a classifier of ours is another network
    misfits = [problem for ours, value in values.items() if (problem := misfit(keys[ours], value, state[ours]))]
    wrong = [key for key in unexpected if key not in unused]
    if missing or wrong or misfits or not values:
        raise PublishedWeightsError(complaint(where, type(model).__name__, missing, wrong, misfits))
    model.load_state_dict(values, strict=False)
    outside = [ours for ours, own in state.items() if ours not in keys and ours not in fresh and own.is_floating_point()]
    fresh |= {ours: "not in the file" for ours in [*absent, *outside] if ours not in counters}
    return StartReport(where, names.kind, len(values), fresh, unused, selected)


def _below_any(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith(place) for place in places)


def _classes(
    values: dict[str, Any], state: Mapping[str, Tensor], heads: Mapping[str, tuple[int, ...]], where: str, channels: Sequence[int] | None
) -> tuple[dict[str, Any], dict[str, str], str]:
    """The values with rows of the classifier selected, or without them where they are of another number of classes."""
    other: dict[str, tuple[int, int]] = {}
    for ours, growth in heads.items():
        value = values.get(ours)
        if isinstance(value, Tensor) and value.ndim == len(growth) and value.shape != state[ours].shape:
            sides = list(zip(value.shape, state[ours].shape, growth, strict=True))
            if all(theirs == own for theirs, own, grows in sides if not grows):
                other[ours] = next((theirs // grows, own // grows) for theirs, own, grows in sides if grows)
    if not other:
        return values, {}, ""
    if channels is None:
        fresh = {ours: f"{theirs} classes there, {own} here" for ours, (theirs, own) in other.items()}
        return {ours: value for ours, value in values.items() if ours not in other}, fresh, ""
    wide = [ours for ours in other if sorted(heads[ours])[-1] > 1 or sum(map(bool, heads[ours])) > 1]
    theirs, own = next(iter(other.values()))
    if wide or len(channels) != own or not all(0 <= channel < theirs for channel in channels):
        problem = f"{wide[0]} has no row for each class" if wide else f"{len(channels)} channels up to {max(channels, default=-1)}"
        raise PublishedWeightsError(f"{where}: {own} of its {theirs} classes cannot be selected: found {problem}")
    rows = torch.as_tensor(list(channels))
    chosen = {ours: values[ours].index_select(heads[ours].index(1), rows) for ours in other}
    return values | chosen, {}, f"classifier: {own} of its {theirs} classes selected"


def _stretched(key: str, value: Any, ours: Tensor) -> Any:
    """A table of relative positions in the length of ours; anything else as it is."""
    if not isinstance(value, Tensor) or ".rel_pos_" not in key or value.ndim != 2 or value.shape[1] != ours.shape[1]:
        return value
    if len(value) == len(ours):
        return value
    return F.interpolate(value.float().T[None], size=len(ours), mode="linear")[0].T
