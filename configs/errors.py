"""The one base of all errors that are for a person: each says what was found, where, and what is
allowed or what to do.

Whoever a person calls (the command line, an asset) tells these in words, and a system that refuses
(OSError); every other exception is a programmer's mistake and shows its stack.
"""

from __future__ import annotations

import re

_SECRETS = [  # of an address: user and password, and what signs a query
    (re.compile(r"://[^/\s'\"]*@"), "://...@"),  # up to the last @: a password may have one
    (
        re.compile(
            r"(?i)([?&][\w-]*(?:sig|token|key|secret|credential|password)[\w-]*=)[^&\s'\"]+"
        ),
        r"\1...",
    ),
]


class KinographError(Exception):
    """Something that a person can mend, in words that say how, without an address's secrets."""

    def __str__(self) -> str:
        return without_secrets(super().__str__())


def without_secrets(text: str) -> str:
    """The text with the passwords and signatures of addresses in it as dots."""
    for pattern, dots in _SECRETS:
        text = pattern.sub(dots, text)
    return text


class ConfigError(KinographError, ValueError):
    """A value that is not allowed: names the file or place, the field, what was found and what is
    allowed.

    Args:
        where: the file, "file (name)" for a row of it, or the function that was asked.
        field: its name, with dots below the first level: `training.epochs`.
        found: the value as it was given.
        allowed: in words, what may stand there.
    """

    def __init__(self, where: str, field: str, found: object, allowed: str) -> None:
        self.where, self.field, self.found, self.allowed = where, field, found, allowed
        super().__init__(f"{where}: field '{field}': found {found!r}; allowed: {allowed}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str, str, str]]:
        """Errors travel between processes; `found` goes as text, since it may be anything."""
        found = (
            self.found
            if isinstance(self.found, str | int | float | bool | None)
            else repr(self.found)
        )
        return type(self), (self.where, self.field, found, self.allowed)  # type: ignore[return-value]
