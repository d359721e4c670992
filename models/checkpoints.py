"""Reading checkpoint files without running anything that is in them."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import ModelError

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_ENDINGS = (".pth", ".pt", ".pth.tar", ".pyth", ".bin", ".safetensors")
_MAX_HEADER = 100 * 2**20


class _Log:
    """Stands in for the log that a training framework leaves in its checkpoints; takes anything and keeps nothing."""

    def __setstate__(self, state: object) -> None:
        """Forget it."""


# Plain values beside the weights of older files: numpy's arrays and numbers. None of these runs what a file says.
_PLAIN: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?"))]
for _package in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _PLAIN += [(np.float64(0).__reduce__()[0], f"{_package}.scalar"), (np.zeros(1).__reduce__()[0], f"{_package}._reconstruct")]
_PLAIN.append((_Log, "mmengine.logging.history_buffer.HistoryBuffer"))


class PublishedWeightsError(ModelError):
    """A checkpoint that cannot be read or does not fit the model; the message lists what is wrong."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds, on the CPU: `.safetensors`, or torch's under one of its usual endings.

    Raises FileNotFoundError, or PublishedWeightsError for a damaged file, one that holds more than tensors and plain values
    (pickled code is refused, never run), and for another kind of file.
    """
    path = Path(path)
    if not path.name.endswith(_ENDINGS):
        raise PublishedWeightsError(f"{path}: found a '{path.suffix}' file; allowed: {', '.join(_ENDINGS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file")
    value = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(value, Mapping):
        raise PublishedWeightsError(f"{path}: found a {type(value).__name__}; expected a mapping of names to tensors")
    return dict(value)


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error: ")[-1].splitlines()[0]
        raise PublishedWeightsError(
            f"{path}: damaged, or holds objects other than tensors and plain values, which are never run: {reason}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        # A damaged zip or pickle stream fails in any of these ways; none of them is a fault of the caller's code.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PublishedWeightsError(f"{path}: damaged or truncated, {path.stat().st_size} bytes: {reason}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """The format: a little-endian u64 header length, a JSON header, then the tensors' bytes at the header's offsets."""
    data = bytearray(path.read_bytes())
    try:
        length = int.from_bytes(data[:8], "little")
        if len(data) < 8 or not 0 < length <= min(_MAX_HEADER, len(data) - 8):
            raise ValueError(f"a header of {length} bytes in a file of {len(data)} bytes")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        return {name: _tensor(data, 8 + length, name, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublishedWeightsError(f"{path}: damaged or truncated safetensors file: {error}") from error


def _tensor(data: bytearray, base: int, name: str, entry: dict[str, Any]) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], [int(size) for size in entry["shape"]]
    start, end = (int(offset) for offset in entry["data_offsets"])
    count = math.prod(shape)
    if not 0 <= start <= end <= len(data) - base or end - start != count * dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"tensor '{name}' of {dtype} {shape} lies at bytes {start} to {end} of {len(data) - base}")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data[base + start : base + end], dtype=dtype).reshape(shape)
