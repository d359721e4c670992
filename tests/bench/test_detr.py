"""What a step of training spends on matching and losses, and what folding the frozen norms saves a
forward pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from models.blocks.frozen_norm import FrozenConvNorm
from models.parsing import apct, detr

pytestmark = pytest.mark.bench
BATCH, QUERIES, PARTS, STATES, LAYERS = 8, 100, 10, 74, 6


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Least processor time of a few runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def people(number: int) -> apct.People:
    boxes, parts = 0.3 + 0.3 * torch.rand(number, 4), 0.3 + 0.3 * torch.rand(number, PARTS, 4)
    return apct.People(
        boxes, parts, torch.rand(number, PARTS) > 0.2, torch.randint(0, STATES, (number, PARTS))
    )


def test_criterion_is_a_small_part_of_a_step() -> None:
    """At 224x288, a thirteenth of the pixels of 800x1066: at full size the share is that much
    smaller still.
    """
    torch.manual_seed(0)
    model, criterion = apct.build(apct.Config(num_classes=STATES)), apct.Criterion()
    images, truth = (
        torch.randn(BATCH, 3, 224, 288),
        [people(1 + index % 4) for index in range(BATCH)],
    )

    def step() -> None:
        model.zero_grad()
        criterion(model(images), truth).total.backward()

    with torch.no_grad():
        parsed = model(images)
    leaves = apct.Parsed(*(tensor.clone().requires_grad_() for tensor in parsed))
    matching = seconds(lambda: criterion.match(parsed, truth), 5)
    losses = seconds(lambda: criterion(leaves, truth).total.backward(), 5)
    whole = seconds(step, 1)
    print(
        f"\nmatching {1e3 * matching:.0f} ms, all of the criterion {1e3 * losses:.0f} ms, step"
        f" {whole:.2f} s: {losses / whole:.1%}"
    )
    assert losses < 0.15 * whole


def test_forward_against_norms_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """DETR-R50 at 800x1066 against itself with every frozen norm as a pass of its own over maps in
    the images' layout.
    """
    torch.manual_seed(0)
    model, image = detr.build(detr.Config(num_classes=91)).eval(), torch.randn(1, 3, 800, 1066)

    def apart(self: FrozenConvNorm, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.conv(x.contiguous()))
        return F.relu(x) if self.relu else x

    with torch.no_grad():
        folded = seconds(lambda: model(image), 2)
        monkeypatch.setattr(FrozenConvNorm, "forward", apart)
        plain = seconds(lambda: model(image), 2)
    print(f"\nforward {folded:.2f} s, norms apart {plain:.2f} s: {plain / folded:.2f}x")
    assert plain > 1.1 * folded
