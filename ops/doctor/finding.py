"""What a check is and what it finds: the words that the command line shows and `--json` writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["good", "note", "wrong"]
LAST_RESORT_S = 30.0  # what a check may take where it says nothing else


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    `good` holds, `note` is worth knowing and stops nothing, `wrong` has to be mended; `advice` then
    says how. `found` is never a secret.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Check:
    """One thing to look at: `function` ("module:name") is called with the settings and `arguments`,
    and yields findings.

    It runs in a process of its own or after others of its group, may take `deadline_s` seconds, and
    may end the process. Where it is wrong (or dies), it is tried once more with each of `remedies`
    (environment variables), and the advice names the first that helps.
    """

    group: str
    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    deadline_s: float = LAST_RESORT_S
    remedies: tuple[dict[str, str], ...] = ()


def good(name: str, found: str, seconds: float | None = None) -> Finding:
    """A line that holds."""
    return Finding(name, "good", found, seconds=seconds)


def note(name: str, found: str, advice: str = "") -> Finding:
    """A line that is worth knowing."""
    return Finding(name, "note", found, advice)


def wrong(name: str, found: str, advice: str, seconds: float | None = None) -> Finding:
    """A line that has to be mended, and how."""
    return Finding(name, "wrong", found, advice, seconds)
