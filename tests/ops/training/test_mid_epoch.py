"""Checkpoints in the middle of an epoch: whatever is killed, and wherever, the training ends in the
same bits.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import killed_training
from ops.data.loading import LoaderError
from ops.store.layout import Layout
from ops.training.callbacks import StepReport, TrainingError
from ops.training.checkpoint import FILE, State, load_state
from ops.training.loop import fit
from ops.training.task import build

EVERY_STEP = {"checkpoint_every_steps": 1}
CASES: dict[str, dict[str, Any]] = {
    "sgd, dropout": {"scale": EVERY_STEP},
    "adamw, average, accumulation": {
        "optimizer": {"name": "adamw", "lr": 0.003, "nesterov": False},
        "training": {"ema_decay": 0.9, "accumulate": 2},
        "scale": EVERY_STEP,
    },
}


class Killed(Exception):
    """Stands for the end of a process."""


def run(world, stored: Layout, start: State | None = None, on_checkpoint=None, **changes) -> State:
    recipe = world.recipe(**changes)
    return fit(
        build(recipe, stored, world.DATASET), recipe.scale, start=start, on_checkpoint=on_checkpoint
    )


@pytest.mark.parametrize("place", [(1, 1), (2, 2)], ids=["epoch 1, step 1", "epoch 2, step 2"])
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_it_goes_on_at_the_next_step_bit_for_bit(
    world, stored: Layout, tmp_path: Path, changes: dict, place: tuple[int, int]
) -> None:
    whole = run(world, stored, **changes)

    def kill(report: StepReport, save) -> None:
        save(tmp_path)
        if (report.epoch, report.step) == place:
            raise Killed

    with pytest.raises(Killed):
        run(world, stored, on_checkpoint=kill, **changes)
    torch.manual_seed(99)  # whatever the process did meanwhile
    start = load_state(tmp_path, world.recipe(**changes).key())
    assert (
        start.epoch + 1,
        start.step_in_epoch,
    ) == place and start.step == 3 * start.epoch + place[1]
    resumed = run(world, stored, start=start, **changes)
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    keys = ("epoch", "loss", "train_top1", "lr", "top1")
    assert [[row.get(key) for key in keys] for row in whole.history] == [
        [row.get(key) for key in keys] for row in resumed.history
    ]
    assert (resumed.step, resumed.step_in_epoch, resumed.tallies) == (9, 0, [])


def test_checkpoints_come_every_so_many_steps_within_an_epoch(world, stored: Layout) -> None:
    places: list[tuple[int, int]] = []
    for every in (1, 2, 3):
        run(
            world,
            stored,
            on_checkpoint=lambda r, save: places.append((r.epoch, r.step)),
            scale={"checkpoint_every_steps": every},
        )
        places.append((0, 0))
    assert places == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
        (3, 1),
        (3, 2),
        (0, 0),
        (1, 2),
        (2, 2),
        (3, 2),
        (0, 0),
        (0, 0),
    ]


def test_the_time_of_an_epoch_counts_from_its_first_start(
    world, stored: Layout, tmp_path: Path
) -> None:
    def kill(report: StepReport, save) -> None:
        save(tmp_path)
        raise Killed

    with pytest.raises(Killed):
        run(world, stored, on_checkpoint=kill, scale=EVERY_STEP)
    start = load_state(tmp_path, world.recipe().key())
    start.tallies[0]["seconds"] += 1000
    start.tallies[0]["waited"] += 500
    first = run(world, stored, start=start).history[0]
    assert (
        first["seconds"] > 1000
        and first["data_wait_share"] == pytest.approx(0.5, abs=0.05)
        and first["samples_per_s"] < 0.1
    )


def test_a_diverged_state_is_not_kept(world, stored: Layout) -> None:
    wild = {
        "optimizer": {"lr": 1e30, "clip_grad_norm": None},
        "schedule": {"kind": "constant", "warmup_epochs": 0},
    }
    with pytest.raises(TrainingError, match="lower optimizer.lr"):
        run(
            world,
            stored,
            on_checkpoint=lambda r, save: r.step < 2 or pytest.fail("offered"),
            scale=EVERY_STEP,
            **wild,
        )


def test_another_number_of_ranks_goes_on_too(world, stored: Layout, tmp_path: Path) -> None:
    """Not in the same bits, but with the same samples and sums."""

    def kill(report: StepReport, save) -> None:
        save(tmp_path)
        raise Killed

    with pytest.raises(Killed):
        run(world, stored, on_checkpoint=kill, scale=EVERY_STEP)
    start = load_state(tmp_path, world.recipe().key())
    alone = run(world, stored, start=start).history[0]["loss"]
    # a state's tensors are the training's once it has started
    start = load_state(tmp_path, world.recipe().key())
    half = {
        **start.tallies[0],
        "samples": 4,
        "totals": {name: value / 2 for name, value in start.tallies[0]["totals"].items()},
    }
    start.tallies = [half, half]  # as two ranks would have left it
    assert run(world, stored, start=start).history[0]["loss"] == pytest.approx(alone)


def launch(
    world, stored: Layout, folder: Path, changes: dict, ranks: int, attempt: str
) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, killed_training.__file__, str(stored.root), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return [
        subprocess.Popen(
            [*command, str(rank), str(ranks), attempt, json.dumps(changes)], env=environment
        )
        for rank in range(ranks)
    ]


@pytest.mark.slow  # up to eight processes import torch
@pytest.mark.parametrize(
    "workers, ranks", [(0, 1), (2, 1), (0, 2)], ids=["thread", "loader processes", "two ranks"]
)
def test_processes_killed_anywhere_end_in_the_same_bits(
    world, stored: Layout, tmp_path: Path, workers: int, ranks: int
) -> None:
    changes = {
        "training": {"epochs": 8, "evaluate_every": 8, "ema_decay": 0.9, "accumulate": 2},
        "scale": {"checkpoint_every_steps": 1, "loader_workers": workers},
    }
    for attempt in range(2):
        processes = launch(world, stored, tmp_path, changes, ranks, str(attempt))
        before = (tmp_path / FILE).stat().st_mtime_ns if attempt else 0
        until = time.monotonic() + 90
        while not (tmp_path / FILE).exists() or (tmp_path / FILE).stat().st_mtime_ns == before:
            assert time.monotonic() < until and all(process.poll() is None for process in processes)
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.05))
        for process in processes:
            process.send_signal(signal.SIGKILL)
        assert [process.wait() for process in processes] == [-signal.SIGKILL] * ranks
    assert not (tmp_path / "final-0.pt").exists()
    assert [
        process.wait(timeout=90)
        for process in launch(world, stored, tmp_path, changes, ranks, "last")
    ] == [0] * ranks
    found = torch.load(tmp_path / "final-0.pt", weights_only=True)
    assert found["began"][1] > 0
    if ranks == 1:
        whole = run(world, stored, **{**changes, "scale": {}})
        weights, losses = whole.weights, [row["loss"] for row in whole.history]
    else:
        (tmp_path / "whole").mkdir()
        assert [
            process.wait(timeout=90)
            for process in launch(world, stored, tmp_path / "whole", changes, ranks, "0")
        ] == [0] * ranks
        undisturbed = torch.load(tmp_path / "whole" / "final-0.pt", weights_only=True)
        weights, losses = undisturbed["weights"], undisturbed["losses"]
    assert found["losses"] == losses
    assert all(torch.equal(tensor, found["weights"][name]) for name, tensor in weights.items())


@pytest.mark.slow  # two processes import torch
def test_a_killed_loader_process_ends_the_training_with_what_to_do(world, stored: Layout) -> None:
    recipe = world.recipe(
        training={"epochs": 500, "evaluate_every": 500}, scale={"loader_workers": 2}
    )
    killed: list[float] = []

    def kill(report: StepReport) -> None:
        if report.epoch == 2 and not killed:
            loaders = [
                process for server in psutil.Process().children() for process in server.children()
            ]
            loaders[-1].kill()
            killed.append(time.monotonic())

    with pytest.raises(
        LoaderError,
        match="was killed by signal 9 .* lower scale.loader_workers or training.batch_size",
    ):
        fit(build(recipe, stored, world.DATASET), recipe.scale, on_step=kill)
    assert time.monotonic() - killed[0] < 10
