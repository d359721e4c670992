"""Layers of the zoo at odd widths, each computed in float32 or bfloat16 beside float64: python -m
ops.benchmarks.kernel_cases GUARDED ...

One line of JSON a case: its number, and how far its output and gradients are from the truth, or how
the process ended that computed it. Kernels that write past their memory end processes, so that
cases run in forks; with glibc's checked heap (see `kernels`) a write past a block's end ends the
fork at once, also where all values are right.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks import conv

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 9, 12)
"""Channels in and out: most are no multiple of any processor's vectors."""
FEW = (1, 3, 8, 15, 24)
"""Channels on larger maps."""
LAYOUTS = ("contiguous", "channels-last")
DTYPES = ("float32", "bfloat16")
LIMITS = {"float32": 1e-4, "bfloat16": 1e-1}
"""Distances from float64 that rounding does not explain, relative to the largest value of a
tensor.
"""
SECONDS = 20  # for one case: one that hangs ends its fork
BATCH = 100  # cases of a fork, so that no heap is used for long

Layer = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """A layer: what it is called in the table, the shapes of its input and its parameters, layout
    and type of the input.
    """

    kind: str
    layer: Layer
    shape: tuple[int, ...]
    parameters: tuple[tuple[int, ...], ...]
    layout: str
    dtype: str

    @property
    def channels(self) -> int:
        return self.shape[1]


Axis = tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """A convolution: name, kernel, stride, padding, dilation, and groups (0: each channel
    alone).
    """

    name: str
    kernel: Axis
    stride: Axis
    padding: Axis
    dilation: int = 1
    groups: int = 1

    @property
    def ndim(self) -> int:
        return len(self.kernel)


