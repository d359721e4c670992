"""Pickles of plain data, read without running anything: what a pickle asks to be called is never
called.

Some official annotations exist only as pickles. A pickle is a program, and `pickle.load` runs it
with every right of the user. Here its instructions are interpreted by hand, and only those that
build None, numbers, text, bytes, lists, tuples, dicts, sets and numpy arrays of numbers or text are
known. Pickles of Python 2 (bytes stand for latin-1 text) and 3, of protocols 0 to 5 and of numpy 1
and 2 are read.

Bounds: size of the file, number of instructions, nesting, and the size that the value has when
everything that it mentions twice is written out twice (a "billion laughs"). An array never takes
more memory than its bytes in the file. Dict keys and set members are text, bytes, whole numbers of
32 bits, None, or short tuples of these, so that nobody can choose keys that make a dict slow.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops.annotations.pickled_arrays import (
    PickledArray,
    PickledType,
    Refused,
    content,
    pickled_type,
    plain_text,
    scalar,
)
from ops.annotations.vocabulary import AnnotationError

BYTE_LIMIT = 2**30  # the largest official file is below 100 MB
INSTRUCTION_LIMIT = 5_000_000  # an official file has some 300,000
EXPANDED_LIMIT = 20_000_000  # values, when every mention is counted
DEPTH_LIMIT = 40
EXPECTED = (
    "a pickle of plain data: None, numbers, text, bytes, lists, tuples, dicts, sets and numpy"
    " arrays of numbers or text"
)

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
GLOBALS = {
    **{(module, name): name for module in _MULTIARRAY for name in ("_reconstruct", "scalar")},
    **{(module, "_frombuffer"): "_frombuffer" for module in _NUMERIC},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "dict",
    ("collections", "defaultdict"): "defaultdict",
    **{
        (module, name): name
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "list", "dict", "tuple", "bytes")
    },
}


@dataclass(frozen=True)
class _Name:
    """A global that a pickle names; nothing is imported."""

    kind: str


def load(data: bytes, file: str) -> Any:
    """The pickled value; numpy scalars come as Python's own, arrays of objects as lists. Arrays are
    read-only views of the data.

    Raises AnnotationError for a broken or truncated pickle, for one beyond the bounds, and for one
    that names anything else than plain data, which it then names.
    """
    if not data:
        raise AnnotationError(file, "(whole file)", "an empty file", EXPECTED)
    if len(data) > BYTE_LIMIT:
        raise AnnotationError(
            file, "(whole file)", f"{len(data)} bytes", f"at most {BYTE_LIMIT} bytes"
        )
    reader = _Reader(data)
    try:
        return _Finish().of(reader.run(), 0)[0]
    except Refused as refused:
        raise AnnotationError(file, refused.field, refused.found, EXPECTED) from refused
    except (IndexError, struct.error) as error:
        raise AnnotationError(
            file, f"byte {reader.at}", "the file ends or says nonsense here", "a whole pickle"
        ) from error
    except (
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        AttributeError,
        SyntaxError,
        RecursionError,
    ) as error:
        raise AnnotationError(
            file, f"byte {reader.at}", f"{type(error).__name__}: {error}"[:200], EXPECTED
        ) from error


class _Reader:
    """The pickle machine: a stack, a memo, and one method or table entry for each known
    instruction.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value on the stack at STOP."""
        data, table = self.data, _TABLE
        for _ in range(INSTRUCTION_LIMIT):
            code = data[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                return self.pop()
            action = table[code]
            if action is None:
                raise Refused(f"byte {self.at - 1}", f"instruction {code:#04x}")
            action(self)
        raise Refused("(whole file)", f"more than {INSTRUCTION_LIMIT} instructions")

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise IndexError("truncated")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def sized(self, form: str) -> bytes:
        """Bytes behind their length."""
        return self.take(self.number(form))

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.at)
        piece = self.data[self.at : end]
        self.at = end + 1
        return piece

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if self.marks and self.marks[-1] >= len(self.stack):
            raise IndexError("nothing above the mark")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def remember(self, key: int) -> None:
        if not self.stack:
            raise IndexError("nothing to remember")
        self.memo[key] = self.stack[-1]


class _Finish:
    """One walk over the value, which puts arrays in place of their stand-ins and refuses loops,
    depth, and what grows beyond bounds when written out. An object that is mentioned twice is
    walked once, and its size counted twice.
    """

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Any, int]] = {}
        self.open: set[int] = set()
        self.kept: list[Any] = []  # ids stay those of living objects

    def of(self, value: Any, depth: int) -> tuple[Any, int]:
        """(finished value, number of values in it when written out)."""
        if isinstance(value, PickledArray):
            if not value.filled:
                raise Refused("array", "an array without content")
            if isinstance(value.value, list):  # an array of objects
                return self.of(value.value, depth)
            return value.value, 1
        if isinstance(value, (_Name, PickledType)):
            raise Refused(
                "value",
                f"numpy's or Python's '{value.kind if isinstance(value, _Name) else 'dtype'}'"
                " itself",
            )
        if not isinstance(value, (list, tuple, dict)):
            return value, 1
        if id(value) in self.seen:
            return self.seen[id(value)]
        if depth >= DEPTH_LIMIT or id(value) in self.open:
            raise Refused(
                "(whole file)",
                (
                    "a value within itself"
                    if id(value) in self.open
                    else f"nesting beyond {DEPTH_LIMIT} levels"
                ),
            )
        self.open.add(id(value))
        pairs = [
            self.of(item, depth + 1)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        size = 1 + sum(pair[1] for pair in pairs)
        if size > EXPANDED_LIMIT:
            raise Refused("(whole file)", f"more than {EXPANDED_LIMIT} values when written out")
        items = [pair[0] for pair in pairs]
        result: Any = (
            dict(zip(value, items, strict=True)) if isinstance(value, dict) else type(value)(items)
        )
        self.open.discard(id(value))
        self.kept.append(value)
        self.seen[id(value)] = (result, size)
        return result, size


def _key(value: Any) -> Any:
    """A dict key or set member, if it is one that is safe to hash."""
    if isinstance(value, tuple):
        if len(value) <= 16 and not any(isinstance(item, tuple) for item in value):
            return tuple(_key(item) for item in value)
    elif (
        value is None
        or isinstance(value, (str, bytes))
        or (isinstance(value, int) and -(2**31) <= value < 2**31)
    ):
        return value
    raise Refused(
        "key",
        f"a {type(value).__name__}" + (f" ({value})" if isinstance(value, (int, float)) else ""),
    )


def _members(arguments: tuple[Any, ...]) -> list[Any]:
    if not arguments:
        return []
    (items,) = arguments
    if not isinstance(items, (list, tuple)):
        raise Refused("value", f"a collection made from a {type(items).__name__}")
    return list(items)


def _call(name: Any, arguments: Any) -> Any:
    """What the named function would give, for the few that build plain data."""
    if not isinstance(name, _Name) or not isinstance(arguments, tuple):
        raise Refused("call", f"of a {type(name).__name__}")
    kind = name.kind
    if kind == "_reconstruct":
        if arguments[0] != _Name("ndarray"):
            raise Refused("array", "another class than numpy's ndarray")
        return PickledArray()
    if kind == "_frombuffer":
        raw, dtype, shape, order = arguments
        return PickledArray(content(shape, dtype, raw, order == "F"), True)
    if kind in ("dtype", "scalar"):
        return (pickled_type if kind == "dtype" else scalar)(arguments)
    if kind == "encode":
        text, encoding = arguments
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "iso-8859-1"):
            raise Refused("call", f"_codecs.encode to {encoding!r:.40}")
        return text.encode("latin-1")
    if kind == "defaultdict":  # its factory says what absent keys hold; the present ones follow
        return {}
    if kind == "dict":
        return {_key(key): value for key, value in _members(arguments)}
    if kind in ("set", "frozenset"):
        return {_key(item) for item in _members(arguments)}
    if kind in ("list", "tuple"):
        return _members(arguments) if kind == "list" else tuple(_members(arguments))
    if kind == "bytes" and not arguments:  # how protocols 0 to 2 write empty ones
        return b""
    raise Refused("call", f"of {kind}")


def _build(reader: _Reader) -> None:
    """The state of an array or dtype."""
    state, target = reader.pop(), reader.stack[-1]
    if isinstance(target, PickledType) and isinstance(state, tuple) and len(state) >= 5:
        if state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise Refused("dtype", "a dtype of fields or of sub-arrays")
        target.order = target.order if target.order in "<>" else state[1]
    elif (
        isinstance(target, PickledArray)
        and not target.filled
        and isinstance(state, tuple)
        and len(state) == 5
    ):
        _, shape, kind, fortran, raw = state
        target.value, target.filled = (
            content(shape, kind, raw, fortran is True or fortran == 1),
            True,
        )
    elif not (isinstance(target, dict) and state in (None, {})):
        raise Refused("value", f"a state for a {type(target).__name__}")


def _global(reader: _Reader, module: Any, name: Any) -> None:
    kind = (
        GLOBALS.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    )
    if kind is None:
        raise Refused("global", f"{module}.{name}"[:200])
    reader.push(_Name(kind))


def _digits(line: bytes) -> int:
    """A whole number in digits; protocol 0 writes booleans as 00 and 01."""
    if line in (b"00", b"01"):
        return line == b"01"
    text = line.rstrip(b"L")
    if not re.fullmatch(rb"[+-]?\d{1,40}", text):
        raise ValueError(f"not a whole number: {line[:40]!r}")
    return int(text)


def _string(reader: _Reader) -> None:
    line = reader.line().strip()
    if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
        raise ValueError("text without quotes")
    reader.push(codecs.escape_decode(line[1:-1])[0].decode("latin-1"))  # type: ignore[attr-defined]


def _append(reader: _Reader, items: list[Any]) -> None:
    target = reader.stack[-1]
    if not isinstance(target, list):
        raise Refused("value", f"an append to a {type(target).__name__}")
    target.extend(items)


def _set_items(reader: _Reader, items: list[Any]) -> None:
    target = reader.stack[-1]
    if not isinstance(target, dict) or len(items) % 2:
        raise Refused("value", f"keys for a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value


def _add_items(reader: _Reader) -> None:
    items, target = reader.since_mark(), reader.stack[-1]
    if not isinstance(target, set):
        raise Refused("value", f"members for a {type(target).__name__}")
    target.update(_key(item) for item in items)


def _dict(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.push({})
    _set_items(reader, items)


def _tuple(count: int) -> Callable[[_Reader], object]:
    def action(reader: _Reader) -> None:
        items = [reader.pop() for _ in range(count)]
        reader.push(tuple(reversed(items)))

    return action


def _proto(reader: _Reader) -> None:
    if reader.take(1)[0] > 5:
        raise Refused("protocol", reader.data[reader.at - 1])


_ACTIONS: dict[bytes, Callable[[_Reader], object]] = {
    b"\x80": _proto,
    b"\x95": lambda r: r.take(8),
    b"(": lambda r: r.marks.append(len(r.stack)),
    b"0": lambda r: r.pop(),
    b"1": lambda r: r.since_mark(),
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"I": lambda r: r.push(_digits(r.line())),
    b"L": lambda r: r.push(_digits(r.line())),
    b"F": lambda r: r.push(float(r.line()[:40])),
    b"J": lambda r: r.push(r.number("<i")),
    b"K": lambda r: r.push(r.number("<B")),
    b"M": lambda r: r.push(r.number("<H")),
    b"\x8a": lambda r: r.push(int.from_bytes(r.sized("<B"), "little", signed=True)),
    b"G": lambda r: r.push(r.number(">d")),
    b"S": _string,
    b"T": lambda r: r.push(r.sized("<i").decode("latin-1")),
    b"U": lambda r: r.push(r.sized("<B").decode("latin-1")),
    b"V": lambda r: r.push(plain_text(r.line().decode("raw-unicode-escape"))),
    b"X": lambda r: r.push(r.sized("<I").decode()),
    b"\x8c": lambda r: r.push(r.sized("<B").decode()),
    b"\x8d": lambda r: r.push(r.sized("<Q").decode()),
    b"B": lambda r: r.push(r.sized("<I")),
    b"C": lambda r: r.push(r.sized("<B")),
    b"\x8e": lambda r: r.push(r.sized("<Q")),
    b"\x96": lambda r: r.push(r.sized("<Q")),
    b"]": lambda r: r.push([]),
    b"l": lambda r: r.push(r.since_mark()),
    b"a": lambda r: _append(r, [r.pop()]),
    b"e": lambda r: _append(r, r.since_mark()),
    b")": lambda r: r.push(()),
    b"t": lambda r: r.push(tuple(r.since_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"}": lambda r: r.push({}),
    b"d": _dict,
    b"s": lambda r: _set_items(r, [r.pop(), r.pop()][::-1]),
    b"u": lambda r: _set_items(r, r.since_mark()),
    b"\x8f": lambda r: r.push(set()),
    b"\x90": _add_items,
    b"\x91": lambda r: r.push({_key(item) for item in r.since_mark()}),
    b"g": lambda r: r.push(r.memo[_digits(r.line())]),
    b"h": lambda r: r.push(r.memo[r.number("<B")]),
    b"j": lambda r: r.push(r.memo[r.number("<I")]),
    b"p": lambda r: r.remember(_digits(r.line())),
    b"q": lambda r: r.remember(r.number("<B")),
    b"r": lambda r: r.remember(r.number("<I")),
    b"\x94": lambda r: r.remember(len(r.memo)),
    b"c": lambda r: _global(r, r.line().decode("latin-1"), r.line().decode("latin-1")),
    b"\x93": lambda r: _global(r, *[r.pop(), r.pop()][::-1]),
    b"R": lambda r: r.push(_call(*[r.pop(), r.pop()][::-1])),
    b"b": _build,
}


_TABLE: list[Callable[[_Reader], object] | None] = [
    _ACTIONS.get(bytes([code])) for code in range(256)
]
