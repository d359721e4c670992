"""The ground that every configuration object stands on: immutable, closed to unknown keys, hashable by content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class ConfigError(ValueError):
    """A user's mistake in a configuration: names the file, the field, what was found and what is allowed."""

    def __init__(self, where: str, field: str, found: object, allowed: str) -> None:
        self.where, self.field, self.found, self.allowed = where, field, found, allowed
        super().__init__(f"{where}: field '{field}': found {found!r}; allowed: {allowed}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str, str, str]]:
        """Errors travel between processes; `found` goes as text, since it may be anything."""
        found = self.found if isinstance(self.found, str | int | float | bool | None) else repr(self.found)
        return type(self), (self.where, self.field, found, self.allowed)  # type: ignore[return-value]


class Strict(BaseModel):
    """Base of every configuration object: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def content_hash(value: Any) -> str:
    """Sha256 (hex, 16 digits) of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
