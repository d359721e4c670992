"""Non-maximum suppression of segments on a line: hard, Gaussian soft (Bodla et al., ICCV 2017), and
boundary voting.

Segments are (N, 2) start and end in one unit of time. Survivors come in falling order of score, so
that classes are merged as they go: nothing is suppressed that no one asks for.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

METHODS = ("soft", "hard", "none")
_AREA = np.float32(1e-6)  # added to every length, as the published results have it
_NOTHING = (np.inf, -np.inf, 0.0, -np.inf)  # an empty cell: overlaps nothing, is never the best
_PAIRS = 4_000_000  # pairs of segments that are held at a time
_PAIRS_PER_STEP = 10_000  # take as long beforehand as a step without them

Survivor = tuple[float, int]  # its score, and its place in the input


class Kept(NamedTuple):
    """Survivors in falling order of score: segments (K, 2), scores (K,), labels (K,), and their
    places in the input (K,).
    """

    segments: Tensor
    scores: Tensor
    labels: Tensor
    places: Tensor


def suppress(
    segments: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    method: str = "soft",
    multiclass: bool = True,
    iou_threshold: float = 0.1,
    sigma: float = 0.5,
    min_score: float = 0.001,
    max_segments: int = 200,
    voting_threshold: float = 0.0,
) -> Kept:
    """The best survivors of overlapping segments, on the CPU.

    Args:
        segments: (N, 2) start and end, in any one unit.
        scores: (N,) float.
        labels: (N,) integers.
        method: `soft` multiplies every remaining score by exp(-IoU^2 / sigma); `hard` drops what
            overlaps a better one; `none` only sorts.
        multiclass: suppresses within each label alone.
        iou_threshold: for `hard`: the overlap from which on the worse segment goes.
        sigma: for `soft`, whose overlap has no threshold.
        min_score: `soft` drops what falls below it, `hard` takes only what is above it.
        max_segments: how many survivors are given at most; 0 gives all.
        voting_threshold: above 0, and where all labels are one group, survivors move to the mean of
            the candidates that overlap them by it or more, weighted by score times IoU.

    Raises:
        ValueError: another method.

    >>> line = torch.tensor([[0.0, 4.0], [1.0, 4.0], [8.0, 9.0]])
    >>> suppress(line, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3).long(), method="hard").places
    tensor([0, 2])
    """
    if method not in METHODS:
        raise ValueError(f"method: found {method!r}; allowed: {', '.join(METHODS)}")
    spans, values, names = (given.detach().cpu().numpy() for given in (segments, scores, labels))
    spans, values = spans.astype(np.float32, copy=False), values.astype(np.float32, copy=False)
    groups = _groups(names) if multiclass else [np.arange(len(values))]
    most = max_segments if max_segments > 0 else len(values)
    if method == "soft":
        final, index = soft(spans, values, groups, sigma, min_score, most)
    else:
        passes = [
            _survivors(spans, values, group, method, iou_threshold, min_score) for group in groups
        ]
        # Scores never rise within a pass, so the merge of passes is the sorted whole, and it may
        # stop early.
        found = list(islice(heapq.merge(*passes, key=lambda survivor: -survivor[0]), most))
        final = np.array([score for score, _ in found], dtype=np.float32)
        index = np.array([place for _, place in found], dtype=np.int64)
    kept = spans[index]
    if method != "none" and not multiclass and voting_threshold > 0 and len(index):
        kept = vote(kept, spans, values, voting_threshold)
    return Kept(
        torch.from_numpy(kept),
        torch.from_numpy(final),
        labels.detach().cpu()[torch.from_numpy(index)],
        torch.from_numpy(index),
    )


def _groups(names: np.ndarray) -> list[np.ndarray]:
    """Places of each label, in rising order of the labels."""
    order = np.argsort(names, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(names[order])) + 1)


def _survivors(
    spans: np.ndarray,
    values: np.ndarray,
    group: np.ndarray,
    method: str,
    iou_threshold: float,
    min_score: float,
) -> Iterator[Survivor]:
    order = group[np.argsort(-values[group], kind="stable")]
    if method == "none":
        return ((float(values[place]), int(place)) for place in order)
    return hard(spans, values, order[values[order] > min_score], iou_threshold)


def hard(
    spans: np.ndarray, values: np.ndarray, order: np.ndarray, iou_threshold: float
) -> Iterator[Survivor]:
    """Greedy suppression.

    Args:
        spans: (N, 2) float32.
        values: (N,) float32 scores.
        order: places in falling order of score; the others take no part.
        iou_threshold: the overlap from which on the worse segment goes.
    """
    start, end = spans[order, 0], spans[order, 1]
    length = end - start + _AREA
    while len(order):
        yield float(values[order[0]]), int(order[0])
        inside = np.maximum(np.minimum(end, end[0]) - np.maximum(start, start[0]), np.float32(0))
        apart = inside / (length[0] + length - inside) < np.float32(iou_threshold)
        apart[0] = False
        order, start, end, length = order[apart], start[apart], end[apart], length[apart]


def soft(
    spans: np.ndarray,
    values: np.ndarray,
    groups: list[np.ndarray],
    sigma: float,
    min_score: float,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian suppression within each group of places.

    All groups take a step at a time, as rows of one table; those of like size share one, and a
    group ends as soon as it can add nothing to the `most` best.

    Args:
        spans: (N, 2) float32.
        values: (N,) float32 scores.
        groups: places in these, each group by itself.
        sigma: how far an overlap reaches: scores are multiplied by exp(-IoU^2 / sigma).
        min_score: scores that fall below it end.
        most: how many of all groups are wanted.

    Returns:
        The `most` best scores and their places.
    """
    best = _Best(most)
    ranked = sorted(
        (at for at in range(len(groups)) if len(groups[at])), key=lambda at: -len(groups[at])
    )
    while ranked:
        some = [at for at in ranked if 4 * len(groups[at]) >= len(groups[ranked[0]])]
        ranked = ranked[len(some) :]
        names, table = (
            np.array(some),
            _Table(spans, values, [groups[at] for at in some], sigma, min_score),
        )
        if _suits_pairs(table, most):
            score, place, rows = _by_pairs(table, most)
            best.add(score, place, names[rows])
            continue
        for step in itertools.count():
            if step % 4 == 0:
                table.drop_below(best.bound())
            if not len(table.rows):
                break
            rows, score, place = table.step()
            best.add(score, place, names[rows])
    return best.sorted()


