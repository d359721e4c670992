"""Boxes for a detector's proposals to start from: where the persons of the training data stand."""

from __future__ import annotations

import numpy as np

ROUNDS = 50


def typical_boxes(boxes: np.ndarray, count: int) -> np.ndarray:
    """`count` typical boxes float32 [count, 4] as centre x, centre y, width, height, shares of the
    frame.

    k-means from boxes evenly spaced by their centre's x; the same boxes in any order give the same
    result.

    Args:
        boxes: xyxy [N, 4], shares of the frame.
        count: with fewer boxes than that, some stand there twice.

    Raises:
        ValueError: there are no boxes.
    """
    if not len(boxes):
        raise ValueError("no boxes to take typical ones from")
    corners = np.asarray(boxes, np.float64)
    # xyxy to centre and size, shares of the frame, [N, 4].
    shapes = np.concatenate(
        [(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1
    )
    # By centre x, then y, width and height: the input's order is forgotten, and the first centres
    # spread over the frame.
    shapes = shapes[np.lexsort(shapes.T[::-1])]
    centres = shapes[np.linspace(0, len(shapes) - 1, count).round().astype(int)]
    for _ in range(ROUNDS):
        # [N, count] squared distances over all four numbers; a centre that nobody is nearest to
        # stays.
        nearest = ((shapes[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        moved = np.stack(
            [
                shapes[nearest == own].mean(axis=0) if (nearest == own).any() else centres[own]
                for own in range(count)
            ]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres.astype(np.float32)
