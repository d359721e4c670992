"""Published weights: checkpoints in the original authors' key names, in and out, strictly.

How each family's tensors are called there is in `models.keymaps`, apart from the models. Whatever
is loaded is loaded by `fit`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from models.checkpoints import PublishedWeightsError, named_tensors

__all__ = [
    "PublishedWeightsError",
    "Report",
    "export_published",
    "fit",
    "keymap",
    "load_published",
    "original_names",
]

COUNTER = "num_batches_tracked"
_LISTED = 12


@dataclass(frozen=True)
class Report:
    """What a load did. `fresh` maps our keys that keep their values to the reason; `unused` and
    `defaulted` hold the checkpoint's keys: those that nothing here needs, and batch counters that
    it lacks, which begin at 0.
    """

    source: str
    kind: str
    loaded: int
    fresh: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    defaulted: tuple[str, ...] = ()
    selected: str = ""

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.loaded} tensors loaded as {self.kind}"]
        lines += [f"  {self.selected}"] if self.selected else []
        for reason in dict.fromkeys(self.fresh.values()):
            lines.append(
                f"  fresh: {_places(key for key, why in self.fresh.items() if why == reason)}"
                f" ({reason})"
            )
        lines += [f"  not used: {_places(self.unused)}"] if self.unused else []
        return "\n".join(
            lines
            + ([f"  {len(self.defaulted)} batch counters absent there"] if self.defaulted else [])
        )


def load_published(model: nn.Module, source: Mapping[str, Any] | str | Path) -> Report:
    """Loads a checkpoint in the original key names; the model is unchanged unless everything fits.

    Batch counters may be absent, all of them: older files have none.

    Args:
        model: of a published family, on a device that holds numbers.
        source: key to tensor (or numpy array), or a file that `read_checkpoint` takes;
            `state_dict`, `model_state`, `model` or `module` around it and `module.` before every
            key are taken off.

    Raises:
        PublishedWeightsError: with all missing, unexpected and misshapen keys, and for unreadable
            files.
        FileNotFoundError: there is no such file.
    """
    where, found = named_tensors(source)
    names = original_names(model)
    found, tables = canonical_keys(model, found)
    return replace(fit(model, found, names, source=where), unused=tables)


def export_published(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's tensors under their original names and in their order: the inverse of
    `load_published`.
    """
    state = model.state_dict()
    return {
        original: state[ours].detach().clone() for ours, original in original_names(model).items()
    }


def fit(
    model: nn.Module,
    found: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    source: str = "mapping",
    kind: str = "the published network",
    optional: Mapping[str, str] | None = None,
    unused: Callable[[str], object] | None = None,
    adapt: Callable[[str, Any, Tensor], Any] | None = None,
) -> Report:
    """Loads a checkpoint's tensors into a model, all that belong there or none.

    Args:
        model: takes the weights; unchanged where anything does not fit.
        found: the checkpoint, key to tensor.
        names: our key -> key of the checkpoint; several of ours may take the same one.
        source: where the checkpoint is, for the report.
        kind: what it was read as, for the report.
        optional: our keys that may be absent there and keep their values then -> why. All other
            learnt numbers must be there; what follows from the model's Config (integers without a
            name) need not. Batch counters may be absent, all of them.
        unused: says of a key without a place here whether the checkpoint may have it; None allows
            none.
        adapt: (checkpoint's key, its tensor, ours) -> the tensor in our shape, where it can be had;
            None takes all as they are.

    Raises:
        PublishedWeightsError: with all that is missing, unexpected or does not fit; also for a
            model on the meta device.
    """
    state, optional = model.state_dict(), optional or {}
    if any(tensor.is_meta for tensor in state.values()):
        raise PublishedWeightsError(
            f"{source}: the model is on the meta device and cannot hold weights; move it with"
            " to_empty() first"
        )
    values = {
        ours: adapt(key, found[key], state[ours]) if adapt else found[key]
        for ours, key in names.items()
        if key in found
    }
    counters = [ours for ours in names if ours.endswith(COUNTER) and ours not in optional]
    zeroed = counters if not any(ours in values for ours in counters) else []
    learnt = [
        *names,
        *(ours for ours, own in state.items() if ours not in names and own.is_floating_point()),
    ]
    absent = [ours for ours in learnt if ours not in values and ours not in zeroed]
    missing = list(dict.fromkeys(names.get(ours, ours) for ours in absent if ours not in optional))
    places = set(names.values())
    rest = [key for key in found if key not in places]
    unexpected = [key for key in rest if unused is None or not unused(key)]
    misfits = [
        problem
        for ours, value in values.items()
        if (problem := _check_tensor(names[ours], value, state[ours]))
    ]
    if missing or unexpected or misfits or not values:
        raise PublishedWeightsError(mismatch_message(source, model, missing, unexpected, misfits))
    model.load_state_dict(
        values | {ours: state[ours].new_zeros(()) for ours in zeroed}, strict=False
    )
    fresh = {ours: optional[ours] for ours in absent if not ours.endswith(COUNTER)}
    return Report(
        source, kind, len(values), fresh, tuple(rest), tuple(names[ours] for ours in zeroed)
    )


