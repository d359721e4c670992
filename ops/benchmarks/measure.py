"""Speed and memory of one recipe's network: python -m ops.benchmarks.measure RECIPE BATCH THREADS;
prints JSON.

The process is fresh, so that the most memory it ever held is the network's. A large matrix product
is timed between the passes, so that what else the machine does slows both. Of a single thread the
processor's own time is taken.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPEATS = 3
SIDE = 2048  # of the square matrices of the product that is the peak


@dataclass(frozen=True)
class Speed:
    """Of a batch of clips, as the recipe's test sees one view: seconds of the forward pass in
    evaluation and of a training step (forward, backward), the most memory in MB that each took
    above the process before it, and the peak of a float32 matrix product.
    """

    batch: int
    eval_s: float
    step_s: float
    eval_mb: float
    step_mb: float
    peak_gflops: float

    @property
    def clips_per_s(self) -> float:
        """Of the forward pass in evaluation."""
        return self.batch / self.eval_s


def measure(recipe: str, batch: int, threads: int) -> Speed:
    """Measure in a fresh process. Raises OSError when it fails."""
    command = [sys.executable, "-m", "ops.benchmarks.measure", recipe, str(batch), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(
            f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def _most_mb() -> float:
    """The most memory that this process has held. `getrusage` would count its parent before the
    start.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # not Linux; macOS counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def _measured(name: str, batch: int, threads: int) -> Speed:
    import torch

    import configs
    import models
    from ops.benchmarks.cost import view_of

    torch.set_num_threads(threads)
    # of one thread, what other processes take does not count
    clock = time.process_time if threads == 1 else time.perf_counter
    recipe = configs.load(name)
    view = view_of(recipe)
    network: Any = models.build(recipe).eval()
    clip = torch.randn(batch, 3, view.num_frames, view.size, view.size)
    left, right, product = (torch.randn(SIDE, SIDE) for _ in range(3))
    torch.mm(left, right, out=product)
    before = _most_mb()
    forward, peak = [], []
    with torch.inference_mode():
        network(clip)
        for _ in range(REPEATS):
            forward.append(_seconds(lambda: network(clip), clock))
            peak.append(_seconds(lambda: torch.mm(left, right, out=product), clock))
    eval_mb = _most_mb() - before
    network.train()
    if batch == 1:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):  # over clips: one has no spread
                module.eval()
    step = [_seconds(lambda: network(clip).logsumexp(1).sum().backward(), clock) for _ in range(2)]
    return Speed(
        batch=batch,
        eval_s=min(forward),
        step_s=min(step),
        eval_mb=eval_mb,
        step_mb=_most_mb() - before,
        peak_gflops=2 * SIDE**3 / 1e9 / min(peak),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
