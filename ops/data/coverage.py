"""How much of what is annotated can be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coverage:
    """How many clips of a split are annotated, how many of these have stored frames, and how many
    begin after the last of these.
    """

    annotated: int
    usable: int
    beyond_end: int = 0

    @property
    def share(self) -> float:
        """Usable share, 0 when nothing is annotated."""
        return self.usable / self.annotated if self.annotated else 0.0
