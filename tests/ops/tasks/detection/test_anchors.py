"""Typical boxes: they stand where the boxes stand, and nothing but the boxes decides them."""

from __future__ import annotations

import numpy as np
import pytest

from ops.tasks.detection.anchors import typical_boxes


def test_two_places_give_two_boxes() -> None:
    rng = np.random.default_rng(0)
    left, right = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0.6, 0.4, 0.9, 0.8])
    boxes = np.concatenate([side + rng.normal(0, 0.01, (50, 4)) for side in (left, right)])
    found = typical_boxes(boxes, 2)
    np.testing.assert_allclose(found, [[0.2, 0.55, 0.2, 0.7], [0.75, 0.6, 0.3, 0.4]], atol=0.01)
    np.testing.assert_array_equal(found, typical_boxes(boxes[rng.permutation(100)], 2))


def test_fewer_boxes_than_asked_for_and_none() -> None:
    assert typical_boxes(np.array([[0.0, 0, 1, 1]]), 3).tolist() == [[0.5, 0.5, 1, 1]] * 3
    with pytest.raises(ValueError, match="no boxes"):
        typical_boxes(np.empty((0, 4)), 3)
