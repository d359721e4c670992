"""Suppression against plain loops that change one score at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.blocks.nms1d import suppress, vote


def drawn(
    count: int, classes: int = 3, steps: int | None = None, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Segments, scores and labels in no order; `steps` makes equal scores common."""
    rng = np.random.default_rng(seed)
    start, length = rng.uniform(0, 100, count), rng.uniform(0.1, 20, count)
    scores = rng.random(count) ** 2
    scores = np.round(scores * steps) / steps if steps else scores
    segments = torch.tensor(np.stack([start, start + length], 1), dtype=torch.float32)
    return (
        segments,
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(rng.integers(0, classes, count)),
    )


def overlap(one: np.ndarray, other: np.ndarray) -> np.float32:
    tiny = np.float32(1e-6)
    inside = max(np.float32(0), min(one[1], other[1]) - max(one[0], other[0]))
    return np.float32(inside / ((one[1] - one[0] + tiny) + (other[1] - other[0] + tiny) - inside))


def soft_loop(
    segments: np.ndarray, scores: np.ndarray, sigma: float, floor: float
) -> list[tuple[int, float]]:
    """In place: the best goes to the front, what falls below the floor is replaced by the last."""
    order, value, done, count = list(range(len(scores))), scores.copy().tolist(), 0, len(scores)
    value = [np.float32(one) for one in value]
    while done < count:
        best = max(range(done, count), key=lambda at: (value[at], -at))
        order[done], order[best], value[done], value[best] = (
            order[best],
            order[done],
            value[best],
            value[done],
        )
        at = done + 1
        while at < count:
            shared = overlap(segments[order[done]], segments[order[at]])
            value[at] = np.float32(
                value[at] * np.float32(math.exp(-(shared * shared) / np.float32(sigma)))
            )
            if value[at] < np.float32(floor):
                count -= 1
                order[at], value[at] = order[count], value[count]
            else:
                at += 1
        done += 1
    return list(zip(order[:done], (float(one) for one in value[:done]), strict=True))


def hard_loop(
    segments: np.ndarray, scores: np.ndarray, threshold: float, floor: float
) -> list[tuple[int, float]]:
    kept: list[int] = []
    for at in sorted(range(len(scores)), key=lambda at: -scores[at]):
        if scores[at] > np.float32(floor) and all(
            overlap(segments[at], segments[one]) < threshold for one in kept
        ):
            kept.append(at)
    return [(at, float(scores[at])) for at in kept]


def expected(
    segments: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor,
    method: str,
    multiclass: bool,
    most: int,
) -> list[tuple[float, int]]:
    found = []
    groups = (
        [labels == name for name in labels.unique()]
        if multiclass
        else [torch.ones_like(labels, dtype=torch.bool)]
    )
    for group in groups:
        place = group.nonzero()[:, 0].numpy()
        spans, values = segments[group].numpy(), scores[group].numpy()
        passed = (
            soft_loop(spans, values, 0.5, 0.001)
            if method == "soft"
            else hard_loop(spans, values, 0.1, 0.001)
        )
        found += [(score, int(place[at])) for at, score in passed]
    return sorted(found, key=lambda one: -one[0])[:most]


@pytest.mark.parametrize("multiclass", [True, False])
@pytest.mark.parametrize("method", ["soft", "hard"])
@pytest.mark.parametrize(
    ("count", "steps", "most"),
    [(0, None, 10), (1, None, 10), (150, None, 20), (150, None, 1000), (120, 10, 1000)],
)
def test_equals_the_loop(
    method: str, multiclass: bool, count: int, steps: int | None, most: int
) -> None:
    segments, scores, labels = drawn(count, steps=steps)
    kept = suppress(
        segments, scores, labels, method=method, multiclass=multiclass, max_segments=most
    )
    want = expected(segments, scores, labels, method, multiclass, most)
    assert kept.places.tolist() == [place for _, place in want]
    np.testing.assert_allclose(kept.scores.numpy(), [score for score, _ in want], rtol=1e-5)
    assert torch.equal(kept.segments, segments[kept.places]) and torch.equal(
        kept.labels, labels[kept.places]
    )


def test_groups_of_unlike_size_share_no_table() -> None:
    segments, scores, _ = drawn(300, seed=1)
    labels = torch.tensor([0] * 200 + [7] * 60 + [3] * 30 + [9] * 10)
    kept = suppress(segments, scores, labels, max_segments=70)
    assert kept.places.tolist() == [
        place for _, place in expected(segments, scores, labels, "soft", True, 70)
    ]


def test_nothing_is_changed_and_a_run_repeats() -> None:
    segments, scores, labels = drawn(100)
    before = [one.clone() for one in (segments, scores, labels)]
    first, second = suppress(segments, scores, labels), suppress(segments, scores, labels)
    assert all(
        torch.equal(one, other)
        for one, other in zip(before, (segments, scores, labels), strict=True)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_none_only_sorts() -> None:
    segments, scores, labels = drawn(50)
    kept = suppress(
        segments,
        scores,
        labels,
        method="none",
        multiclass=False,
        max_segments=0,
        voting_threshold=0.5,
    )
    assert torch.equal(kept.scores, scores.sort(descending=True).values) and torch.equal(
        kept.segments, segments[kept.places]
    )


def test_votes_move_to_the_weighted_mean() -> None:
    segments = np.array([[0, 10], [1, 11], [50, 60]], np.float32)
    scores = np.array([0.8, 0.4, 0.9], np.float32)
    shared = 9 / 11
    moved = vote(segments[:1], segments, scores, 0.7)
    want = (0.8 * segments[0] + 0.4 * shared * segments[1]) / (0.8 + 0.4 * shared)
    np.testing.assert_allclose(moved[0], want, rtol=1e-6)
    np.testing.assert_array_equal(
        vote(np.array([[5, 5]], np.float32), segments, scores, 0.7), [[5, 5]]
    )
    assert vote(segments[:0], segments, scores, 0.7).shape == (0, 2)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="found 'linear'; allowed: soft, hard, none"):
        suppress(*drawn(3), method="linear")
