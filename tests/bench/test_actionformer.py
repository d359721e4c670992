"""ActionFormer's forward pass, training step, memory and suppression, each against a peer measured
in the same run on one thread.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.blocks import conv1d
from models.blocks.nms1d import suppress
from models.localization.actionformer import ActionFormer, Config, Criterion, build, pad

pytestmark = pytest.mark.bench
CONFIG = Config(num_classes=20)  # THUMOS14


def best(act: Callable[[], object], repeats: int = 4) -> float:
    """Least seconds of this thread's own time: what other processes take does not count."""
    spent = []
    for _ in range(repeats):
        start = time.thread_time()
        act()
        spent.append(time.thread_time() - start)
    return min(spent)


def peak_rate() -> float:
    """Operations per second of a large product of matrices."""
    one, other = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / best(lambda: one @ other)


def operations(length: int) -> float:
    """Of a forward pass as its layers are written, products alone."""
    width, levels = 512, [length // 2**level for level in range(CONFIG.levels)]
    embed = length * 3 * width * (2048 + width)
    blocks = (2 * levels[0] + sum(levels[1:])) * 12 * width * width
    heads = sum(levels) * (2 * 2 * 3 * width * width + 3 * width * (CONFIG.num_classes + 2))
    return 2.0 * (embed + blocks + heads)


@pytest.fixture(scope="module")
def model() -> ActionFormer:
    torch.manual_seed(0)
    return build(CONFIG)


def test_forward_against_the_peak_of_products(model: ActionFormer) -> None:
    batch = pad([torch.randn(2048, 2304)])
    model.eval()
    with torch.no_grad():
        seconds, peak = best(lambda: model(*batch)), peak_rate()
    rate = operations(2304) / seconds
    print(
        f"\nforward 2304: {seconds:.2f} s, {rate / 1e9:.0f} GFLOP/s of {peak / 1e9:.0f}:"
        f" {rate / peak:.2f}"
    )
    assert rate > 0.75 * peak  # operations as the layers are written: fewer are done


def test_forward_against_direct_convolutions(
    model: ActionFormer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = pad([torch.randn(2048, 2304)])
    model.eval()
    with torch.no_grad():
        ours = best(lambda: model(*batch))
        monkeypatch.setattr(conv1d, "_plain", lambda *_: False)
        direct = best(lambda: model(*batch))
    print(
        f"\nforward 2304: {ours:.2f} s, {direct / ours:.2f} times as fast as with torch's"
        " convolutions"
    )
    assert ours < 0.87 * direct


def test_training_step_against_the_peak_of_products(model: ActionFormer) -> None:
    batch, criterion = (
        pad([torch.randn(2048, 2304) for _ in range(2)]),
        Criterion(20, CONFIG.ranges),
    )
    segments, labels = (
        [torch.tensor([[100.0, 104.0], [300.0, 330.0]])] * 2,
        [torch.tensor([1, 2])] * 2,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        criterion.total(criterion(model(*batch), segments, labels), 100.0).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    seconds, peak = best(step, 2), peak_rate()
    rate = 3 * 2 * operations(2304) / seconds
    print(
        f"\ntraining step 2 x 2304: {seconds:.2f} s, {rate / 1e9:.0f} GFLOP/s of {peak / 1e9:.0f}:"
        f" {rate / peak:.2f}"
    )
    assert rate > 0.5 * peak


_LONG = """
import torch
from models.localization.actionformer import Config, build, pad
def kilobytes(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))
torch.set_num_threads(1)
model = build(Config(num_classes=20)).eval()
with torch.no_grad():
    model(*pad([torch.randn(2048, 64)]))
    batch = pad([torch.randn(2048, 6 * 2304)])
    open("/proc/self/clear_refs", "w").write("5")
    before = kilobytes("VmRSS")
    model(*batch)
print((kilobytes("VmHWM") - before) / 1e3, batch.features.numel() * 4 / 1e6)
"""  # noqa: E501


def test_memory_of_a_long_video() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no high-water mark of memory to reset here")
    # In a process of its own: what an earlier pass has freed would be used again unseen.
    told = subprocess.run(
        [sys.executable, "-c", _LONG], check=True, capture_output=True, text=True, timeout=250
    ).stdout
    used, features = map(float, told.split())
    print(f"\nforward {6 * 2304}: {used:.0f} MB beside {features:.0f} MB of features")
    # one layer's hidden units, four times the width, are as large as the features
    assert used < 2.6 * features


@pytest.mark.parametrize(
    ("count", "most", "times"), [(2000, 200, 5), (2000, 2000, 5), (100, 2000, 3), (20, 2000, 3)]
)
def test_soft_suppression_against_a_loop(count: int, most: int, times: float) -> None:
    """`count` candidates in each of 20 classes, of which the `most` best are asked for."""
    generator, classes = torch.Generator().manual_seed(0), 20
    start, length = (
        2304 * torch.rand(count * classes, generator=generator),
        0.5 + 60 * torch.rand(count * classes, generator=generator),
    )
    scores, labels = (
        torch.rand(count * classes, generator=generator) ** 2,
        torch.arange(classes).repeat_interleave(count),
    )
    segments = torch.stack([start, start + length], 1)
    vectors = best(lambda: suppress(segments, scores, labels, max_segments=most), 8)
    loop = best(lambda: _loop(segments[:count].numpy(), scores[:count].numpy(), most), 2) * classes
    print(
        f"\nsoft suppression {count} x {classes}, {most} kept: {vectors * 1e3:.1f} ms,"
        f" {loop / vectors:.0f} times as fast as a loop"
    )
    assert vectors < loop / times


def _loop(segments: np.ndarray, scores: np.ndarray, most: int) -> list[float]:
    """The best of all, then everything else faded, one selection after the other."""
    scores, kept = scores.copy(), list[float]()
    length = segments[:, 1] - segments[:, 0]
    while len(kept) < most and scores.max() > 0:
        at = int(scores.argmax())
        kept.append(float(scores[at]))
        scores[at] = 0
        inside = np.minimum(segments[:, 1], segments[at, 1]) - np.maximum(
            segments[:, 0], segments[at, 0]
        )
        inside = inside.clip(min=0)
        scores *= np.exp(-((inside / (length + length[at] - inside)) ** 2) / 0.5)
        scores[scores < 0.001] = 0
    return kept
