"""Which revision of the code runs."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@lru_cache(maxsize=1)
def git_revision() -> str:
    """Commit of the checkout this module lies in, with '-dirty' when tracked files differ;
    'unknown' outside a checkout.

    An installed copy inside somebody else's repository (a virtual environment) is not taken for
    that repository.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return "unknown"
        commit = _git("rev-parse", "HEAD")
        return (
            f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()
