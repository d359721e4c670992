"""Results as Dagster metadata: typed numbers, pictures, links."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import dagster as dg

PICTURE_WIDTH = 1000  # pixels; the UI's dialog cuts off what is wider
# bytes; a picture is stored again in every event, in the database of the runs
LARGEST_PNG = 150_000


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG that the UI shows in place; one that is too large for that is shown smaller, as
    JPEG.
    """
    from ops.evaluation.preview import jpeg_preview

    kind, shown = (
        ("png", png) if len(png) <= LARGEST_PNG else ("jpeg", jpeg_preview(png, PICTURE_WIDTH))
    )
    return dg.MetadataValue.md(
        f"![{title}](data:image/{kind};base64,{base64.b64encode(shown).decode()})"
    )


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dg.MarkdownMetadataValue:
    """A markdown table."""
    lines = [
        " | ".join(header),
        " | ".join("---" for _ in header),
        *(" | ".join(str(cell) for cell in row) for row in rows),
    ]
    return dg.MetadataValue.md("\n".join(lines))


def counts(values: Mapping[str, int], names: tuple[str, str]) -> dg.MarkdownMetadataValue:
    """Counts by name, largest first."""
    return table(names, sorted(values.items(), key=lambda item: (-item[1], item[0])))