class _Best:
    """The `most` best of the scores that come in: of equal ones those of the first group, then
    those that came first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.came = [(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))]
        self.top, self.seen, self.count = np.empty(0, np.float32), 0, 0

    def add(self, scores: np.ndarray, places: np.ndarray, groups: np.ndarray) -> None:
        self.came.append((scores, places, groups))
        self.count += len(scores)

    def bound(self) -> np.float32:
        """What a score must reach to be one of them."""
        if self.count >= self.most:
            self.top = np.concatenate(
                [self.top, *(scores for scores, _, _ in self.came[self.seen :])]
            )
            self.top, self.seen = np.partition(self.top, -self.most)[-self.most :], len(self.came)
        return _least(self.top, self.most)

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and places."""
        scores, places, groups = (np.concatenate(part) for part in zip(*self.came, strict=True))
        order = np.lexsort((groups, -scores))[: self.most]
        return scores[order], places[order]


def _least(scores: np.ndarray, most: int) -> np.float32:
    """The least of the `most` best."""
    return (
        np.partition(scores, -most, axis=None)[-most]
        if scores.size >= most
        else np.float32(-np.inf)
    )


class _Table:
    """Groups under suppression, one per row: what is left of a row stands in its columns `first` to
    `counts`.

    Of equal scores the one that stands first is taken. The columns stand where the usual in-place
    form has them (the best swapped to the front, a dropped one replaced by the last), so that equal
    scores fall the same way.
    """

    def __init__(
        self,
        spans: np.ndarray,
        values: np.ndarray,
        groups: list[np.ndarray],
        sigma: float,
        min_score: float,
    ) -> None:
        self.counts = np.array([len(group) for group in groups])
        self.rows = np.arange(len(groups))
        # start, end, length, score
        self.cells = np.empty((4, len(groups), self.counts.max()), np.float32)
        self.cells[:] = np.array(_NOTHING, np.float32)[:, None, None]
        self.places = np.zeros(self.cells.shape[1:], np.int64)
        for row, group in enumerate(groups):
            start, end = spans[group, 0], spans[group, 1]
            self.cells[:, row, : len(group)] = start, end, end - start + _AREA, values[group]
            self.places[row, : len(group)] = group
        self.first, self.floor, self.width = 0, np.float32(min_score), np.float32(-sigma)
        self.marks = np.zeros(self.places.shape, bool)

    def drop_below(self, score: np.float32) -> None:
        """Ends the rows whose best score is lower."""
        self._keep(self.cells[3, :, self.first :].max(1, initial=-np.inf) >= score)

    def _keep(self, rows: np.ndarray) -> None:
        if not rows.all():
            self.counts, self.rows, self.marks = (
                self.counts[rows],
                self.rows[rows],
                self.marks[rows],
            )
            width = self.counts.max(initial=0)
            self.cells, self.places = self.cells[:, rows, :width], self.places[rows, :width]

    def step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Takes the best of every row and fades the rest: rows, scores and places of what was
        taken.
        """
        every, end = np.arange(len(self.rows)), self.counts.max()
        best = self.cells[3, :, self.first : end].argmax(1) + self.first
        low, high, length, top = self.cells[:, every, best]
        taken = self.rows, top, self.places[every, best]
        self.cells[:, every, best], self.places[every, best] = (
            self.cells[:, :, self.first],
            self.places[:, self.first],
        )
        self.first += 1
        inside = np.minimum(self.cells[1, :, self.first : end], high[:, None])
        inside -= np.maximum(self.cells[0, :, self.first : end], low[:, None])
        # all others keep their scores
        row, column = np.divmod(np.flatnonzero(inside > 0), max(end - self.first, 1))
        inside = inside[row, column]
        column += self.first
        faded = self.cells[3, row, column] * _left(
            inside, length[row] + self.cells[2, row, column], self.width
        )
        self.cells[3, row, column] = faded
        if self.first == 1:  # the one time that scores fall below which nothing has faded
            row, column = np.nonzero(
                (self.cells[3] < self.floor)
                & (np.arange(end) >= 1)
                & (np.arange(end) < self.counts[:, None])
            )
        else:
            gone = faded < self.floor
            row, column = row[gone], column[gone]
        if len(row):
            self._remove(row, column)
        self._keep(self.counts > self.first)
        return taken

    def _remove(self, row: np.ndarray, column: np.ndarray) -> None:
        """Fills the gaps from the left with what stays, taken from the right; given row by row, in
        rising order of columns.
        """
        lost = np.bincount(row, minlength=len(self.rows))
        after = self.counts - lost
        tail_row = np.repeat(np.arange(len(self.rows)), lost)
        tail = (
            self.counts[tail_row]
            - 1
            - (np.arange(len(row)) - np.repeat(np.cumsum(lost) - lost, lost))
        )
        self.marks[row, column] = True
        stays = ~self.marks[tail_row, tail]
        self.marks[row, column] = False
        gap = column < after[row]
        to, source = (row[gap], column[gap]), (tail_row[stays], tail[stays])
        self.cells[:, to[0], to[1]], self.places[to] = (
            self.cells[:, source[0], source[1]],
            self.places[source],
        )
        self.cells[:, tail_row, tail] = np.array(_NOTHING, np.float32)[:, None]
        self.counts = after


def _by_pairs(table: _Table, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, places and rows of what a small table leaves, by what each candidate leaves of each
    other one, known beforehand.

    A step then multiplies the table once. What has fallen below the least score may stay, since all
    that counts is taken before it. For scores that differ, and a least score above 0.
    """
    left, scores = _all_left(table), table.cells[3]
    rows, width = scores.shape
    flat, starts = scores.reshape(-1), np.arange(0, scores.size, width)
    tops, taken = np.zeros((width, rows), np.float32), np.zeros((width, rows), np.int64)
    for step in range(width):
        best = starts + scores.argmax(1)
        taken[step], tops[step] = best, flat[best]
        if step % 8 == 7 and tops[step].max() < max(table.floor, _least(tops[:step], most)):
            break
        scores *= left.take(best, 0)
        flat[best] = 0
    counts = tops >= table.floor
    counts[0] = True  # the best of a group is never compared
    return tops[counts], table.places.ravel()[taken[counts]], counts.nonzero()[1]


