"""What pruning saves a detector, in time and memory, and RoIAlign for all boxes at once against one
call per box.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.blocks.roi import choose_levels, lay_out, pool
from models.detection.evad import Config, build

ROUNDS = 3
BOXES, SLOTS, CHANNELS, BINS = 100, 8, 256, 7
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


def pooled(levels: list[Tensor], boxes: Tensor, image: Tensor, bins: int) -> Tensor:
    """All levels at once, each box from the level of its size: (K, C, bins, bins)."""
    rows = pool(lay_out(levels, SCALES), boxes, image, choose_levels(boxes, len(levels)), bins)
    return rows.unflatten(1, (bins, bins)).permute(0, 3, 1, 2)


def seconds(runs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """The fastest of some rounds, everything in turn within each, after one round to warm up."""
    best = dict.fromkeys(runs, float("inf"))
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_pruning_is_faster_than_keeping_all() -> None:
    clip = torch.randn(1, 3, 16, 288, 384)
    models = {
        f"keep {rate}": build(Config(num_classes=80, keep_rate=rate)).eval()
        for rate in (1.0, 0.7, 0.6)
    }
    with torch.no_grad():
        took = seconds({name: lambda model=model: model(clip) for name, model in models.items()})  # type: ignore[misc]
    print(
        "\nViT-B, one clip of 16 x 288 x 384: "
        + ", ".join(f"{name} {value:.2f} s" for name, value in took.items())
    )
    print(
        f"0.7 against 1.0: {took['keep 1.0'] / took['keep 0.7']:.2f}x, 0.6:"
        f" {took['keep 1.0'] / took['keep 0.6']:.2f}x"
    )
    assert took["keep 1.0"] / took["keep 0.7"] >= 1.4
    assert took["keep 0.6"] < took["keep 0.7"]


def one_by_one(levels: list[Tensor], boxes: Tensor, image: Tensor) -> Tensor:
    """Each box by itself from its own map: its samples' four corners gathered, weighted and
    averaged.
    """
    planes, out = [level.unbind() for level in levels], []
    for box, index, level in zip(
        boxes, image.tolist(), choose_levels(boxes, 4).tolist(), strict=True
    ):
        plane = planes[level][index]
        x1, y1, x2, y2 = (box * SCALES[level] - 0.5).unbind()
        share = (torch.arange(2 * BINS) + 0.5) / (2 * BINS)
        corners = []
        for low, high, size in ((y1, y2, plane.shape[1]), (x1, x2, plane.shape[2])):
            at = low + share * (high - low)
            inside, at = (at >= -1) & (at <= size), at.clamp(0, size - 1)
            first = at.floor().long()
            corners.append((first, (first + 1).clamp(max=size - 1), at - first, inside))
        (top, bottom, down, within), (left, right, across, between) = corners
        upper = plane[:, top][:, :, left] * (1 - across) + plane[:, top][:, :, right] * across
        lower = plane[:, bottom][:, :, left] * (1 - across) + plane[:, bottom][:, :, right] * across
        samples = (upper * (1 - down[:, None]) + lower * down[:, None]) * (
            within[:, None] & between
        )
        out.append(samples.unflatten(2, (BINS, 2)).unflatten(1, (BINS, 2)).mean((2, 4)))
    return torch.stack(out)


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_all_boxes_at_once_beat_a_loop() -> None:
    torch.manual_seed(0)
    levels = [
        torch.randn(SLOTS, CHANNELS, 72 >> level, 96 >> level, requires_grad=True)
        for level in range(4)
    ]
    # from 16 to 590 pixels: all four levels
    edge = torch.exp2(torch.rand(SLOTS * BOXES, 1) * 5.2 + 4)
    low = torch.rand(SLOTS * BOXES, 2) * torch.tensor([384.0, 288]) - edge / 2
    boxes, image = (
        torch.cat([low, low + edge * torch.tensor([0.8, 1.25])], 1),
        torch.arange(SLOTS).repeat_interleave(BOXES),
    )
    assert set(choose_levels(boxes, 4).tolist()) == {0, 1, 2, 3}
    with torch.no_grad():
        torch.testing.assert_close(
            pooled(levels, boxes, image, BINS),
            one_by_one(levels, boxes, image),
            rtol=1e-4,
            atol=1e-4,
        )
    seed = torch.randn(SLOTS * BOXES, CHANNELS, BINS, BINS)

    def both(pool_: Callable[[list[Tensor], Tensor, Tensor], Tensor]) -> None:
        for level in levels:
            level.grad = None
        pool_(levels, boxes, image).backward(seed)

    took = seconds(
        {
            "at once": lambda: both(lambda maps, boxes, image: pooled(maps, boxes, image, BINS)),
            "one by one": lambda: both(one_by_one),
        },
        rounds=1,
    )
    print(
        f"\n{BOXES} boxes x {SLOTS} slots x 4 levels, forward and backward:"
        f" {', '.join(f'{k} {v:.3f} s' for k, v in took.items())}"
    )
    print(f"{took['one by one'] / took['at once']:.0f}x")
    assert took["one by one"] / took["at once"] >= 10
