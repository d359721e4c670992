"""Windowed attention against the whole matrix."""

from __future__ import annotations

import math

import pytest
import torch

from models.blocks.local_attention import MASKED, local_attention, window_bias


def whole(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    valid: torch.Tensor,
    heads: int,
    reach: int,
) -> torch.Tensor:
    parts = [part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    scores = parts[0] @ parts[1].transpose(2, 3) / math.sqrt(parts[0].shape[-1])
    scores = scores + torch.where(valid, 0.0, MASKED)[:, None, None]
    place = torch.arange(query.shape[1])
    scores = scores.masked_fill((place[:, None] - place).abs() > reach, -math.inf)
    return (scores.softmax(-1) @ parts[2]).transpose(1, 2).flatten(2)


@pytest.mark.parametrize(
    ("length", "reach"), [(1, 2), (5, 3), (32, 1), (33, 9), (100, 9), (90, 40), (1500, 4)]
)
@pytest.mark.parametrize("grad", [True, False])
def test_equals_the_masked_whole(length: int, reach: int, grad: bool) -> None:
    torch.manual_seed(0)
    given = [(3 * torch.randn(2, length, 8)).requires_grad_(grad) for _ in range(3)]
    valid = torch.arange(length) < torch.tensor([length, max(1, length // 2)])[:, None]
    with torch.set_grad_enabled(grad):
        ours = local_attention(*given, window_bias(valid, reach), 2, reach)
        want = whole(*given, valid, 2, reach)
    torch.testing.assert_close(ours[valid], want[valid], rtol=1e-5, atol=1e-5)
    if grad:
        pairs = zip(
            torch.autograd.grad(ours[valid].sin().sum(), given),
            torch.autograd.grad(want[valid].sin().sum(), given),
            strict=True,
        )
        for mine, other in pairs:
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_a_masked_key_is_far_away_but_not_gone() -> None:
    """A score beyond the mask's brings a key back, as the published model has it."""
    query, key = torch.full((1, 3, 1), 1.0), torch.tensor([[[0.0], [0.0], [2e4]]])
    out = local_attention(
        query,
        key,
        torch.tensor([[[1.0], [2.0], [3.0]]]),
        window_bias(torch.tensor([[True, True, False]]), 1),
        1,
        1,
    )
    assert out[0, 1, 0] == 3 and out[0, 0, 0] == 1.5
