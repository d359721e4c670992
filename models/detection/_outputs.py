"""What a detector gives: the one form that model, criterion and decoding share."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Detections(NamedTuple):
    """Everything EVAD says of a batch of clips, Q proposals each. The last entry of a list is the
    answer, the others are for training.
    """

    person_logits: list[Tensor]  # of each stage (B, Q, 2): person, nothing
    # of each stage (B, Q, 4) xyxy in pixels of the input, not clipped to the image; float32 at
    # least
    boxes: list[Tensor]
    action_logits: list[Tensor]  # of each decoder block (B, Q, classes), of the last stage's boxes
    sizes: Tensor  # (B, 2) float: height and width of the unpadded images, in pixels
    # (B, K) int64: tokens that were kept, numbered in time order without the key frame's
    kept: Tensor
