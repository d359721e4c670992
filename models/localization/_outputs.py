"""What a localizer gives: the one form that model, criterion and decoding share."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pyramid(NamedTuple):
    """What every point says, per level l (stride 2^l on the feature grid); levels are as long as
    the padded input divided by the stride.

    logits: (B, T_l, classes) before the sigmoid. offsets: (B, T_l, 2), distances to start and end
    in units of the level's stride, >= 0. valid: (B, T_l) bool, False at padding, where logits and
    offsets are exactly 0.
    """

    logits: list[Tensor]
    offsets: list[Tensor]
    valid: list[Tensor]
