"""What this machine is: processor, instruction sets, GPUs, memory, CPUs and file descriptors, with
the limits that are set on them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from configs.settings import Settings
from ops.doctor.finding import Finding, good, note, wrong
from ops.doctor.limits import cpu_quota, memory_limit

LEAST_MEMORY_GB = 4.0  # a training of the demo with its loader, Ray and MLflow takes about three
LEAST_DESCRIPTORS = 1024  # Ray alone opens some hundred
SWITCHES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONOPTIMIZE",
    "MALLOC_ARENA_MAX",
    "RAY_ADDRESS",
    "KINOGRAPH_CONFIGS",
    "KINOGRAPH_DECODE_THREADS",
)


def processor(settings: Settings) -> Iterator[Finding]:
    """Which processor, and how many of its CPUs this process may use."""
    yield good(
        "processor",
        f"{_processor_name()}, {platform.machine()}, {platform.system()} {platform.release()}",
    )
    there, ours, share = os.cpu_count() or 1, _usable_cpus(), cpu_quota()
    limits = ([f"{ours} of {there} by affinity"] if ours < there else []) + (
        [f"time of {share:g} by the control group"] if share else []
    )
    text = f"{there} CPUs" + (
        f", of them usable: {'; '.join(limits)}" if limits else ", all usable"
    )
    if share is not None and share < 1:
        yield wrong(
            "CPUs",
            text,
            "give the container at least one whole CPU: deadlines of the decoders count real time",
        )
    elif share is not None and share < ours and "OMP_NUM_THREADS" not in os.environ:
        advice = (
            f"set OMP_NUM_THREADS={max(1, int(share))}: torch starts a thread for each CPU it sees,"
            " and they wait for one another"
        )
        yield note("CPUs", text, advice)
    else:
        yield good("CPUs", text)


def _processor_name() -> str:
    try:
        names = re.findall(
            r"^(?:model name|Model|Hardware)\s*:\s*(.+)$",
            Path("/proc/cpuinfo").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    except OSError:  # not Linux
        names = []
    return names[0].strip() if names else platform.processor() or "unknown"


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(settings: Settings) -> Iterator[Finding]:
    """Memory and its limit; file descriptors."""
    there, limit = psutil.virtual_memory(), memory_limit()
    usable = min(there.total, limit or there.total)
    text = f"{there.total / 1e9:.1f} GB, {there.available / 1e9:.1f} GB free" + (
        f", limited to {limit / 1e9:.1f} GB" if limit else ""
    )
    if usable < LEAST_MEMORY_GB * 1e9:
        yield wrong(
            "memory",
            text,
            f"the demo needs {LEAST_MEMORY_GB:g} GB; give the machine or the container more",
        )
    elif there.available < LEAST_MEMORY_GB * 1e9:
        yield note("memory", text, f"the demo needs {LEAST_MEMORY_GB:g} GB: end what else runs")
    else:
        yield good("memory", text)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = [("unlimited" if one == resource.RLIM_INFINITY else str(one)) for one in (soft, hard)]
    if soft != resource.RLIM_INFINITY and soft < LEAST_DESCRIPTORS:
        yield wrong("file descriptors", f"{shown[0]} (up to {shown[1]})", "ulimit -n 4096")
    else:
        yield good("file descriptors", f"{shown[0]} (up to {shown[1]})")


def switches(settings: Settings) -> Iterator[Finding]:
    """Environment variables that change how things are computed or found."""
    found = [f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ]
    empty = [name for name in SWITCHES if os.environ.get(name) == ""]
    text = ", ".join(found) or "none of those that change results or speed"
    if empty:
        yield note(
            "environment", text, f"{', '.join(empty)}: set to nothing; unset what is not meant"
        )
    else:
        yield good("environment", text)


def instructions(settings: Settings) -> Iterator[Finding]:
    """Which instruction sets torch's own kernels and oneDNN's are chosen for, and how many threads
    compute.
    """
    import torch

    yield good(
        "torch kernels",
        f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
    )
    if not torch.backends.mkldnn.is_available():
        yield note("oneDNN", "not in this torch: convolutions are slower")
        return
    told = re.findall(r"info,(?:(oneDNN v[0-9.]+)|cpu,isa:(.+))", _onednn_says())
    words = [part for pair in told for part in pair if part]
    yield good("oneDNN", ", ".join(words) or "there; it does not say for which instructions")


def _onednn_says() -> str:
    """What oneDNN writes to the process's standard output when it is first asked to be verbose."""
    import torch

    before = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON), torch.no_grad():
                # small ones pass it by
                torch.nn.functional.conv2d(torch.zeros(4, 16, 32, 32), torch.zeros(16, 16, 3, 3))
            ctypes.CDLL(None).fflush(None)  # it writes through C's own buffer
        finally:
            os.dup2(before, 1)
            os.close(before)
        file.seek(0)
        return file.read().decode(errors="replace")


def gpus(settings: Settings) -> Iterator[Finding]:
    """The GPUs that torch can use."""
    import torch

    if not torch.cuda.is_available():
        built = (
            "this torch is built without CUDA"
            if torch.version.cuda is None
            else f"none that torch (CUDA {torch.version.cuda}) can use"
        )
        device = Path("/dev/nvidia0").exists()
        advice = (
            "an NVIDIA device is there: install a torch with CUDA, and a driver that fits it"
            if device
            else ""
        )
        yield note("GPU", built, advice)
        return
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        text = (
            f"{about.name}, {about.major}.{about.minor}, {total / 1e9:.0f} GB, {free / 1e9:.0f} GB"
            f" free, CUDA {torch.version.cuda}"
        )
        known = {
            int(arch[3:])
            for arch in torch.cuda.get_arch_list()
            if arch.startswith("sm_") and arch[3:].isdigit()
        }
        own = 10 * about.major + about.minor
        if (
            known
            and not any(arch <= own and arch // 10 == about.major for arch in known)
            and own < max(known)
        ):
            yield wrong(
                f"GPU {index}",
                text,
                f"this torch has kernels for {', '.join(torch.cuda.get_arch_list())} only",
            )
        else:
            yield good(f"GPU {index}", text)