def _all_left(table: _Table) -> np.ndarray:
    """(candidates, width): what each leaves of the scores of its row."""
    start, end, length, _ = table.cells
    width = length.shape[1]
    left = np.maximum(start[:, :, None], start[:, None])
    inside = np.minimum(end[:, :, None], end[:, None])
    inside -= left
    pair = np.flatnonzero(inside > 0)
    one, column = np.divmod(pair, width)
    other = one // width * width + column
    left.fill(1)
    left.ravel()[pair] = _left(
        inside.ravel()[pair], length.ravel()[one] + length.ravel()[other], table.width
    )
    return left.reshape(-1, width)


def _left(inside: np.ndarray, lengths: np.ndarray, width: np.float32) -> np.ndarray:
    """What remains of scores, given the overlaps and the sums of both lengths; `width` is
    -sigma.
    """
    overlap = inside / (lengths - inside)
    # The exponential in double precision, rounded once: what a correctly rounded one in single
    # precision gives.
    return np.exp(overlap * overlap / width, dtype=np.float64).astype(np.float32)


def _suits_pairs(table: _Table, most: int) -> bool:
    """Whether `_by_pairs` applies, and few enough of the pairs are for nothing."""
    rows, width = table.places.shape
    steps = min(width, 2 * most // rows + 1)  # as many as it takes, roughly
    if table.floor <= 0 or rows * width**2 > min(_PAIRS, _PAIRS_PER_STEP * steps):
        return False
    ranked = np.sort(table.cells[3], 1)
    return not ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] > -np.inf)).any()


