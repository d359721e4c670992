"""From a pyramid to segments: selection before suppression, and the fusion with scores of whole
videos.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from models.blocks.nms1d import suppress
from models.localization._outputs import Pyramid


class Candidates(NamedTuple):
    """Scored segments of one video: segments (N, 2) float32, scores (N,) float32, labels (N,)
    int64.

    `decode` and `suppress_candidates` keep the unit of the feature grid; `in_seconds` leaves it.
    """

    segments: Tensor
    scores: Tensor
    labels: Tensor


class Decoding(Protocol):
    """How segments are chosen; a recipe's section `decoding` is one.

    Before suppression, on every level: scores above `min_probability`, of these the
    `max_candidates` best, longer than `min_length` (units of the grid). Then
    `models.blocks.nms1d.suppress` with the rest. Voting needs `multiclass` off.
    """

    @property
    def min_probability(self) -> float: ...
    @property
    def max_candidates(self) -> int: ...
    @property
    def min_length(self) -> float: ...
    @property
    def method(self) -> str: ...
    @property
    def multiclass(self) -> bool: ...
    @property
    def iou_threshold(self) -> float: ...
    @property
    def sigma(self) -> float: ...
    @property
    def min_score(self) -> float: ...
    @property
    def max_segments(self) -> int: ...
    @property
    def voting_threshold(self) -> float: ...


def decode(pyramid: Pyramid, decoding: Decoding) -> list[Candidates]:
    """Candidates before suppression, on the feature grid and on the pyramid's device, level by
    level.

    Args:
        pyramid: of B videos.
        decoding: what is chosen on every level; its part on suppression is not read here.

    Returns:
        Candidates of each video.
    """
    found = []
    for video in range(len(pyramid.valid[0])):
        levels = zip(pyramid.logits, pyramid.offsets, pyramid.valid, strict=True)
        parts = [
            _level(logits[video], offsets[video], valid[video], 2**at, decoding)
            for at, (logits, offsets, valid) in enumerate(levels)
        ]
        found.append(Candidates(*(torch.cat(part) for part in zip(*parts, strict=True))))
    return found


def _level(
    logits: Tensor, offsets: Tensor, valid: Tensor, stride: int, decoding: Decoding
) -> Candidates:
    scores = (logits.detach().float().sigmoid() * valid[:, None]).flatten()
    where = (scores > decoding.min_probability).nonzero()[:, 0]
    scores = scores[where]
    # the tail is left out before the sort; ties at the cut stay in
    if len(scores) > decoding.max_candidates:
        tail = scores.topk(decoding.max_candidates, sorted=False).values.min()
        where, scores = where[scores >= tail], scores[scores >= tail]
    scores, order = scores.sort(descending=True, stable=True)
    scores, where = scores[: decoding.max_candidates], where[order[: decoding.max_candidates]]
    point, label = where // logits.shape[1], where % logits.shape[1]
    place = point.to(torch.float32) * stride
    reach = offsets.detach().float()[point] * stride
    segments = torch.stack([place - reach[:, 0], place + reach[:, 1]], 1)
    long = segments[:, 1] - segments[:, 0] > decoding.min_length
    return Candidates(segments[long], scores[long], label[long])


def suppress_candidates(candidates: Candidates, decoding: Decoding) -> Candidates:
    """The survivors in falling order of score, on the CPU.

    Args:
        candidates: of one video.
        decoding: its part on suppression, as `models.blocks.nms1d.suppress` takes it.
    """
    kept = suppress(
        *candidates,
        method=decoding.method,
        multiclass=decoding.multiclass,
        iou_threshold=decoding.iou_threshold,
        sigma=decoding.sigma,
        min_score=decoding.min_score,
        max_segments=decoding.max_segments,
        voting_threshold=decoding.voting_threshold,
    )
    return Candidates(kept.segments, kept.scores, kept.labels)


def in_seconds(
    candidates: Candidates, *, stride: float, window: float, fps: float, duration_s: float
) -> Candidates:
    """Segments in seconds, cut to the video.

    Args:
        candidates: on the feature grid.
        stride: frames from the begin of a feature to that of the next one.
        window: frames that a feature stands for.
        fps: frames per second that the features were taken at.
        duration_s: of the video.
    """
    seconds = (candidates.segments * stride + 0.5 * window) / fps
    return candidates._replace(segments=seconds.clamp(min=0.0, max=duration_s))


def fuse_scores(
    candidates: Candidates, class_scores: Tensor, *, max_proposals: int = 200, top: int = 2
) -> Candidates:
    """Proposals without a class, with the classes of their whole video: each proposal gets each
    class.

    The score is the geometric mean of the two.

    Args:
        candidates: of one video; their labels are not read.
        class_scores: (C,) of the video, in the order of the labels, not negative.
        max_proposals: how many of the best proposals count.
        top: how many of the video's best classes count.
    """
    order = candidates.scores.sort(descending=True, stable=True).indices[:max_proposals]
    best, labels = class_scores.sort(descending=True, stable=True)
    best, labels = best[:top], labels[:top]
    scores = (best[:, None] * candidates.scores[order][None]).sqrt().flatten()
    segments = candidates.segments[order].repeat(len(labels), 1)
    return Candidates(segments, scores, labels.repeat_interleave(len(order)))
