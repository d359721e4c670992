"""The one loop that validation, evaluation and the gate look at samples with."""

from __future__ import annotations

import pytest
import torch

from configs.schema import ConfigError, Scale
from ops.data.loading import Loader
from ops.store.layout import Layout
from ops.training import inference
from ops.training.inference import (
    Place,
    check_precision,
    device_of,
    in_order,
    predict,
    training_precision,
    wanted_device,
)
from ops.training.task import build

CPU = torch.device("cpu")
ALONE = Place(0, 1, CPU)


@pytest.fixture
def task(world, stored: Layout):
    return build(world.recipe(), stored, world.DATASET)


@pytest.fixture
def model(task):
    torch.manual_seed(0)
    return task.model()


@pytest.mark.parametrize("ranks", [2, 3, 10])
def test_rows_of_any_number_of_ranks_are_those_of_one_in_the_order_of_the_samples(
    task, model, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, shares = task.samples("val", "test"), list[list]()
    alone = predict(task, model, samples, place=ALONE)
    monkeypatch.setattr(inference, "gathered", lambda own, world_size: shares.append(own) or [own])
    for rank in range(ranks):
        predict(task, model, samples, place=Place(rank, ranks, CPU))
    together = in_order(shares)
    assert (
        [row["clip_id"] for row in together]
        == [row["clip_id"] for row in alone]
        == [clip.clip_id for clip in samples.clips]
    )
    for one, other in zip(alone, together, strict=True):
        assert other["scores"] == pytest.approx(one["scores"], abs=1e-5)


def test_every_sample_is_told_and_a_loader_that_is_lent_stays_open(task, model) -> None:
    samples, told = task.samples("val", "validate"), list[tuple[int, int]]()
    loader = Loader(samples, task.collate, 1)
    try:
        first = predict(
            task,
            model,
            samples,
            place=ALONE,
            workers=loader,
            batch_size=4,
            progress=lambda *at: told.append(at),
        )
        again = predict(task, model, samples, place=ALONE, workers=loader, batch_size=4)
    finally:
        loader.close()
    assert told == [(4, 9), (8, 9), (9, 9)] and not model.training
    assert [row["scores"].tolist() for row in first] == [row["scores"].tolist() for row in again]


def test_the_precision_is_the_one_that_was_asked_for(task, model) -> None:
    samples = task.samples("val", "test")
    whole, half = (
        predict(task, model, samples, place=ALONE, precision=precision)
        for precision in ("fp32", "bf16")
    )
    exact = [row["scores"].tolist() for row in predict(task, model, samples, place=ALONE)]
    assert (
        [row["scores"].tolist() for row in whole]
        == exact
        != [row["scores"].tolist() for row in half]
    )


def test_the_device_is_the_recipes_as_far_as_the_machine_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scales = Scale(), Scale(use_gpu=True)
    for there, here in ((False, ["cpu", "cpu"]), (True, ["cpu", "cuda"])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert [device_of(scale).type for scale in scales] == here
        assert [wanted_device(scale).type for scale in scales] == ["cpu", "cuda"]


def test_half_floats_without_a_gpu_are_refused_by_their_field(world) -> None:
    recipe = world.recipe(training={"amp": "fp16"})
    assert training_precision(recipe) == "fp16" and training_precision(world.recipe()) == "fp32"
    for field, allowed in (("training.amp", "off or bf16"), ("gate.precision", "fp32 or bf16")):
        with pytest.raises(
            ConfigError, match=f"{field}.*found 'fp16'; allowed: {allowed} on device 'cpu'"
        ):
            check_precision(recipe, field, "fp16", CPU)
        check_precision(recipe, field, "fp16", torch.device("cuda"))
