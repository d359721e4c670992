"""The loop without Ray: it learns, repeats itself bit for bit, resumes bit for bit, and shares its
work among ranks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import regression_ranks as ranks
from configs.schema import ConfigError
from ops.data.errors import SampleError
from ops.store.layout import Layout
from ops.training.callbacks import EpochReport, StepReport, TrainingError
from ops.training.checkpoint import State, load_state
from ops.training.loop import check_recipe, fit
from ops.training.task import build


def run(
    world, stored: Layout, start: State | None = None, on_epoch=None, on_step=None, **changes
) -> State:
    recipe = world.recipe(**changes)
    return fit(
        build(recipe, stored, world.DATASET),
        recipe.scale,
        start=start,
        on_epoch=on_epoch,
        on_step=on_step,
    )


def same(one: State, two: State) -> bool:
    return all(torch.equal(tensor, two.weights[name]) for name, tensor in one.weights.items())


def test_it_learns_which_way_the_square_moves(world, stored: Layout) -> None:
    steady = {"depth": 10, "width": 8, "num_segments": 4, "dropout": 0.0}
    state = run(world, stored, training={"epochs": 20, "evaluate_every": 10}, model=steady)
    losses = [row["loss"] for row in state.history]
    assert sum(losses[-5:]) / 5 < 0.6 < losses[0]
    assert (
        state.history[-1]["top1"] >= 0.6
        and state.best is not None
        and state.best >= state.history[-1]["top1"]
    )
    assert [("top1" in row) for row in state.history] == [
        epoch in (10, 20) for epoch in range(1, 21)
    ]


def test_every_epoch_reports_its_numbers(world, stored: Layout) -> None:
    epochs: list[EpochReport] = []
    steps: list[StepReport] = []
    run(world, stored, on_epoch=lambda report, save: epochs.append(report), on_step=steps.append)
    assert [(report.epoch, report.epochs, report.final) for report in epochs] == [
        (1, 3, False),
        (2, 3, False),
        (3, 3, True),
    ]
    assert {"loss", "train_top1", "lr", "samples_per_s", "data_wait_share", "seconds"} <= set(
        epochs[0].metrics
    )
    assert {"top1", "top5", "mean_class_accuracy", "best_top1"} <= set(epochs[2].metrics)
    assert [(report.epoch, report.step, report.steps) for report in steps] == [
        (e, s, 3) for e in (1, 2, 3) for s in (1, 2, 3)
    ]
    assert steps[-1].loss == pytest.approx(epochs[-1].metrics["loss"], rel=1e-4)
    assert all(0 <= report.metrics["data_wait_share"] <= 1 for report in epochs)


CASES = {
    "sgd": {},
    "adamw, average, accumulation": {
        "optimizer": {"name": "adamw", "lr": 0.003, "nesterov": False},
        "training": {"ema_decay": 0.9, "accumulate": 2},
        "transforms": {"train_crop": "random_resized", "saturation": 0.3},
    },
    "bf16": {"training": {"amp": "bf16"}},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_a_killed_training_resumes_bit_for_bit(
    world, stored: Layout, tmp_path: Path, changes: dict
) -> None:
    whole = run(world, stored, **changes)

    class Killed(Exception):
        pass

    def kill(report: EpochReport, save) -> None:
        save(tmp_path)
        if report.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        run(world, stored, on_epoch=kill, **changes)
    torch.manual_seed(99)  # whatever the process did meanwhile
    start = load_state(tmp_path, world.recipe(**changes).key())
    assert start.epoch == 1
    resumed = run(world, stored, start=start, **changes)
    assert same(whole, resumed)
    assert whole.best == resumed.best and whole.step == resumed.step == 9
    keys = ("epoch", "loss", "lr", "top1")
    assert [[row.get(key) for key in keys] for row in whole.history] == [
        [row.get(key) for key in keys] for row in resumed.history
    ]


def test_repeats_itself_and_follows_its_seed(world, stored: Layout) -> None:
    first = run(world, stored, training={"epochs": 1})
    assert same(first, run(world, stored, training={"epochs": 1}))
    assert not same(first, run(world, stored, training={"epochs": 1, "seed": 4}))


def test_a_finished_state_is_returned_as_it_is(world, stored: Layout) -> None:
    whole = run(world, stored)
    assert same(
        whole,
        run(world, stored, start=whole, on_epoch=lambda report, save: pytest.fail("an epoch ran")),
    )


def test_the_published_weights_are_the_average(world, stored: Layout) -> None:
    state = run(world, stored, training={"ema_decay": 0.99, "epochs": 1})
    assert state.average is not None and state.weights is state.average["weights"]
    assert not torch.equal(state.weights["fc.weight"], state.model["fc.weight"])


def test_a_diverging_training_stops_with_advice(world, stored: Layout) -> None:
    with pytest.raises(TrainingError, match=r"epoch 1: the loss is (nan|inf); lower optimizer\.lr"):
        run(
            world,
            stored,
            optimizer={"lr": 1e30, "clip_grad_norm": None},
            schedule={"kind": "constant", "warmup_epochs": 0},
        )


def test_an_unreadable_sample_ends_the_training(world, stored: Layout) -> None:
    recipe = world.recipe()
    task = build(recipe, stored, world.DATASET)
    clips = list(task.table.clips["train"])  # type: ignore[attr-defined]
    clips[5] = clips[5]._replace(array_uri=f"{stored.root}/gone.zarr")
    task.table.clips["train"] = clips  # type: ignore[attr-defined]
    with pytest.raises(SampleError, match=r"clip 'clip-train/005' at .*gone\.zarr"):
        fit(task, recipe.scale)


def test_half_precision_needs_a_gpu(world, stored: Layout) -> None:
    recipe = world.recipe(training={"amp": "fp16"})
    with pytest.raises(ConfigError, match=r"training\.amp.*found 'fp16'; allowed: off or bf16"):
        check_recipe(build(recipe, stored, world.DATASET), recipe.scale)


def test_passes_are_compiled_where_the_scale_says_so(
    world, stored: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def compile(function):
        def called(*args):
            calls.append(len(args[0]))
            return function(*args)

        return called

    monkeypatch.setattr(torch, "compile", compile)
    plain = run(world, stored, training={"epochs": 1})
    assert not calls
    state = run(world, stored, training={"epochs": 1}, scale={"compile": True})
    assert len(calls) > state.step == 3  # the validation too
    assert state.recipe_key == plain.recipe_key and same(plain, state)


@pytest.mark.slow  # the compiler takes most of a minute
def test_compiled_by_the_real_compiler(world, stored: Layout) -> None:
    plain, state = (
        run(world, stored, training={"epochs": 1}, scale={"compile": choice})
        for choice in (False, True)
    )
    assert state.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-3)


def test_compiling_needs_a_compiler(world, stored: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    recipe = world.recipe(scale={"compile": True})
    with pytest.raises(
        ConfigError, match=r"scale\.compile.*found True; allowed: false.*no-such-compiler"
    ):
        check_recipe(build(recipe, stored, world.DATASET), recipe.scale)


def test_two_ranks_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes over gloo against one, on a model without batch norm: same losses, same
    weights, same metric.
    """
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    other = subprocess.Popen(
        [sys.executable, ranks.__file__, str(tmp_path), "1", "2"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    ranks.main(tmp_path, 0, 2)  # this process is the first rank
    assert other.wait(timeout=60) == 0
    for count in ranks.COUNTS:
        alone = ranks.train(count, 0, 1)
        both = [
            json.loads((tmp_path / f"{rank}.json").read_text())[str(count)] for rank in range(2)
        ]
        for share in both:
            assert share["weights"] == pytest.approx(alone["weights"], abs=1e-6)
            assert share["losses"] == pytest.approx(alone["losses"], abs=1e-6)
            assert share["metric"] == pytest.approx(alone["metric"])
        assert sorted(both[0]["seen"] + both[1]["seen"]) == sorted(alone["seen"])