def original_names(model: nn.Module) -> dict[str, str]:
    """Our key -> original key, in the original's order. Raises PublishedWeightsError for a model of
    no published family.
    """
    return keymap(model).original_names(model)


def keymap(model: nn.Module) -> ModuleType:
    """`models.keymaps.<family>`; the family is the module that the model's class is in."""
    name = f"models.keymaps.{type(model).__module__.rpartition('.')[2]}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise PublishedWeightsError(
            f"{type(model).__name__}: found no key map {name}; expected a published family's model"
        ) from error


def canonical_keys(
    model: nn.Module, found: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A checkpoint under the names of `original_names`, for families whose originals have had
    others, too.

    Args:
        model: of a published family, which says what the names are.
        found: the checkpoint, key to tensor.

    Returns:
        The tensors under those names, and the keys of those that the model makes for itself.
    """
    rename = getattr(keymap(model), "canonical_keys", None)
    return (found, ()) if rename is None else rename(model, found)


def _check_tensor(key: str, found: Any, expected: Tensor) -> str | None:
    """What is wrong with one value, or None. Floats of another precision are converted; integers
    must be integers.
    """
    if not isinstance(found, Tensor):
        return (
            f"{key}: found a {type(found).__name__}, expected a tensor of shape"
            f" {tuple(expected.shape)}"
        )
    if found.shape != expected.shape:
        return f"{key}: found shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if found.is_meta or found.is_floating_point() != expected.is_floating_point():
        return (
            f"{key}: found {'a meta tensor' if found.is_meta else found.dtype}, expected"
            f" {expected.dtype}"
        )
    return None


def mismatch_message(
    source: str,
    model: nn.Module,
    missing: Sequence[str],
    unexpected: Sequence[str],
    misfits: Sequence[str],
) -> str:
    """What does not fit, a dozen keys of each kind.

    Args:
        source: where the checkpoint is.
        model: named by its class.
        missing: keys that the model needs and the checkpoint lacks.
        unexpected: the checkpoint's keys without a place in the model.
        misfits: a key each with what is wrong with it, in words.
    """
    lines = [f"{source} does not fit {type(model).__name__}:"]
    for title, keys in (("missing", missing), ("unexpected", unexpected), ("do not fit", misfits)):
        if keys:
            lines += [f"  {len(keys)} {title}:", *(f"    {key}" for key in keys[:_LISTED])]
            lines += [f"    ... and {len(keys) - _LISTED} more"] if len(keys) > _LISTED else []
    return "\n".join(lines)


def _places(keys: Iterable[str]) -> str:
    """Keys as places with their numbers: scene.trunk.layer1 (50), ..."""
    counted = [
        (place, len(list(group)))
        for place, group in groupby(sorted(keys), key=lambda key: ".".join(key.split(".")[:3]))
    ]
    return ", ".join(f"{place} ({number})" if number > 1 else place for place, number in counted)
