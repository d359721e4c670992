"""Results as Dagster metadata: typed numbers, pictures, links."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import dagster as dg


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG that the UI shows in place."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dg.MarkdownMetadataValue:
    """A markdown table."""
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(str(cell) for cell in row) for row in rows)]
    return dg.MetadataValue.md("\n".join(lines))


def counts(values: Mapping[str, int], names: tuple[str, str]) -> dg.MarkdownMetadataValue:
    """Counts by name, largest first."""
    return table(names, sorted(values.items(), key=lambda item: (-item[1], item[0])))