def vote(kept: np.ndarray, spans: np.ndarray, values: np.ndarray, threshold: float) -> np.ndarray:
    """Kept segments moved to the mean of the candidates that overlap them.

    Args:
        kept: (K, 2) float32.
        spans: (N, 2) float32 candidates.
        values: (N,) float32 scores; a candidate weighs its score times its IoU.
        threshold: the IoU from which on a candidate counts.

    Returns:
        (K, 2) float32.
    """
    rows = max(1, _PAIRS // max(1, len(spans)))
    return np.concatenate(
        [_voted(kept[at : at + rows], spans, values, threshold) for at in range(0, len(kept), rows)]
        or [kept]
    )


def _voted(kept: np.ndarray, spans: np.ndarray, values: np.ndarray, threshold: float) -> np.ndarray:
    inside = np.minimum(kept[:, None, 1], spans[None, :, 1]) - np.maximum(
        kept[:, None, 0], spans[None, :, 0]
    )
    np.maximum(inside, 0, out=inside)
    overlap = inside / (
        (kept[:, 1] - kept[:, 0])[:, None] + (spans[:, 1] - spans[:, 0])[None] - inside
    )
    weight = np.where(overlap >= np.float32(threshold), overlap * values[None], np.float32(0))
    total = weight.sum(1, keepdims=True)
    # A segment without length overlaps nothing, not even itself, and stays where it is.
    return np.where(total > 0, weight @ spans / np.where(total > 0, total, 1), kept).astype(
        np.float32
    )
