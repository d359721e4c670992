"""What a report may show."""

from __future__ import annotations

import re


def shown(uri: str) -> str:
    """The URI without user and password."""
    return re.sub(r"://[^/@]*@", "://", uri)
