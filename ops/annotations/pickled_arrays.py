"""Numpy arrays inside a pickle: what stands for them until their content has come, and the arrays
over their bytes.

Numbers and text only; an array of objects is a list. An array never takes more memory than its
bytes in the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU](0|[1-9]\d{0,3})|O8?)")


class Refused(Exception):
    """What is wrong with the pickle: (field, found)."""

    def __init__(self, field: str, found: object) -> None:
        super().__init__(field, found)
        self.field, self.found = field, found


@dataclass
class PickledType:
    """A numpy dtype, known in full only after its state has come."""

    code: str
    order: str = "="

    def numpy(self) -> np.dtype:
        code = self.code.lstrip("<>=|")
        return (
            np.dtype(object)
            if code.startswith("O")
            else np.dtype((self.order if self.order in "<>" else "") + code)
        )


@dataclass
class PickledArray:
    """A numpy array whose content has not come yet, or (`value`) has."""

    value: Any = None
    filled: bool = False


def plain_text(value: str) -> str:
    """Text that a table can hold. Raises UnicodeEncodeError for half a surrogate pair."""
    value.encode()
    return value


def _raw(value: Any) -> bytes:
    """Bytes of an array; Python 2's come as latin-1 text."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, bytes):
        raise Refused("array", f"content of type {type(value).__name__}")
    return value


def content(shape: Any, kind: Any, raw: Any, fortran: bool) -> Any:
    """An array over its bytes, or the list of an array of objects. Raises Refused."""
    if not isinstance(shape, tuple) or not isinstance(kind, PickledType) or len(shape) > 8:
        raise Refused("array", f"shape {shape!r:.80}")
    dtype = kind.numpy()
    if dtype.hasobject:
        if not isinstance(raw, list) or shape != (len(raw),):
            raise Refused("array", f"an array of objects of shape {shape!r:.80}")
        return raw
    data = _raw(raw)
    if any(not isinstance(side, int) or side < 0 or side > max(len(data), 16) for side in shape):
        raise Refused("array", f"shape {shape!r:.80} over {len(data)} bytes")
    count = int(np.prod([1, *shape], dtype=object))
    if count * dtype.itemsize != len(data) or (count and not dtype.itemsize):
        raise Refused("array", f"shape {shape} of {dtype} over {len(data)} bytes")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def pickled_type(arguments: tuple[Any, ...]) -> PickledType:
    """What `numpy.dtype(code, ...)` stands for. Raises Refused."""
    code = arguments[0]
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise Refused("dtype", code if isinstance(code, str) else type(code).__name__)
    return PickledType(code, code[0] if code[0] in "<>" else "=")


def scalar(arguments: tuple[Any, ...]) -> Any:
    """The Python value of a numpy scalar, from its type and bytes. Raises Refused."""
    kind, raw = arguments
    if not isinstance(kind, PickledType) or kind.numpy().hasobject:
        raise Refused("scalar", "not of a number or text type")
    value = content((), kind, raw, False).item()
    return plain_text(value) if isinstance(value, str) else value
