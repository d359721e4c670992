"""The temporal shift against values worked out by hand, and against its definition channel by
channel.
"""

from __future__ import annotations

import pytest
import torch

from models.blocks.temporal import TemporalShift, temporal_shift

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def by_definition(x: torch.Tensor, num_segments: int, shift_div: int) -> torch.Tensor:
    """One channel of one frame at a time."""
    fold = x.shape[1] // shift_div
    out = torch.zeros_like(x)
    for row in range(x.shape[0]):
        t = row % num_segments
        for channel in range(x.shape[1]):
            step = 1 if channel < fold else -1 if channel < 2 * fold else 0
            if 0 <= t + step < num_segments:
                out[row, channel] = x[row + step, channel]
    return out


def test_known_answer() -> None:
    # Two clips of three frames, four channels, one pixel; frame t of clip b holds 100 b + 10 t +
    # channel.
    x = (
        torch.tensor(
            [[100 * b + 10 * t + c for c in range(4)] for b in range(2) for t in range(1, 4)]
        )
        .float()
        .view(6, 4, 1, 1)
    )
    expected = [
        [20, 0, 12, 13], [30, 11, 22, 23], [0, 21, 32, 33],
        [120, 0, 112, 113], [130, 111, 122, 123], [0, 121, 132, 133],
    ]  # fmt: skip
    assert temporal_shift(x, 3, 4).view(6, 4).tolist() == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("channels", "shift_div", "num_segments"),
    [(16, 8, 8), (17, 8, 3), (6, 2, 4), (64, 3, 2), (8, 8, 1)],
)
def test_is_its_definition(
    layout: torch.memory_format, channels: int, shift_div: int, num_segments: int
) -> None:
    x = torch.randn(2 * num_segments, channels, 3, 5).contiguous(memory_format=layout)
    before = x.clone()
    out = TemporalShift(num_segments, shift_div)(x)
    assert torch.equal(out, by_definition(x, num_segments, shift_div))
    assert out.is_contiguous(memory_format=layout) and torch.equal(x, before)


def test_fewer_channels_than_the_divisor_stay() -> None:
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(temporal_shift(x, 2, 8), x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_is_the_definitions(layout: torch.memory_format) -> None:
    x = torch.randn(8, 16, 3, 3).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(8, 16, 3, 3).contiguous(memory_format=layout)
    (ours,) = torch.autograd.grad((temporal_shift(x, 4, 8) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((by_definition(x, 4, 8) * weight).sum(), x)
    assert torch.equal(ours, theirs)


def test_gradients_to_second_order() -> None:
    x = torch.randn(4, 4, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: temporal_shift(v, 2, 4) ** 2, x)
    assert torch.autograd.gradgradcheck(lambda v: temporal_shift(v, 2, 4) ** 2, x)
