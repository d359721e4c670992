"""Networks against float64: right ones pass, a wrong backward pass and a NaN do not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import configs
from ops.doctor.arithmetic import TOLERANCE, Difference, compare, judged
from ops.doctor.checks import DEMO
from ops.training.cases import of_miniature, of_recipe


class WrongInSingle(torch.autograd.Function):
    """y = 2 x, whose backward pass in float32 is a tenth off in one place, as a kernel that writes
    past its buffer.
    """

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        grad = 2 * grad
        if grad.dtype == torch.float32:
            grad = grad.clone()
            grad.view(-1)[0] += 0.1 * grad.abs().max()
        return grad


class Scaled(nn.Module):
    def __init__(self, right: bool, fill: float = 0.0) -> None:
        super().__init__()
        self.before, self.after, self.right, self.fill = (
            nn.Linear(6, 6),
            nn.Linear(6, 3),
            right,
            fill,
        )

    def forward(self, x):
        x = torch.tanh(self.before(x)) + self.fill
        return {"scores": [self.after(2 * x if self.right else WrongInSingle.apply(x))]}


@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_backward_pass_is_found(right: bool) -> None:
    found = compare(
        lambda: Scaled(right), (torch.randn(4, 6, generator=torch.Generator().manual_seed(0)),)
    )
    assert found.forward < TOLERANCE  # the answer is right in both
    finding = judged("scaled", found, TOLERANCE)
    assert (finding.state == "good") == right
    if not right:
        assert (
            found.gradient > 10 * TOLERANCE
            and "before" in finding.found
            and "trust no training" in finding.advice
        )


def test_what_is_not_a_number_is_wrong() -> None:
    found = compare(lambda: Scaled(True, fill=math.nan), (torch.randn(4, 6),))
    assert judged("nan", found, TOLERANCE).state == "wrong"
    assert judged("nan", Difference(0.0, math.nan, "x", 0.0), TOLERANCE).state == "wrong"


@pytest.mark.parametrize("name", DEMO)
def test_every_recipe_of_the_demo_has_a_case(name: str) -> None:
    case = of_recipe(configs.load(name))
    found = compare(case.build, case.inputs)
    assert judged(name, found, TOLERANCE).state == "good", found


@pytest.mark.parametrize(
    ("task", "family"), [("recognition", "trn"), ("recognition", "videomae"), ("parsing", "detr")]
)
def test_families_without_a_recipe_of_the_demo_have_one(task: str, family: str) -> None:
    case = of_miniature(task, family)
    assert judged(case.name, compare(case.build, case.inputs), TOLERANCE).state == "good"
