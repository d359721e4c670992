"""Which kernels of the libraries below the networks compute wrongly or write past their memory, on
the sets that processors have.

Every layer of the zoo at odd widths (`ops.benchmarks.kernel_cases`) runs in one process per set;
narrower processors' kernels run on wider ones by the environment.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.benchmarks.kernel_cases import LIMITS, Case, cases

SETS: dict[str, dict[str, str]] = {
    "this processor's": {},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
}
"""By name the environment that takes these kernels."""
REPO = Path(__file__).resolve().parents[2]
HEAD = """\
# Kernels

What the libraries below the networks compute, layer by layer, beside float64: every kind of layer of the zoo at odd widths ({widths}
channels in and out), on small maps and on larger ones, contiguous and channels-last, in float32 and bfloat16; output and the gradients of
input, weights and bias. A cell is the furthest value, relative to the largest of its tensor (what cancels counts as a thousandth of the
largest of all tensors), in float32 and in bfloat16. Kernels for narrower processors run on wider ones by the environment: {sets}.
**Wrong** is above {float32:g} (bfloat16: {bfloat16:g}). **Ends** is a process that died or hung: each case runs in a fork whose heap is
checked, so that a write past the end of a block of memory ends it also where every value is right.
What ends behind such a case, in the same fork, may be its victim (9 channels with AVX2: alone they pass).

Made by `kinograph benchmark kernels --markdown docs/kernels.md` on {machine}.

## What was found

Three mistakes, all of them in oneDNN's **gradient of the weights** of a convolution:

