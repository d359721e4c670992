"""Json of an annotation file: parsed with its repeated keys, or refused with line and column."""

from __future__ import annotations

import json
from typing import Any

from ops.annotations.vocabulary import AnnotationError


def load(data: bytes, file: str) -> tuple[Any, set[str]]:
    """The parsed json and the keys that some mapping in it holds twice. Raises AnnotationError with
    line and column.
    """
    repeated = set[str]()

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen = set[str]()
            repeated.update(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return result

    if not data.strip():
        raise AnnotationError(file, "(whole file)", "an empty file", "json")
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=mapping)
        # an escaped half of a surrogate pair is valid json, but not text that a table can hold
        if b"\\u" in data:
            json.dumps(content, ensure_ascii=False).encode()
        return content, repeated
    except UnicodeDecodeError as error:
        raise AnnotationError(
            file, "encoding", f"byte {data[error.start]:#04x} at {error.start}", "UTF-8 text"
        ) from error
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"{file}:{error.lineno}", f"column {error.colno}", error.msg, "valid json"
        ) from error
    except UnicodeEncodeError as error:
        found = ascii(error.object[error.start : error.end])
        raise AnnotationError(
            file, "encoding", found, "whole characters, not half a surrogate pair"
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise AnnotationError(file, "(whole file)", str(error), "valid json") from error
    except RecursionError as error:
        raise AnnotationError(
            file, "(whole file)", "brackets nested too deeply", "json of a few levels"
        ) from error
