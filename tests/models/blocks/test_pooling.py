"""Pooling: torch's own, bit for bit, with and without gradients, in any memory layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.pooling import PairPool, StemPool


def check(pool: nn.Module, maps: Tensor, expected: Tensor) -> None:
    layout = torch.channels_last if maps.ndim == 4 else torch.channels_last_3d
    for x in (maps, maps.contiguous(memory_format=layout)):
        assert torch.equal(pool(x), expected)
        assert torch.equal(pool(x.clone().requires_grad_()), expected)
        with torch.inference_mode():
            assert torch.equal(pool(x), expected)


@pytest.mark.parametrize("size", [(8, 6), (4, 4), (7, 6), (8, 5), (3, 3)])
@pytest.mark.parametrize("padded", [True, False])
def test_pooling_behind_a_stem(size: tuple[int, int], padded: bool) -> None:
    frames, room = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)), int(padded)
    check(StemPool(padded), frames, F.max_pool2d(frames, 3, 2, room))
    clips = torch.randn(2, 3, 5, *size, generator=torch.Generator().manual_seed(1))
    check(StemPool(padded, 2), clips, F.max_pool3d(clips, (1, 3, 3), (2, 2, 2), (0, room, room)))


@pytest.mark.parametrize("kernel", [(2, 1, 1), (1, 2, 2), (2, 2, 2)])
def test_pooling_of_pairs(kernel: tuple[int, int, int]) -> None:
    clips = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    check(PairPool(kernel), clips, F.max_pool3d(clips, kernel))
