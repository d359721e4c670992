"""The search for kernels that err finds what errs, goes on behind it, and says it in a table."""

from __future__ import annotations

import dataclasses
import faulthandler
import math
import os
import time

import torch

from ops.benchmarks.kernel_cases import BATCH, Case, cases, distance, isolated
from ops.benchmarks.kernels import Cell, found_on, lines_of, mistakes, page, wrong_kinds


def case(**changes: object) -> Case:
    layer = lambda x, weight: torch.nn.functional.linear(x, weight)  # noqa: E731
    return dataclasses.replace(
        Case("linear", layer, (2, 3, 4), ((5, 4),), "contiguous", "float32"), **changes
    )  # type: ignore[arg-type]


def test_a_process_that_ends_costs_one_case() -> None:
    def work(number: int) -> dict[str, object]:
        if number == 3:
            faulthandler.disable()
            os.abort()
        if number == 5:
            time.sleep(30)
        if number == 7:
            raise KeyError(number)
        return {"distance": float(number)}

    numbers = [*range(9), *range(100, 100 + BATCH)]
    found = list(isolated(numbers, work, seconds=1))
    assert [number for number, _ in found] == numbers
    ended = {number: one["ended"] for number, one in found if "ended" in one}
    assert ended == {3: "SIGABRT", 5: "SIGALRM", 7: "exit status 1"}
    assert all(one == {"distance": float(number)} for number, one in found if number not in ended)


def test_distance_is_that_of_the_furthest_tensor() -> None:
    assert distance(case()) < 1e-6
    assert 1e-3 < distance(case(dtype="bfloat16")) < 1e-2

    class Lies(torch.autograd.Function):
        """A map whose weights' gradient is a tenth too large."""

        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight.T

        @staticmethod
        def backward(ctx, grad):
            x, weight = ctx.saved_tensors
            factor = 1.1 if x.dtype == torch.float32 else 1.0
            return grad @ weight, factor * grad.flatten(0, 1).T @ x.flatten(0, 1)

    assert abs(distance(case(layer=Lies.apply)) - 0.1) < 1e-5
    nothing = case(
        layer=lambda x, weight: x @ weight.T * (math.nan if x.dtype == torch.float32 else 1.0)
    )
    assert math.isnan(distance(nothing))


def test_every_kind_of_layer_is_there_in_all_layouts_and_types() -> None:
    known = cases(False)
    assert {one.dtype for one in known} == {"float32", "bfloat16"} and {
        one.layout for one in known
    } == {"contiguous", "channels-last"}
    assert {1, 2, 3, 4, 5, 6, 7, 9, 12} <= {one.channels for one in known}
    assert len({one.kind for one in known}) == 50 and len(known) == len(cases(True))


def test_a_process_of_its_own_answers() -> None:
    """Layers that no set of kernels has got wrong, in the forks of another process with a checked
    heap.
    """
    found = list(found_on({"ONEDNN_MAX_CPU_ISA": "AVX2"}, kinds=("mean of", "layer normalisation")))
    assert {one.kind for one, _ in found} == {
        "mean of 2x2",
        "mean of a map",
        "mean of a clip",
        "layer normalisation",
    }
    assert all(not Cell().adds(one, what).bad for one, what in found)


def test_table_says_where() -> None:
    cell = Cell()
    for one, found in [
        (case(), {"distance": 3e-7}),
        (case(dtype="bfloat16"), {"distance": 2e-3}),
        (case(shape=(2, 5, 4)), {"distance": 0.5}),
        (case(shape=(2, 7, 4), layout="channels-last"), {"ended": "SIGSEGV"}),
        (case(), {"distance": math.nan}),
        (case(), {"refused": "not implemented"}),
    ]:
        cell.adds(one, found)
    table = {"linear": {"AVX2": cell}, "other": {"AVX2": Cell().adds(case(), {"distance": 1e-6})}}
    header, _, row, other = lines_of(table)
    assert header == "| layer | cases | AVX2 |" and other == "| other | 1 | 1e-06 / - |"
    wrong = "**wrong** 2 of 6: 3 to 5 channels, contiguous, float32"
    assert (
        row == f"| linear | 6 | 3e-07 / 2e-03; {wrong}; **ends** 1 of 6: 7 channels, channels-last,"
        " float32 |"
    )
    assert wrong_kinds(table) == ("linear",) and len(mistakes(table)) == 1
    assert (
        "# Kernels" in page(table, {}) and row in page(table, table).partition("in their place")[2]
    )
