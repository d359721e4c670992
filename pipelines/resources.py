"""What the assets are given: the settings, read from the environment when a run or a sensor's tick starts."""

from __future__ import annotations

from typing import Any

import dagster as dg

import configs


def resources() -> dict[str, Any]:
    """Resources by the argument name that assets use."""
    return {"settings": dg.ResourceDefinition(lambda _: configs.settings(), description="Where data, tracking store and cluster are.")}
