"""What the assets are given: the settings of this process, read from the environment."""

from __future__ import annotations

from typing import Any

import configs


def resources() -> dict[str, Any]:
    """Resources by the argument name that assets use."""
    return {"settings": configs.settings()}
