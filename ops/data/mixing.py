"""Mixup and cutmix of a whole batch, with soft labels, as timm mixes: every clip with the one
opposite in the batch.

Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from configs.schema import Mixing

STREAM = 0x6D6978  # keeps the draws of a batch apart from those of its samples, which count from 0


def batch_generator(seed: int, epoch: int, first_index: int) -> np.random.Generator:
    """The generator of one batch: an epoch has a sample but once, so that the first one names the
    step and the rank.
    """
    return np.random.default_rng((seed, epoch, first_index, STREAM))


def soft_labels(label_ids: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Float32 [N, classes]: 1 - smoothing on the label, and smoothing spread evenly over all
    classes.

    Args:
        label_ids: int64 [N].
        num_classes: length of a row.
        smoothing: 0 to 1.
    """
    rest = smoothing / num_classes
    labels = torch.full((len(label_ids), num_classes), rest, device=label_ids.device)
    return labels.scatter_(1, label_ids[:, None], 1 - smoothing + rest)


def mix(
    frames: Tensor, labels: Tensor, config: Mixing, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Clips and labels of a batch, each mixed with another's, as new tensors; or both as they are.

    Clip i is mixed with clip N - 1 - i: one share, and with cutmix one rectangle (cut off at the
    border, which corrects the share), for all clips and frames of the batch.

    Args:
        frames: [N, ..., H, W].
        labels: soft ones, float32 [N, classes].
        config: with 1 - `probability` nothing is mixed.
        rng: of this batch (`batch_generator`).
    """
    applied, switched = rng.random() < config.probability, rng.random() < config.switch_probability
    if not applied:
        return frames, labels
    cut = bool(config.cutmix_alpha) and (switched or not config.mixup_alpha)
    alpha = config.cutmix_alpha if cut else config.mixup_alpha
    share = float(rng.beta(alpha, alpha))  # of the clip itself
    if cut:
        height, width = frames.shape[-2:]
        top, bottom, left, right = rectangle(height, width, share, rng)
        share = 1 - (bottom - top) * (right - left) / (height * width)
        mixed = frames.clone()
        # In every clip and frame the rectangle of clip N - 1 - i, in pixels of the crop.
        mixed[..., top:bottom, left:right] = frames.flip(0)[..., top:bottom, left:right]
    else:
        mixed = torch.lerp(frames.flip(0), frames, share)
    return mixed, torch.lerp(labels.flip(0), labels, share)


def rectangle(
    height: int, width: int, share: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a rectangle of the frame's shape around a random point, cut off
    at the border.

    Args:
        height: of the frame, in pixels.
        width: of the frame, in pixels.
        share: of the area that is left: the rectangle has 1 - share before it is cut off.
        rng: draws the point.
    """
    side = math.sqrt(1 - share)
    # Half the sides of a rectangle of the frame's own shape with 1 - share of its area, in pixels.
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return (
        max(y - half_height, 0),
        min(y + half_height, height),
        max(x - half_width, 0),
        min(x + half_width, width),
    )
