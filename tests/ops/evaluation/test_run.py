"""What an evaluation is of: its precision, its device, and evaluations from before a precision was
noted.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.schema import ConfigError, Gate, Scale
from ops.evaluation.cache import RECORD
from ops.evaluation.predictors import from_files
from ops.evaluation.run import evaluate
from ops.files.storage import exists, read_json, remove, write_bytes
from ops.training.inference import place_of
from ops.training.task import build


def task_of(discs, precision: str | None = None, amp: str = "off"):
    gate = discs.recipe.gate.model_copy(
        update={} if precision is None else {"precision": precision}
    )
    training = discs.recipe.training.model_copy(update={"amp": amp})
    return build(
        discs.recipe.model_copy(update={"gate": gate, "training": training}),
        discs.layout,
        discs.dataset,
    )


def record_of(discs, found) -> str:
    return f"{discs.weights.rpartition('/')[0]}/evaluation/{found.eval_set}/{RECORD}"


def test_a_gates_precision_is_noted_and_makes_another_set(discs, plain) -> None:
    whole = evaluate(task_of(discs), discs.weights)
    half = evaluate(task_of(discs, "bf16"), discs.weights)
    assert (
        (whole.precision, half.precision)
        == ("fp32", "bf16")
        == (read_json(record_of(discs, whole))["precision"], half.precision)
    )
    assert whole.eval_set != half.eval_set and whole.rows()["scores"] != half.rows()["scores"]
    assert (
        evaluate(task_of(discs, "fp32"), discs.weights).reused
        and evaluate(task_of(discs), discs.weights, precision="bf16") == half
    )
    with pytest.raises(
        ConfigError, match=r"gate\.precision.*found 'fp16'; allowed: fp32 or bf16 on device 'cpu'"
    ):
        evaluate(task_of(discs, "fp16"), discs.weights)


def test_a_model_that_was_trained_in_half_is_scored_in_whole_floats(discs, plain) -> None:
    assert (
        evaluate(task_of(discs, amp="bf16"), discs.weights).rows()["scores"]
        == evaluate(task_of(discs), discs.weights).rows()["scores"]
    )


@pytest.mark.parametrize(("amp", "reused"), [("off", True), ("bf16", False)])
def test_an_evaluation_of_before_counts_where_it_was_in_this_precision(
    discs, plain, amp: str, reused: bool
) -> None:
    first = evaluate(task_of(discs, amp=amp), discs.weights)
    record = read_json(record_of(discs, first))
    del record["precision"]
    write_bytes(record_of(discs, first), json.dumps(record).encode())
    again = evaluate(task_of(discs, amp=amp), discs.weights)
    assert again.reused is reused and again.precision == "fp32" and again.metrics == first.metrics


def test_an_evaluation_that_has_lost_a_file_is_made_again(discs, plain) -> None:
    first = evaluate(task_of(discs), discs.weights)
    for uri in (first.predictions_uri, next(iter(first.pictures.values()))):
        remove(uri)
        again = evaluate(task_of(discs), discs.weights)
        assert not again.reused and exists(uri) and again.metrics == first.metrics
    record = read_json(record_of(discs, first))
    del record["pictures"]
    write_bytes(record_of(discs, first), json.dumps(record).encode())
    assert not evaluate(task_of(discs), discs.weights).reused
    assert evaluate(task_of(discs), discs.weights).reused


def test_the_usual_precision_changes_no_stored_recipe(discs) -> None:
    facts = {"metric": "top1", "floor": 0.0, "registered_model": "discs"}
    assert (
        Gate(**facts).model_dump()
        == {**facts, "min_gain": 0.0}
        == Gate(**facts, precision="fp32").model_dump()
    )
    half = Gate(**facts, precision="bf16")
    assert (
        half.model_dump()["precision"] == "bf16"
        and Gate.model_validate_json(half.model_dump_json()) == half
    )
    assert discs.recipe.model_copy(update={"gate": half}).key() == discs.recipe.key()


@pytest.fixture
def files(discs, tmp_path: Path) -> list[Path]:
    """Weights, recipe and vocabulary of a model, as a training leaves them."""
    texts = {
        "recipe.json": discs.recipe.model_dump_json(),
        "vocabulary.json": '{"labels": ["grow", "shrink", "stay"]}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return [Path(discs.weights), *(tmp_path / name for name in texts)]


def test_a_model_is_served_where_it_was_asked_for_else_where_its_recipe_says(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place_of(from_files(*files).model).type == "cpu"
    assert place_of(from_files(*files, device=torch.device("meta")).model).type == "meta"
    monkeypatch.setattr("ops.evaluation.weights.device_of", lambda scale: torch.device("meta"))
    assert place_of(from_files(*files).model).type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_scores_and_serves_as_a_cpu_does(discs, plain, files: list[Path]) -> None:
    here = evaluate(task_of(discs), discs.weights).rows()
    recipe = discs.recipe.model_copy(update={"scale": Scale(use_gpu=True)})
    shutil.rmtree(Path(discs.weights).parent / "evaluation")
    there = evaluate(build(recipe, discs.layout, discs.dataset), discs.weights).rows()
    np.testing.assert_allclose(there["scores"].to_pylist(), here["scores"].to_pylist(), atol=1e-2)
    frames = np.random.default_rng(0).integers(
        0, 256, (from_files(*files).num_frames, 40, 48, 3), np.uint8
    )
    on = [
        from_files(*files, device=torch.device(kind)).probabilities(frames)
        for kind in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(on[1], on[0], atol=1e-2)