FLAT = (
    Shape("1x1", (1, 1), (1, 1), (0, 0)),
    Shape("1x1, dilated as the zoo's are", (1, 1), (1, 1), (0, 0), 2),
    Shape("1x1, stride 2", (1, 1), (2, 2), (0, 0)),
    Shape("1x1, stride 2, dilated", (1, 1), (2, 2), (0, 0), 2),
    Shape("1x1, stride 2 along one side", (1, 1), (2, 1), (0, 0)),
    Shape("1x1, stride 4", (1, 1), (4, 4), (0, 0)),
    Shape("3x3", (3, 3), (1, 1), (1, 1)),
    Shape("3x3, stride 2", (3, 3), (2, 2), (1, 1)),
    Shape("3x3, dilated", (3, 3), (1, 1), (2, 2), 2),
    Shape("3x3, by channel", (3, 3), (1, 1), (1, 1), 1, 0),
    Shape("3x3, by channel, stride 2", (3, 3), (2, 2), (1, 1), 1, 0),
    Shape("3x3, in 3 groups", (3, 3), (1, 1), (1, 1), 1, 3),
    Shape("1x1, in 3 groups, stride 2", (1, 1), (2, 2), (0, 0), 1, 3),
    Shape("7x7, stride 2", (7, 7), (2, 2), (3, 3)),
    Shape("7x7, stride 4", (7, 7), (4, 4), (3, 3)),
    Shape("4x4 patches", (4, 4), (4, 4), (0, 0)),
    Shape("2x2 patches", (2, 2), (2, 2), (0, 0)),
    Shape("3x1", (3, 1), (1, 1), (1, 0)),
    Shape("5x1, stride 4", (5, 1), (4, 1), (2, 0)),
    Shape("1x3, by channel, stride 2", (1, 3), (1, 2), (0, 1), 1, 0),
)
DEEP = (
    Shape("1x1x1", (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    Shape("1x1x1, stride 2", (1, 1, 1), (1, 2, 2), (0, 0, 0)),
    Shape("3x3x3", (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    Shape("3x3x3, stride 2", (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    Shape("3x3x3, by channel", (3, 3, 3), (1, 1, 1), (1, 1, 1), 1, 0),
    Shape("3x3x3, by channel, stride 2", (3, 3, 3), (1, 2, 2), (1, 1, 1), 1, 0),
    Shape("5x5x5, by channel", (5, 5, 5), (1, 1, 1), (2, 2, 2), 1, 0),
    Shape("3x1x1", (3, 1, 1), (1, 1, 1), (1, 0, 0)),
    Shape("1x3x3, stride 2", (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    Shape("3x7x7, stride 2x4x4", (3, 7, 7), (2, 4, 4), (1, 3, 3)),
    Shape("2x4x4 patches", (2, 4, 4), (2, 4, 4), (0, 0, 0)),
)
LONG = (
    Shape("1", (1,), (1,), (0,)),
    Shape("3", (3,), (1,), (1,)),
    Shape("3, by channel, stride 2", (3,), (2,), (1,), 1, 0),
)
SMALL = {1: (2, 33), 2: (2, 16, 12), 3: (1, 4, 8, 12)}
"""Samples and sides of the maps on which all widths meet, by number of sides."""
ODD = {1: ((1, 2),), 2: ((1, 7, 9), (2, 2, 9)), 3: ((2, 3, 7, 5), (2, 2, 8, 12))}
"""Of smaller ones, shorter than some kernels."""
SOME = (1, 3, 8, 12)
"""Channels out on the others."""
WIDE = {1: (), 2: ((2, 56, 56),), 3: ((1, 8, 28, 28),)}
"""Of larger ones, that kernels walk over in more than one step."""
WIDEST = (2, 112, 112)
"""Of what 1x1 convolutions see behind a stem; bfloat16's kernels take longer steps."""


def _convolutions(guarded: bool) -> Iterator[Case]:
    for shape in (*LONG, *FLAT, *DEEP):
        sizes = [(SMALL[shape.ndim], wide, out) for wide, out in product(WIDTHS, WIDTHS)]
        sizes += [
            (size, wide, out) for size in ODD[shape.ndim] for wide, out in product(WIDTHS, SOME)
        ]
        large = WIDE[shape.ndim] + ((WIDEST,) if shape.kernel == (1, 1) else ())
        sizes += [(size, wide, 8) for size in large for wide in FEW]
        for (samples, *sides), wide, out in sizes:
            groups, outputs = (shape.groups, out) if shape.groups else (wide, wide)
            room = min(
                side + 2 * pad - kernel
                for side, pad, kernel in zip(sides, shape.padding, shape.kernel, strict=True)
            )
            if (
                wide % groups
                or outputs % groups
                or (not shape.groups and out not in (1, 8))
                or room < 0
            ):
                continue
            weight = (outputs, wide // groups, *shape.kernel)
            layer = partial(_convolution, shape=shape, groups=groups, guarded=guarded)
            for layout, dtype in product(LAYOUTS, DTYPES):
                yield Case(
                    f"{shape.ndim}D convolution {shape.name}",
                    layer,
                    (samples, wide, *sides),
                    (weight, (outputs,)),
                    layout,
                    dtype,
                )


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor, shape: Shape, groups: int, guarded: bool
) -> Tensor:
    networks: tuple[Layer, ...] = (F.conv1d, conv.conv2d, conv.conv3d)
    torchs: tuple[Layer, ...] = (F.conv1d, F.conv2d, F.conv3d)
    return (networks if guarded else torchs)[shape.ndim - 1](
        x, weight, bias, shape.stride, shape.padding, shape.dilation, groups
    )


def _others() -> Iterator[Case]:
    flat, deep = (2, 16, 12), (1, 4, 8, 12)
    over_maps: list[tuple[str, Layer, tuple[int, ...]]] = [
        ("maximum of 3x3, stride 2", lambda x: F.max_pool2d(x, 3, 2, 1), flat),
        (
            "maximum of 1x3x3, stride 2",
            lambda x: F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)),
            deep,
        ),
        ("maximum of 2x2x2", lambda x: F.max_pool3d(x, 2), deep),
        ("mean of 2x2", lambda x: F.avg_pool2d(x, 2), flat),
        ("every second place by means", lambda x: F.avg_pool2d(x, 1, 2), flat),
        ("mean of a map", lambda x: x.mean((2, 3)), flat),
        ("mean of a clip", lambda x: x.mean((2, 3, 4)), deep),
        ("nearest, twice as large", lambda x: F.interpolate(x, scale_factor=2.0), flat),
        (
            "bilinear",
            lambda x: F.interpolate(x, size=(13, 21), mode="bilinear", align_corners=False),
            flat,
        ),
        (
            "bicubic",
            lambda x: F.interpolate(x, size=(13, 21), mode="bicubic", align_corners=False),
            flat,
        ),
        ("samples at places", _sampled, flat),
    ]
    for (kind, layer, (samples, *sides)), wide, layout, dtype in product(
        over_maps, (*WIDTHS, 24), LAYOUTS, DTYPES
    ):
        if layer is not _sampled or dtype == "float32":  # mixed precision takes places in float32
            yield Case(kind, layer, (samples, wide, *sides), (), layout, dtype)
    for dims, wide, layout, dtype in product((flat, deep), (*WIDTHS, 24), LAYOUTS, DTYPES):
        samples, *sides = dims
        norm = partial(F.batch_norm, running_mean=None, running_var=None, training=True)
        yield Case(
            f"{len(sides)}D batch normalisation",
            lambda x, w, b, norm=norm: norm(x, weight=w, bias=b),
            (samples, wide, *sides),
            ((wide,), (wide,)),
            layout,
            dtype,
        )
    for wide, out, dtype in product(WIDTHS, WIDTHS, DTYPES):
        yield Case("linear", F.linear, (2, 19, wide), ((out, wide), (out,)), "contiguous", dtype)
        yield Case("attention", _attention, (2, out, 19, 3 * wide), (), "contiguous", dtype)
    # of one or two values a normalisation leaves the signs
    for wide, dtype in product((*WIDTHS[2:], 24), DTYPES):
        layer = lambda x, w, b: F.layer_norm(x, w.shape, w, b)  # noqa: E731
        yield Case(
            "layer normalisation", layer, (2, 19, wide), ((wide,), (wide,)), "contiguous", dtype
        )


def _sampled(x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return F.grid_sample(
        x,
        (2 * torch.rand(x.shape[0], 5, 6, 2) - 1).to(x),
        padding_mode="border",
        align_corners=False,
    )


def _attention(x: Tensor) -> Tensor:
    query, key, value = x.chunk(3, 3)
    return F.scaled_dot_product_attention(query, key, value)


def cases(guarded: bool) -> list[Case]:
    """All of them, in an order that stays; `guarded` convolutions are those of
    `models.blocks.conv`, else they are torch's.
    """
    return [*_convolutions(guarded), *_others()]


def distance(case: Case) -> float:
    """The furthest value of output and gradients, relative to the largest of its tensor; NaN where
    one is none.

    What cancels counts as a thousandth of the largest of all.
    """
    torch.manual_seed(0)
    dtype = getattr(torch, case.dtype)
    leaves = [torch.randn(shape).to(dtype) for shape in (case.shape, *case.parameters)]
    if case.layout == "channels-last":
        leaves[0] = (
            conv.channels_last(leaves[0])
            if leaves[0].ndim > 3
            else leaves[0].transpose(1, 2).contiguous().transpose(1, 2)
        )
    true = _numbers(case, [leaf.double().contiguous() for leaf in leaves])
    found = _numbers(case, leaves)
    least = 1e-3 * torch.stack([one.abs().max() for one in true]).max()
    furthest = [
        (one.double() - other).abs().max() / other.abs().max().clamp_min(least)
        for one, other in zip(found, true, strict=True)
    ]
    return float(torch.stack(furthest).max())  # a maximum over tensors keeps NaN


def _numbers(case: Case, leaves: Sequence[Tensor]) -> list[Tensor]:
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = case.layer(*leaves)
    probe = 0.5 + torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    probe = probe.bfloat16().to(out)  # of few bits: the same in every type
    if out.ndim == 4 and leaves[0].ndim == 4 and leaves[0].stride(1) == 1:
        probe = conv.channels_last(probe)
    return [out.detach(), *torch.autograd.grad(out, leaves, probe)]


Found = dict[str, object]


def isolated(
    numbers: Sequence[int], work: Callable[[int], Found], seconds: int = SECONDS
) -> Iterator[tuple[int, Found]]:
    """Of each number what `work` finds, computed in forks; of one that ends its fork {"ended": the
    signal's name}.
    """
    at = 0
    while at < len(numbers):
        some = numbers[at : at + BATCH]
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _fork(some, work, write, seconds)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as lines:
            done = [json.loads(line) for line in lines if line.endswith("\n")]
        _, status = os.waitpid(child, 0)
        yield from zip(some, done, strict=False)
        at += len(done)
        if len(done) < len(some):
            how = (
                signal.Signals(os.WTERMSIG(status)).name
                if os.WIFSIGNALED(status)
                else f"exit status {os.WEXITSTATUS(status)}"
            )
            yield numbers[at], {"ended": how}
            at += 1


def _fork(numbers: Sequence[int], work: Callable[[int], Found], write: int, seconds: int) -> None:
    """Never comes back."""
    code = 1
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever the parent does with it
    try:
        for number in numbers:
            signal.alarm(seconds)
            os.write(write, (json.dumps(work(number)) + "\n").encode())
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    """Arguments: 1 for the networks' convolutions or 0 for torch's, and parts of kinds to leave
    others out.
    """
    guarded, chosen = sys.argv[1] == "1", sys.argv[2:]
    torch.set_num_threads(1)  # before any fork: a pool of threads does not survive one
    all_cases = cases(guarded)
    numbers = [
        number
        for number, case in enumerate(all_cases)
        if not chosen or any(part in case.kind for part in chosen)
    ]

    def work(number: int) -> Found:
        try:
            return {"distance": distance(all_cases[number])}
        except (RuntimeError, NotImplementedError) as error:
            return {"refused": str(error).splitlines()[0][:200]}

    for number, found in isolated(numbers, work):
        print(json.dumps({"case": number, **found}), flush=True)


if __name__ == "__main__":
    main()
