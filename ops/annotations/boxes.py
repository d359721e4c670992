"""Boxes of a table as a whole: width and height in the place of the second corner, shares for
pixels, pixels of another size.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import TableName
from ops.annotations.join import Videos
from ops.annotations.rows import Fault, Problem

LEAST = 20  # boxes that must all look like x, y, width, height before it is asked
SHARE_INVERTED = 0.1  # of the rows refused for corners in the wrong order: then fewer are enough
SHARE_OUTSIDE = 0.05  # of the boxes beyond their video's picture, by more than ROUNDED pixels
ROUNDED = 2.0
CORNERS: dict[TableName, tuple[str, ...]] = {
    "boxes": ("x1", "y1", "x2", "y2"),
    "parts": ("px1", "py1", "px2", "py2"),
}


def box_questions(
    kind: TableName, table: pa.Table, problems: Iterable[Problem], videos: Videos
) -> list[Problem]:
    """A question where all boxes of a table make sense in another form than the table's."""
    if kind not in CORNERS or not table.num_rows:
        return []
    x1, y1, x2, y2 = (
        pc.fill_null(pc.cast(table[name], pa.float64()), np.nan).to_numpy()
        for name in CORNERS[kind]
    )
    width, height = (
        (np.ones(len(x1)), np.ones(len(x1))) if kind == "boxes" else _sizes(table, videos)
    )
    found = ""
    if kind == "parts" and np.nanmax(np.maximum(x2, y2)) <= 1:
        found = "no side is above 1: shares of the picture? the form has pixels"
    elif (
        kind == "parts"
        and np.mean((x2 > width + ROUNDED) | (y2 > height + ROUNDED)) >= SHARE_OUTSIDE
    ):
        outside = int(np.sum((x2 > width + ROUNDED) | (y2 > height + ROUNDED)))
        found = (
            f"{outside} of {len(x1)} boxes reach beyond the picture: pixels of another size of the"
            " videos?"
        )
    else:
        known = np.isfinite(width) & np.isfinite(x1)
        inverted = sum(problem.kind in ("box_inverted", "box_empty") for problem in problems)
        enough = known.sum() >= LEAST or (
            known.any() and inverted >= SHARE_INVERTED * (inverted + len(x1))
        )
        # x + width lies within the picture always; of two corners that is rare for one box, and
        # nearly impossible for many
        if (
            enough
            and np.all((x1 + x2 <= width * 1.0001)[known] & (y1 + y2 <= height * 1.0001)[known])
            and _spread(x1, y1, known)
        ):
            found = (
                f"x1 + x2 and y1 + y2 lie within the picture for all {known.sum()} boxes: x, y,"
                " width, height? the form has two corners"
            )
    place = table["source"][0].as_py().partition(":")[0]
    return (
        [Fault("box", found.partition(": ")[0], "box_form", found.partition(": ")[2]).at(place, 0)]
        if found
        else []
    )


def _spread(x1: np.ndarray, y1: np.ndarray, known: np.ndarray) -> bool:
    """Whether boxes lie all over the picture's first half or beyond; one person in a corner is no
    evidence.
    """
    return len(np.unique(np.round(x1[known], 3))) > 2 and len(np.unique(np.round(y1[known], 3))) > 2


def _sizes(table: pa.Table, videos: Videos) -> tuple[np.ndarray, np.ndarray]:
    """Width and height, upright, of each row's video in pixels; NaN where they are not known."""
    names = pc.dictionary_encode(table["video_id"].combine_chunks())
    row = np.array(
        [videos.row_of.get(name, -1) for name in names.dictionary.to_pylist()], dtype=np.int64
    )[names.indices.to_numpy()]
    if not videos.table.num_rows:
        return np.full(len(row), np.nan), np.full(len(row), np.nan)
    columns = (
        pc.cast(videos.table[name], pa.float64()) for name in ("width", "height", "rotation")
    )
    width, height, rotation = (pc.fill_null(column, np.nan).to_numpy() for column in columns)
    turned = np.isin(rotation, (90, 270))
    width, height = np.where(turned, height, width), np.where(turned, width, height)
    unknown = (row < 0) | ~(width[row] > 0)
    return np.where(unknown, np.nan, width[row]), np.where(unknown, np.nan, height[row])
