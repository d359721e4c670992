"""RoIAlign against its definition, sample by sample."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.blocks.roi import choose_levels, lay_out, pool, roi_align
from models.errors import ModelInputError


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """(C, H, W) at a place -> (C,); zero more than a cell outside."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(len(image))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right, down, across = (
        min(top + 1, height - 1),
        min(left + 1, width - 1),
        y - top,
        x - left,
    )
    upper = image[:, top, left] * (1 - across) + image[:, top, right] * across
    lower = image[:, bottom, left] * (1 - across) + image[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def by_definition(image: Tensor, box: Tensor, bins: int, scale: float, ratio: int) -> Tensor:
    x1, y1, x2, y2 = (box * scale - 0.5).tolist()
    rows, columns = ratio or math.ceil((y2 - y1) / bins), ratio or math.ceil((x2 - x1) / bins)
    out = image.new_zeros(len(image), bins, bins)
    for i in range(bins):
        for j in range(bins):
            for m in range(rows):
                for n in range(columns):
                    y = y1 + (i + (m + 0.5) / rows) * (y2 - y1) / bins
                    out[:, i, j] += bilinear(
                        image, y, x1 + (j + (n + 0.5) / columns) * (x2 - x1) / bins
                    )
    return out / max(rows * columns, 1)


def some_boxes(rng: np.random.Generator, count: int) -> Tensor:
    """Within, across and outside a map of 20 x 30 cells of 16 pixels; some inside out, as unclipped
    predictions are.
    """
    low = rng.uniform(-60, 480, (count, 2))
    return torch.tensor(np.concatenate([low, low + rng.uniform(-10, 400, (count, 2))], 1))


@pytest.mark.parametrize("ratio", [1, 2, 3, 0])
def test_the_definition(ratio: int) -> None:
    rng = np.random.default_rng(ratio)
    maps, boxes = torch.tensor(rng.standard_normal((2, 3, 20, 30))), some_boxes(rng, 8)
    image = torch.tensor(rng.integers(0, 2, 8))
    found = roi_align(maps, boxes, image, 4, 1 / 16, ratio)
    true = torch.stack(
        [by_definition(maps[b], box, 4, 1 / 16, ratio) for b, box in zip(image, boxes, strict=True)]
    )
    torch.testing.assert_close(found, true, rtol=0, atol=1e-12)


def test_the_reference(shared: Path) -> None:
    with np.load(shared / "parity" / "detection" / "roialign_aligned.npz") as case:
        maps, boxes, true = (
            torch.from_numpy(case[key]) for key in ("feat", "boxes", "out7_sr2_scale16")
        )
    found = roi_align(maps[None], boxes, torch.zeros(len(boxes), dtype=torch.int64), 7, 1 / 16, 2)
    torch.testing.assert_close(found, true, rtol=0, atol=5e-6)


def test_degenerate_boxes() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    boxes = torch.tensor([[24.0, 24, 24, 24], [-900, -900, -800, -800], [-1e30, -1e30, 1e30, 1e30]])
    found = roi_align(maps, boxes, torch.zeros(3, dtype=torch.int64), 2, 1 / 16, 2)
    # a point: the same sample in every bin
    assert torch.equal(found[0], torch.full((1, 2, 2), 5.0))
    assert found[1].abs().max() == 0 and torch.isfinite(found[2]).all()
    assert roi_align(maps, boxes[:0], torch.zeros(0, dtype=torch.int64), 2, 1 / 16).shape == (
        0,
        1,
        2,
        2,
    )


def test_a_box_that_is_no_number_gives_no_number() -> None:
    boxes = torch.tensor([[float("nan"), 0, 20, 20], [0, 0, 20, 20]])
    found = roi_align(torch.ones(1, 1, 3, 4), boxes, torch.zeros(2, dtype=torch.int64), 2, 1 / 16)
    assert found[0].isnan().all() and torch.isfinite(found[1]).all()


def test_every_box_from_the_level_of_its_size() -> None:
    edges = torch.tensor([1.0, 111, 113, 223, 225, 447, 449, 5000, 0])
    boxes = torch.stack([torch.zeros_like(edges), torch.zeros_like(edges), edges, edges], 1)
    assert choose_levels(boxes, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 0]
    levels = [torch.full((2, 1, 64 >> level, 96 >> level), float(level)) for level in range(4)]
    wanted = choose_levels(torch.cat([boxes, boxes]) * 0.1, 4)
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    pooled = pool(
        lay_out(levels, scales),
        torch.cat([boxes, boxes]) * 0.1 + 20,
        torch.tensor([0] * 9 + [1] * 9),
        wanted,
        3,
    )
    assert torch.equal(pooled.amax((1, 2)).long(), wanted)


def test_levels_pooled_together_equal_levels_one_by_one() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(3, 4, 32 >> level, 48 >> level, dtype=torch.double) for level in range(4)]
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    boxes, image = some_boxes(np.random.default_rng(1), 20), torch.arange(20) % 3
    level = torch.arange(20) % 4
    together = pool(lay_out(levels, scales), boxes, image, level, 5)
    for index in range(4):
        chosen = level == index
        alone = (
            roi_align(levels[index], boxes[chosen], image[chosen], 5, scales[index])
            .flatten(2)
            .transpose(1, 2)
        )
        torch.testing.assert_close(together[chosen], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ratio", [2, 0])
def test_gradients(ratio: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 1, 4, 5, dtype=torch.double, requires_grad=True)
    boxes = torch.tensor(
        [[-10.0, 3, 60, 51], [5.3, 5.7, 74.1, 60.2], [20, 11, 41.7, 38.9]],
        dtype=torch.double,
        requires_grad=True,
    )
    image = torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(
        lambda maps, boxes: roi_align(maps, boxes, image, 2, 1 / 16, ratio), (maps, boxes)
    )


def test_half_precision_sums_in_float32() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 8, 8).bfloat16().requires_grad_()
    boxes = torch.rand(500, 2).mul(100).repeat(1, 2) + torch.tensor([0.0, 0, 30, 30])
    pooled = roi_align(maps, boxes, torch.zeros(500, dtype=torch.int64), 2, 1 / 16)
    assert pooled.dtype == torch.bfloat16
    pooled.sum().backward()
    whole = maps.detach().float().requires_grad_()
    roi_align(whole, boxes, torch.zeros(500, dtype=torch.int64), 2, 1 / 16).sum().backward()
    torch.testing.assert_close(maps.grad.float(), whole.grad, rtol=1e-2, atol=1e-3)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ModelInputError, match=r"roi: found boxes \(3, 5\)"):
        roi_align(torch.ones(1, 1, 3, 4), torch.ones(3, 5), torch.zeros(3, dtype=torch.int64), 2, 1)
    with pytest.raises(ModelInputError, match=r"roi: levels: found shapes \[\(1, 3, 4\)\]"):
        lay_out([torch.ones(1, 3, 4)], [1])
