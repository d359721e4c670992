"""A network's numbers of single precision beside those of double precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.blocks.drop import DropPath

WRONG = 1e-4
"""Relative to the largest value of a tensor. Rounding alone stays below half of it with any
kernels; one that errs is far above.
"""
SHARE = 1e-3
"""A gradient counts as large as this share of the largest one at least: below that it is the
rounding of what cancels.
"""


def still(network: nn.Module, training: bool) -> nn.Module:
    """Without anything that is drawn. In training the statistics are those of the batch, with a
    floor under their variances: without it a normalisation of a miniature's four values multiplies
    rounding errors by thousands.
    """
    for module in network.train(training).modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, DropPath):
            module.rate = 0.0
        if training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = 1.0
    return network


def shaken(network: nn.Module, by: float = 0.02) -> nn.Module:
    """No branch starts at zero, and the statistics of normalisations matter."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    for key, buffer in network.named_buffers():
        if buffer.is_floating_point() and "running_" in key:
            buffer.copy_(
                torch.rand_like(buffer) + 0.5
                if key.endswith("var")
                else 0.1 * torch.randn_like(buffer)
            )
    return network


class NoOverrun(TorchDispatchMode):
    """Lets no strided 1x1 convolution of few channels reach torch: some processors' kernels write
    past their memory for it, and what breaks then is the process.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            _, weight, _, stride, *_, groups = args
            if (
                weight[0, 0].numel() == 1
                and max(stride) > 1
                and groups == 1
                and weight.shape[1] < 16
            ):
                raise AssertionError(
                    f"beside `models.blocks.conv.conv2d`: weight {tuple(weight.shape)}, stride"
                    f" {tuple(stride)}"
                )
        return func(*args, **(kwargs or {}))


def furthest(found: Iterable[Tensor], true: Iterable[Tensor], least: float = 0.0) -> list[float]:
    """Of each tensor the largest distance from the truth, relative to the largest true value (to
    `least` where that is smaller).
    """
    pairs = (
        (one.detach().double(), other.detach()) for one, other in zip(found, true, strict=True)
    )
    return [
        float((one - other).abs().max()) / max(float(other.abs().max()), least, 1e-300)
        for one, other in pairs
    ]


Outputs = Callable[[nn.Module, torch.dtype], Iterable[Tensor]]
"""What a network says to an input of this type."""


def distances(network: nn.Module, outputs: Outputs) -> dict[str, float]:
    """Relative distances to float64 of the outputs ("output 0", ...) and of the gradients of a
    random sum of them, by parameter.
    """

    def numbers(model: nn.Module, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, Tensor]]:
        torch.manual_seed(7)  # of what is drawn all the same
        said = list(outputs(model, dtype))
        probe = torch.Generator().manual_seed(8)
        total = sum((one * torch.randn(one.shape, generator=probe).to(dtype)).sum() for one in said)
        total.backward()
        return [one.detach() for one in said], {
            key: one.grad for key, one in model.named_parameters() if one.grad is not None
        }

    true = numbers(copy.deepcopy(network).double(), torch.float64)
    with NoOverrun():
        found = numbers(network, torch.float32)
    assert found[1].keys() == true[1].keys()
    largest = max(float(one.abs().max()) for one in true[1].values())
    far = {f"output {index}": one for index, one in enumerate(furthest(found[0], true[0]))}
    return far | dict(
        zip(true[1], furthest(found[1].values(), true[1].values(), SHARE * largest), strict=True)
    )


def wrong(make: Callable[[], tuple[nn.Module, Outputs]], tries: int = 3) -> dict[str, float]:
    """What is further than WRONG from its true value, each time of so many: a value that rounding
    moves across a ReLU's or a maximum's edge moves gradients for one draw of the weights, a kernel
    that errs does so for all of them.
    """
    left: dict[str, float] = {}
    for seed in range(tries):
        torch.manual_seed(seed)
        far = {key: one for key, one in distances(*make()).items() if not one <= WRONG}
        left = (
            {key: min(one, left[key]) for key, one in far.items() if key in left} if seed else far
        )
        if not left:
            break
    return left
