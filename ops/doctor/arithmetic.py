"""Does this machine compute a recipe's network rightly: its answers and gradients in float32
against the same in float64.

A kernel of a library can be wrong on one processor alone, and nothing else would say so: the loss
still falls.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import configs
from configs.settings import Settings
from ops.doctor.finding import Finding, good, wrong
from ops.training.cases import Case, of_miniature, of_recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

# Of the largest value of the answer, and of the largest gradient of each parameter. Rounding alone
# makes 1e-6 to 1e-4 of it, most in cascades whose boxes refine one another; a kernel that is wrong
# makes 1e-2 and more.
TOLERANCE = 1e-3
DRAWS = 4
# a GPU's convolutions round their factors to 10 bits, as torch has it by default
TOLERANCE_TF32 = 2e-2
# gradients so much smaller than the network's largest are compared with that share of it: they may
# be zero but for rounding
SMALL = 1e-2
ADVICE = (
    "a kernel of torch or of a library below it computes wrongly on this processor: trust no"
    " training of this recipe here. Try another release of torch; on a CPU ONEDNN_MAX_CPU_ISA=AVX"
    " or SSE41 chooses other kernels, slower ones"
)


class Difference(NamedTuple):
    """Largest differences of float32 from float64, as shares; `where` is the parameter with the
    worst gradient.
    """

    forward: float
    gradient: float
    where: str
    seconds: float


def recipe(settings: Settings, name: str, device: str) -> Iterator[Finding]:
    """A recipe's own network, at the size of its views, with fresh weights; on the CPU, or ("cuda")
    on each GPU that is there.
    """
    yield from _looked_at(lambda: of_recipe(configs.load(name)), device)


def miniature(settings: Settings, task: str, family: str, device: str) -> Iterator[Finding]:
    """The miniature of a family of the catalogue."""
    yield from _looked_at(lambda: of_miniature(task, family), device)


def _looked_at(make: Callable[[], Case], device: str) -> Iterator[Finding]:
    import torch

    devices = (
        ["cpu"]
        if device == "cpu"
        else [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    )
    if not devices:
        return
    case = make()
    for place in devices:
        # Of a GPU both: whether its kernels are right, and whether those are that training takes.
        for tf32, tolerance in (
            [(False, TOLERANCE)] if place == "cpu" else [(False, TOLERANCE), (True, TOLERANCE_TF32)]
        ):
            torch.backends.cudnn.allow_tf32 = tf32
            found = compare(case.build, case.inputs, place, tolerance)
            yield judged(f"{case.name} on {place}" + (" (TF32)" if tf32 else ""), found, tolerance)


def judged(name: str, found: Difference, tolerance: float) -> Finding:
    """The difference in words, and whether it is rounding."""
    text = f"answer within {found.forward:.0e}, gradient within {found.gradient:.0e} of float64"
    if found.forward <= tolerance and found.gradient <= tolerance:  # not so for NaN
        return good(name, text, found.seconds)
    return wrong(
        name, f"{text}, allowed {tolerance:.0e}; worst in {found.where}", ADVICE, found.seconds
    )


def compare(
    build: Callable[[], nn.Module],
    inputs: tuple[Any, ...],
    device: str = "cpu",
    tolerance: float = TOLERANCE,
) -> Difference:
    """Compare a pass forward and backward with the same in float64; `seconds` are those of float32.

    Batch norms take the batch's own statistics as in training; what draws at random does not. NaN
    is a difference. Rounding may carry a value over the kink of a ReLU, or exchange two of a
    maximum, and a small network's gradient then jumps: the nearest of a few draws of weights
    counts, for a wrong kernel is wrong in all.
    """
    found = []
    for seed in range(DRAWS):
        found.append(_difference(build, inputs, device, seed))
        if found[-1].forward <= tolerance and found[-1].gradient <= tolerance:
            break
    return min(found, key=lambda one: max(one.forward, one.gradient))


def _difference(
    build: Callable[[], nn.Module], inputs: tuple[Any, ...], device: str, seed: int
) -> Difference:
    import torch

    torch.manual_seed(seed)
    single = _settled(build())
    double = copy.deepcopy(single).double()
    ours, seconds = _pass(single.to(device), _placed(inputs, device, torch.float32))
    true, _ = _pass(double.to(device), _placed(inputs, device, torch.float64))
    forward = max(
        _share(one, other, _largest(other)) for one, other in zip(ours, true, strict=True)
    )
    gradients = [
        (name, one.grad, other.grad)
        for (name, one), other in zip(single.named_parameters(), double.parameters(), strict=True)
        if one.grad is not None and other.grad is not None
    ]
    least = SMALL * max((_largest(other) for _, _, other in gradients), default=0.0)
    shares = [
        (_share(one, other, max(least, _largest(other))), name) for name, one, other in gradients
    ]
    worst, where = max(shares, default=(math.inf, "no parameter: none has a gradient"))
    return Difference(forward, worst, where, seconds)


def _settled(model: nn.Module) -> nn.Module:
    """In evaluation, so that nothing is drawn; batch norms in training. Branches that start at zero
    are woken.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.train()
    return model


def _pass(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[Tensor], float]:
    """Detached answers after a backward pass from a fixed mixture of them, and the seconds of
    both.
    """
    import torch

    began = time.perf_counter()
    options = (
        {"every_head": True} if "every_head" in inspect.signature(model.forward).parameters else {}
    )
    answers = [
        one
        for one in _tensors(model(*inputs, **options))
        if one.is_floating_point() and one.requires_grad
    ]
    generator = torch.Generator().manual_seed(1)
    mixture = [
        torch.randn(one.shape, generator=generator, dtype=torch.float64).to(one)
        / math.sqrt(one.numel())
        for one in answers
    ]
    total = sum((weights * one).sum() for weights, one in zip(mixture, answers, strict=True))
    total.backward()  # type: ignore[union-attr]
    if answers[0].is_cuda:
        torch.cuda.synchronize()
    return [one.detach().double().cpu() for one in answers], time.perf_counter() - began


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of an answer, whatever it is made of."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _tensors([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _placed(inputs: tuple[Any, ...], device: str, dtype: Any) -> tuple[Any, ...]:
    return tuple(
        one.to(device, dtype) if one.is_floating_point() else one.to(device) for one in inputs
    )


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _share(one: Tensor, other: Tensor, largest: float) -> float:
    """Largest difference as a share; infinite where one of them is not finite."""
    difference = (
        float((one.double().cpu() - other.double().cpu()).abs().max()) if one.numel() else 0.0
    )
    if not math.isfinite(difference):
        return math.inf
    return difference / largest if largest else (math.inf if difference else 0.0)
