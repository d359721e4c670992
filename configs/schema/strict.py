"""The ground that every configuration object stands on: immutable, closed to unknown keys, hashable
by content.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not a truth value")
    return value


def _make_strict(part: Any) -> None:
    """Marks the scalars within a core schema, or a part of one, as strict; in place."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, (dict, list, tuple)):
            _make_strict(value)
    if not isinstance(part, dict):
        return
    if part.get("type") in ("int", "float", "bool", "str"):
        part["strict"] = True
    # true is 1 for a literal
    elif part.get("type") == "literal" and any(
        isinstance(value, int) for value in part["expected"]
    ):
        literal = dict(part)
        part.clear()
        part.update(
            type="function-before",
            function={"type": "no-info", "function": _no_truth_value},
            schema=literal,
        )


class Strict(BaseModel):
    """Base of every configuration object: immutable, closed to unknown keys, and strict with
    values.

    A number is a number: neither true, nor the text "0.5", nor NaN or infinity; a truth value is
    true or false, and text is text. Lists stand for tuples still, and a whole number for one with a
    point, since YAML and JSON have no other way to write them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> Any:
        """Pydantic's schema with every number, truth value and text in it strict; `strict=True`
        would refuse lists for tuples too.
        """
        schema = handler(source)
        _make_strict(schema)
        return schema


def _without_other_fields(uri: str) -> str:
    for name in re.findall(r"\{([^{}]*)\}", uri):
        if name != "storage" and name.strip().lower() == "storage":
            raise ValueError(f"'{{{name}}}' stands for nothing; the storage root is '{{storage}}'")
    if re.match(r"\$|%\w+%", uri):
        raise ValueError("variables of the environment are not filled in; '{storage}' and '~' are")
    return uri


def in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds as they are. Raises ValueError unless they are positive, the smaller one first."""
    if not 0 < bounds[0] <= bounds[1]:
        raise ValueError(f"{list(bounds)} are not two bounds above 0, the smaller one first")
    return bounds


Positive = Annotated[float, Field(gt=0)]
Bounds = Annotated[tuple[float, float], AfterValidator(in_order)]
"""Two positive numbers, the smaller one first."""
Place = Annotated[str, AfterValidator(_without_other_fields)]
"""A URI in which '{storage}' stands for the storage root and '~' for the home folder; other braces
are part of a name.
"""


def content_hash(value: Any) -> str:
    """Sha256 (hex, 16 digits) of a JSON-able value, independent of key order."""
    return hashlib.sha256(plain_json(value).encode()).hexdigest()[:16]


def content_hash_of_rows(rows: Iterable[str], *more: Any) -> str:
    """`content_hash([rows, *more])`, or of the rows alone, which come as JSON: one by one, or
    several with commas between them.
    """
    found = hashlib.sha256(b"[[" if more else b"[")
    for number, row in enumerate(rows):
        found.update(f",{row}".encode() if number else row.encode())
    found.update(
        "".join(["]", *(f",{plain_json(value)}" for value in more), "]" if more else ""]).encode()
    )
    return found.hexdigest()[:16]


def plain_json(value: Any) -> str:
    """The JSON that is hashed: keys sorted, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
