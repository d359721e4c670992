"""Operations along time that the clip itself decides on, on frames that are folded into the batch:
tensors are (B*T, C, H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalAdaptive(nn.Module):
    """Temporal adaptive module (Liu et al., ICCV 2021): each channel is weighed frame by frame by
    what it sees near by, then filtered along time with three taps that its whole course decides on.

    Args:
        channels: C of the maps.
        num_segments: T, frames of a clip.
    """

    def __init__(self, channels: int, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.taps = nn.Sequential(
            nn.Linear(num_segments, 2 * num_segments, bias=False),
            nn.BatchNorm1d(2 * num_segments),
            nn.ReLU(),
            nn.Linear(2 * num_segments, 3, bias=False),
            nn.Softmax(-1),
        )
        narrow = max(channels // 4, 1)
        self.weights = nn.Sequential(
            nn.Conv1d(channels, narrow, 3, padding=1, bias=False),
            nn.BatchNorm1d(narrow),
            nn.ReLU(),
            nn.Conv1d(narrow, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.num_segments))  # B, T, C, H, W
        course = clips.mean((3, 4)).transpose(1, 2)  # B, C, T
        taps = self.taps(course.flatten(0, 1)).unflatten(0, course.shape[:2])  # B, C, 3
        # What each frame gives to the one behind it, to itself and to the one before it: 3 x (B, T,
        # C, 1, 1). Both weights in one, so that the maps are passed over three times only.
        to_next, to_itself, to_last = (self.weights(course)[..., None] * taps[:, :, None]).permute(
            3, 0, 2, 1
        )[..., None, None]
        out = clips * to_itself
        out[:, 1:].addcmul_(clips[:, :-1], to_next[:, :-1])
        out[:, :-1].addcmul_(clips[:, 1:], to_last[:, 1:])
        return out.flatten(0, 1)


class OffsetNet(nn.Module):
    """Means of channels over time (B, C, T) -> two offsets in frames, (B, 2), within -2..2."""

    def __init__(self, channels: int, num_segments: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 1, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(num_segments, num_segments), nn.Linear(num_segments, 2)
        nn.init.constant_(self.fc2.bias, 0.5108)  # starts half a frame away from zero

    def forward(self, course: Tensor) -> Tensor:
        return 4 * (self.fc2(F.relu(self.fc1(self.conv(course)[:, 0]))).sigmoid() - 0.5)


class WeightNet(nn.Module):
    """Means of channels over time (B, C, T) -> two weights a frame, (B, T, 2), within 0..2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 2, 3, padding=1)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, course: Tensor) -> Tensor:
        return 2 * self.conv(course).sigmoid().transpose(1, 2)


class TemporalInterlace(nn.Module):
    """Temporal interlacing (Shao et al., AAAI 2020): a share of the channels, in four groups, is
    moved along time by learnt offsets.

    The groups move by o0, o1, -o0 and -o1 frames (fractions blend two frames, beyond the clip is
    zero) and are weighed frame by frame by w0, w1, w0 and w1.

    Args:
        channels: C of the maps.
        num_segments: T, frames of a clip.
        shift_div: one in so many channels is moved, rounded down to a multiple of four.
    """

    def __init__(self, channels: int, num_segments: int, shift_div: int) -> None:
        super().__init__()
        self.num_segments, self.moved = num_segments, channels // shift_div // 4 * 4
        self.offset_net, self.weight_net = (
            OffsetNet(self.moved, num_segments),
            WeightNet(self.moved),
        )

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.num_segments))
        part = clips[:, :, : self.moved]
        course = part.mean((3, 4)).transpose(1, 2)
        offsets = self.offset_net(course)
        weights = self.weight_net(course)
        moved = _blend(part, torch.cat([offsets, -offsets], 1), weights.repeat(1, 1, 2))
        return torch.cat([moved.flatten(0, 1), x[:, self.moved :]], 1)


def _blend(clips: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Frame t of the g-th part of the channels goes to t + offset and is weighed there: (B, T, C,
    H, W), (B, G) from -2 to 2, (B, T, G) -> the shape of the clips.

    A frame gets from the one `step` behind it what a hat of width 1 around the offset says: passes
    over all channels at once, which follow the memory, for any offset.
    """
    frames, each = clips.shape[1], clips.shape[2] // offsets.shape[1]

    def given(step: int) -> Tensor:
        share = weights * (1 - (offsets + step).abs()).clamp(min=0)[:, None]
        return share.repeat_interleave(each, 2)[..., None, None]

    out = clips * given(0)
    for step in (-2, -1, 1, 2):
        if abs(step) < frames:
            to, of = (
                slice(max(-step, 0), frames - max(step, 0)),
                slice(max(step, 0), frames + min(step, 0)),
            )
            out[:, to].addcmul_(clips[:, of], given(step)[:, to])
    return out
