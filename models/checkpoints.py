"""Reading checkpoint files without running anything that is in them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import ModelError

_ENDINGS = (".pth", ".pt", ".pth.tar", ".pyth", ".bin", ".safetensors")
_WRAPPERS = ("state_dict_ema", "state_dict", "model_state", "model", "module")


class _Log:
    """Stands in for the log that a training framework leaves in its checkpoints; takes anything and
    keeps nothing.
    """

    def __setstate__(self, state: object) -> None:
        """Forget it."""


# Plain values beside the weights of older files: numpy's arrays and numbers. None of these runs
# what a file says.
_PLAIN: list[Any] = [
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")),
]
for _package in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _PLAIN += [
        (np.float64(0).__reduce__()[0], f"{_package}.scalar"),
        (np.zeros(1).__reduce__()[0], f"{_package}._reconstruct"),
    ]
_PLAIN.append((_Log, "mmengine.logging.history_buffer.HistoryBuffer"))


class PublishedWeightsError(ModelError):
    """A checkpoint that cannot be read or does not fit the model; the message lists what is
    wrong.
    """


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds, on the CPU: `.safetensors`, or torch's under one of its usual
    endings.

    Raises FileNotFoundError, or PublishedWeightsError for a damaged file, one that holds more than
    tensors and plain values (pickled code is refused, never run), and for another kind of file.
    """
    path = Path(path)
    if not path.name.endswith(_ENDINGS):
        raise PublishedWeightsError(
            f"{path}: found a '{path.suffix}' file; allowed: {', '.join(_ENDINGS)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file")
    value = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(value, Mapping):
        raise PublishedWeightsError(
            f"{path}: found a {type(value).__name__}; expected a mapping of names to tensors"
        )
    return dict(value)


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error: ")[-1].splitlines()[0]
        raise PublishedWeightsError(
            f"{path}: damaged, or holds objects other than tensors and plain values, which are"
            f" never run: {reason}"
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        # A damaged zip or pickle stream fails in any of these ways; none of them is a fault of the
        # caller's code.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PublishedWeightsError(
            f"{path}: damaged or truncated, {path.stat().st_size} bytes: {reason}"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    # the last one for a dtype that torch does not have
    except (SafetensorError, OSError, KeyError) as error:
        raise PublishedWeightsError(
            f"{path}: damaged or truncated safetensors file: {error}"
        ) from error


def named_tensors(source: Mapping[str, Any] | str | Path) -> tuple[str, dict[str, Any]]:
    """What to call a checkpoint in a report, and its tensors by name, without what is around them
    and before every name.

    Errors are those of `read_checkpoint`.
    """
    where, found = (
        (str(source), read_checkpoint(source))
        if isinstance(source, (str, Path))
        else ("mapping", source)
    )
    for wrapper in _WRAPPERS:
        if isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    prefix = "module." if found and all(str(key).startswith("module.") for key in found) else ""
    return where, {
        str(key).removeprefix(prefix): (
            torch.as_tensor(value) if isinstance(value, np.ndarray) else value
        )
        for key, value in found.items()
    }