1. **Strided 1x1 convolutions of few channels over channels-last maps**
   ([uxlfoundation/oneDNN#6035](https://github.com/uxlfoundation/oneDNN/issues/6035), open). It gathers the places that count into a
   buffer of places x channels and steps through it by blocks of 8 channels (AVX2) or 16 (AVX-512, in bfloat16 too): with fewer channels
   and more than one step it writes past the end. AVX2 steps soon, AVX-512 on maps from about 56x56, where a convolution of up to 15
   channels ends the process. Where the process survives the gradient is wrong in silence.
2. **Dilated kernels in bfloat16** with AVX-512: where channels do not fill the last of several blocks of 16 (24 channels, not 32) and rows
   have 32 places or more, weights get what was never written, infinity and NaN among it.
3. **Kernels that are longer than the clip in bfloat16**: a 3x3x3 convolution of two frames, a 5x5x5 one of four, whatever the channels.
   The gradient is off by as much as its own size, and some shapes write past their memory.

One that this processor does not have is known: with AMX, 3D convolutions in bfloat16 whose output is one place wide under a stride
([pytorch/pytorch#169688](https://github.com/pytorch/pytorch/issues/169688)).

`models.blocks.conv` has a detour for each, and every convolution of the networks that could come to it goes through there: the places are
taken first, or the convolution is computed in float32 where its weights train. The second table holds what the networks compute then.
Everything else is rounding.
"""  # noqa: E501


@dataclass
class Cell:
    """What was found of a kind on a set: furthest of what is right by type, how many cases, those
    that are wrong and those that ended.
    """

    furthest: dict[str, float] = field(default_factory=dict)
    count: int = 0
    refused: int = 0
    wrong: list[Case] = field(default_factory=list)
    ended: list[Case] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether a case is wrong or ended its process."""
        return bool(self.wrong or self.ended)

    def adds(self, case: Case, found: Mapping[str, object]) -> Cell:
        """Counts a case and what was found; this cell."""
        self.count += 1
        distance = found.get("distance")
        if "ended" in found:
            self.ended.append(case)
        elif not isinstance(distance, float):
            self.refused += 1
        elif not distance <= LIMITS[case.dtype]:  # NaN is wrong
            self.wrong.append(case)
        else:
            self.furthest[case.dtype] = max(distance, self.furthest.get(case.dtype, 0.0))
        return self

    def __str__(self) -> str:
        right = " / ".join(
            f"{self.furthest[dtype]:.0e}" if dtype in self.furthest else "-" for dtype in LIMITS
        )
        bad = [(what, some) for what, some in (("wrong", self.wrong), ("ends", self.ended)) if some]
        return "; ".join(
            [
                right,
                *(f"**{what}** {len(some)} of {self.count}: {_where(some)}" for what, some in bad),
            ]
        )


def _where(some: Sequence[Case]) -> str:
    channels = sorted({case.channels for case in some})
    parts = [
        (
            f"{channels[0]} to {channels[-1]} channels"
            if len(channels) > 1
            else f"{channels[0]} channels"
        )
    ]
    for values in ({case.layout for case in some}, {case.dtype for case in some}):
        parts += sorted(values) if len(values) == 1 else []
    return ", ".join(parts)


def checked_heap() -> dict[str, str]:
    """The environment in which glibc ends a process that has written past a block; empty where
    there is no glibc.
    """
    if sys.platform != "linux" or ctypes.util.find_library("c") != "libc.so.6":
        return {}
    return {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}


def found_on(
    kernels: Mapping[str, str], guarded: bool = False, kinds: Sequence[str] = ()
) -> Iterator[tuple[Case, dict[str, object]]]:
    """Each case with what was found: {"distance": ...}, {"ended": a signal's name} or {"refused":
    what torch said}.

    `kernels` is an environment, `guarded` takes the networks' convolutions instead of torch's,
    `kinds` are parts of the kinds wanted. Raises OSError where the process itself fails.
    """
    path = os.pathsep.join([str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "ops.benchmarks.kernel_cases", str(int(guarded)), *kinds]
    env = {**os.environ, **checked_heap(), "PYTHONPATH": path, **kernels}
    known = cases(guarded)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env, cwd=REPO
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            yield known[found.pop("case")], found
    if process.returncode:
        raise OSError(f"{' '.join(command)}: exit status {process.returncode}")


Table = dict[str, dict[str, Cell]]
"""Kind -> set -> cell."""


def table_of(
    guarded: bool = False, kinds: Sequence[str] = (), sets: Mapping[str, dict[str, str]] = SETS
) -> Table:
    """Everything, set after set: minutes each."""
    table: Table = {}
    for name, kernels in sets.items():
        for case, found in found_on(kernels, guarded, kinds):
            table.setdefault(case.kind, {}).setdefault(name, Cell()).adds(case, found)
    return table


def lines_of(table: Table) -> list[str]:
    """The table in markdown."""
    names = list(next(iter(table.values())))
    lines = ["| layer | cases | " + " | ".join(names) + " |", "|---|---:|" + "---|" * len(names)]
    for kind, row in table.items():
        lines.append(
            f"| {kind} | {next(iter(row.values())).count} | "
            + " | ".join(str(cell) for cell in row.values())
            + " |"
        )
    return lines


def mistakes(table: Table) -> list[str]:
    """One line for each kind and set in which a case is wrong or ended."""
    return [
        f"{kind}, {name}: {cell}"
        for kind, row in table.items()
        for name, cell in row.items()
        if cell.bad
    ]


def wrong_kinds(table: Table) -> tuple[str, ...]:
    """Kinds with a mistake on any set."""
    return tuple(kind for kind, row in table.items() if any(cell.bad for cell in row.values()))


def page(torchs: Table, networks: Table) -> str:
    """The page of the docs."""
    from ops.benchmarks.kernel_cases import WIDTHS

    sets = ", ".join(
        f"{name} by `{' '.join(f'{key}={value}' for key, value in env.items())}`"
        for name, env in SETS.items()
        if env
    )
    head = HEAD.format(widths=", ".join(map(str, WIDTHS)), sets=sets, machine=_machine(), **LIMITS)
    parts = [head, "## Torch's layers\n", *lines_of(torchs)]
    if networks:
        parts += ["\n## The networks' convolutions in their place\n", *lines_of(networks)]
    return "\n".join([*parts, ""])


def _machine() -> str:
    """Processor, widest kernels, and versions."""
    import torch

    names = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    built = next(
        (line.strip(" -") for line in torch.__config__.show().splitlines() if "MKL-DNN" in line), ""
    )
    built = built.removeprefix("Intel(R) MKL-DNN ").partition(" ")[0]
    widest = torch.backends.cpu.get_cpu_capability()
    return (
        f"{(names or [platform.processor() or platform.machine()])[0]} ({widest}), torch"
        f" {torch.__version__}, oneDNN {built}"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
