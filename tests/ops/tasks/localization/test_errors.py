"""False positives by kind, on one prediction of each."""

from __future__ import annotations

import numpy as np
import pytest

from ops.tasks.localization.errors import KINDS, errors_of, gains, video_scores
from ops.tasks.localization.metric import match, segments_of

TRUTH = segments_of([("a", 0, 10, 0, 1), ("a", 20, 30, 1, 1), ("b", 0, 10, 1, 1)])
FOUND = segments_of(
    [
        ("a", 0, 10, 0, 0.9),  # true positive
        ("a", 0, 9, 0, 0.8),  # again
        ("a", 20, 29, 0, 0.7),  # the other class
        ("a", 7, 12, 0, 0.6),  # 3 of 12 s
        ("a", 27, 35, 0, 0.5),  # touches the other class
        ("a", 50, 60, 0, 0.4),  # nothing there
        ("c", 0, 10, 1, 0.3),  # a video without segments
        ("a", 0, 10, 5, 0.3),  # a class that is not scored
    ]
)


def test_one_of_each_kind() -> None:
    matches = match(TRUTH, FOUND, (0.3, 0.5))
    errors = errors_of(TRUTH, FOUND, matches, 1)
    assert [KINDS[kind] for kind in errors.kind[:7]] == [*KINDS, "background"]
    assert errors.kind[7] == -1


def test_shares_count_the_best_predictions() -> None:
    matches = match(TRUTH, FOUND, (0.5,))
    shares = errors_of(TRUTH, FOUND, matches, 0).shares(FOUND, 3)
    np.testing.assert_allclose(shares[0], [1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    np.testing.assert_allclose(shares.sum(1), 1)


def test_gains_are_those_of_a_list_without_the_kind() -> None:
    found = segments_of(
        [("a", 50, 60, 0, 0.95), ("a", 0, 10, 0, 0.9), ("a", 20, 30, 1, 0.9), ("b", 0, 10, 1, 0.8)]
    )
    matches = match(TRUTH, found, (0.5,))
    gain = gains(TRUTH, found, errors_of(TRUTH, found, matches, 0), matches)
    assert gain["background"] == pytest.approx(0.25)  # one class from 1/2 to 1
    assert gain["confusion"] == 0


def test_videos_are_told_apart() -> None:
    matches = match(TRUTH, FOUND, (0.5,))
    scores = video_scores(TRUTH, FOUND, errors_of(TRUTH, FOUND, matches, 0))
    assert scores == {"a": 0.5, "b": 0.0}
