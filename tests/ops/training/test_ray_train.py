"""Trainings under Ray: killed drivers and workers, repeated calls, and mistakes that only workers
see.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

import driven_training
from configs.settings import Settings
from ops.files.storage import exists, list_files, read_bytes, remove
from ops.store.layout import Layout
from ops.tasks.recognition.clips import load_clips
from ops.training.callbacks import TrainingError
from ops.training.checkpoint import FILE, load_state
from ops.training.loop import fit
from ops.training.ray_train import SNAPSHOT, TrainingInputError, resume_point, train
from ops.training.run_folder import finished, plan_run
from ops.training.task import build

pytestmark = pytest.mark.slow  # Ray takes half a minute to come up on two busy cores
EPOCHS = 12


def start(world, layout: Layout, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, driven_training.__file__, layout.root, str(EPOCHS), str(log)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(driver: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = driver.communicate(timeout=280)
    assert driver.returncode == 0, out
    return json.loads(out.splitlines()[-1])


def wait_for(condition, driver: subprocess.Popen[str], what: str) -> Any:
    until = time.monotonic() + 200
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        assert driver.poll() is None, f"the driver ended before {what}"
        time.sleep(0.02)
    raise AssertionError(f"no {what} in time")


def undisturbed(world, layout: Layout) -> bytes:
    """Weights of the same recipe, trained by the plain loop in this process on as many threads as a
    worker has.
    """
    recipe = world.recipe(training={"epochs": EPOCHS})
    state = fit(build(recipe, layout, world.DATASET), recipe.scale)
    return to_safetensors({name: tensor.contiguous() for name, tensor in state.weights.items()})


@pytest.fixture
def own(world, tmp_path: Path) -> Layout:
    """A storage root of this test's own."""
    layout = Layout(str(tmp_path / "storage"))
    world.build_world(layout)
    return layout


@pytest.fixture
def own_s3(world, s3) -> Layout:
    """The same on S3."""
    layout = Layout(f"{s3.bucket}/storage")
    world.build_world(layout)
    return layout


def run_dir(world, layout: Layout) -> str:
    return plan_run(world.recipe(training={"epochs": EPOCHS}), layout, world.DATASET).run_dir


@pytest.mark.parametrize("storage", ["own", "own_s3"])
def test_a_killed_driver_goes_on_and_ends_in_the_same_bits(
    world, storage: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    own = request.getfixturevalue(storage)
    folder, log = run_dir(world, own), tmp_path / "log"
    driver = start(world, own, log)
    wait_for(lambda: exists(f"{folder}/{SNAPSHOT}"), driver, "a checkpoint")
    helpers = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert finished(folder) is None
    psutil.wait_procs(helpers, timeout=30)  # Ray's processes follow their driver
    newest = resume_point(folder, world.recipe(training={"epochs": EPOCHS}).key())
    assert newest is not None
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / FILE).write_bytes(read_bytes(f"{newest}/{FILE}"))
    held = load_state(tmp_path / "held", world.recipe(training={"epochs": EPOCHS}).key())
    # in the middle of an epoch or at its end
    assert (held.step_in_epoch == 2) == newest.endswith("_000000002")
    result = result_of(start(world, own, log))
    assert (
        result["resumed_from"] == held.epoch < EPOCHS
        and result["epochs"] == EPOCHS
        and result["run_id"] == "run-1"
    )
    assert read_bytes(f"{folder}/model.safetensors") == undisturbed(world, own)
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    losses: dict[int, float] = {}
    for epoch, loss in logged:  # an epoch that was done twice gave the same
        assert losses.setdefault(epoch, loss) == loss
    assert sorted(losses) == list(range(1, EPOCHS + 1))
    assert [row["loss"] for row in result["history"]] == [losses[epoch] for epoch in sorted(losses)]
    kept = [file for file in list_files(folder) if file.path_below.endswith(FILE)]
    # the two kept, and at most one that was being stored when the driver died
    assert 2 <= len(kept) <= 3


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(
    world, own: Layout, tmp_path: Path
) -> None:
    folder = run_dir(world, own)
    driver = start(world, own, tmp_path / "log")
    wait_for(lambda: exists(f"{folder}/{SNAPSHOT}"), driver, "a checkpoint")
    workers = [
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if "RayTrainWorker" in "".join(child.cmdline())
    ]
    assert len(workers) == 1
    os.kill(workers[0].pid, signal.SIGKILL)
    result = result_of(driver)
    assert result["epochs"] == EPOCHS
    assert read_bytes(f"{folder}/model.safetensors") == undisturbed(world, own)


def test_two_workers_train_once_and_mistakes_come_back_plainly(
    world, own: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        storage=own.root, tracking_uri="sqlite:///unused", home=Path(own.root), ray_address=None
    )
    before = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it
    # every rank has to report
    recipe = world.recipe(scale={"num_workers": 2, "checkpoint_every_steps": 1})
    result = train(recipe, own, settings, dataset=world.DATASET)
    assert result.epochs == 3 and result.metrics["top1"] >= 0 and result.resumed_from is None
    assert set(load_file(result.weights_uri)) == set(
        build(recipe, own, world.DATASET).model().state_dict()
    )
    shown = capfd.readouterr()
    # on a busy machine a line more says that the training waits for its data
    told = [line for line in shown.out.splitlines()[1:] if "waits for data" not in line]
    assert [line.split("  ")[0] for line in told] == [
        f"tiny_tsm: epoch {epoch}/3" for epoch in (1, 2, 3)
    ]
    assert "State API" not in shown.err + shown.out
    assert train(recipe, own, settings, dataset=world.DATASET) == result
    assert capfd.readouterr().out == ""  # nothing was done
    wrong = world.recipe(optimizer={"lr_multipliers": {"head": 2.0}})
    with pytest.raises(TrainingInputError, match=r"optimizer\.lr_multipliers.*found 'head'"):
        train(wrong, own, settings, dataset=world.DATASET)
    # Ray Train's own is not left behind
    assert signal.getsignal(signal.SIGINT) is before
    remove(load_clips(own, world.DATASET).clips["train"][4].array_uri)
    broken = world.recipe(training={"epochs": 2}, scale={"max_failures": 0})
    with pytest.raises(
        TrainingError,
        match=(
            r"recipe 'tiny_tsm': worker 0 failed with .*SampleError.*: clip 'clip-train/004' at .*;"
            r" run the same"
        ),
    ):
        train(broken, own, settings, dataset=world.DATASET)
