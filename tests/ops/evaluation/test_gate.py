"""From weights to a promoted version: evaluation, record in the run, registry and gate together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from configs import Settings
from ops.evaluation.gate import score_version, scored
from ops.evaluation.log import record
from ops.files.storage import write_bytes
from ops.tasks.recognition.report import evaluate
from ops.tracking.connect import client
from ops.tracking.mlflow_run import open_run
from ops.tracking.model import log_model
from ops.tracking.registry import GateError, Registered, promote, register


def trained(discs, settings: Settings, key: str, change: float) -> tuple[Registered, str]:
    """A registered version of weights that differ from the fixture's by `change`."""
    weights = f"{discs.layout.run(discs.recipe.name, key)}/model.safetensors"
    Path(weights).parent.mkdir(parents=True)
    save_file({name: tensor + change for name, tensor in load_file(discs.weights).items()}, weights)
    write_bytes(f"{Path(weights).parent}/recipe.json", discs.recipe.model_dump_json().encode())
    run = open_run(discs.recipe, key, settings)
    for epoch in (1, 2):
        run.log_epoch(epoch, {"loss": 1.0 / epoch, "train_top1": 0.3 * epoch})
    model = log_model(run, discs.recipe, weights, {"labels": ["grow", "shrink", "stay"]})
    evaluation = evaluate(discs.recipe, weights, discs.layout, dataset=discs.dataset)
    assert record(run, evaluation, discs.recipe.name) and not record(run, evaluation, discs.recipe.name)
    data = run.run().data
    assert data.metrics["eval/top1"] == evaluation.metrics["top1"] and data.tags["kinograph.eval_set"] == evaluation.eval_set
    stored = {file.path for file in client(settings.tracking_uri).list_artifacts(run.run_id, "evaluation")}
    names = ("accuracy_per_label.png", "confusion_matrix.png", "learning_curves.png", "predictions.parquet", "worst_clips.png")
    assert stored == {f"evaluation/{name}" for name in names}
    return register(run, model, discs.recipe, key, weights, settings), weights


def test_the_champion_is_scored_on_the_challengers_set_even_when_its_run_folder_is_gone(discs, plain, settings: Settings) -> None:
    gate = discs.recipe.gate.model_copy(update={"floor": 0.0})
    first, weights = trained(discs, settings, "k1", 0.0)
    own = scored(evaluate(discs.recipe, weights, discs.layout, dataset=discs.dataset))

    def ask(version: Registered):
        return score_version(version, discs.layout, settings, discs.dataset)

    assert ask(first) == own
    assert promote(gate, first, own, ask, settings).promoted
    shutil.rmtree(Path(weights).parent)
    assert ask(first) == own
    shutil.rmtree(Path(weights).parent)
    shutil.rmtree(settings.artifacts)
    with pytest.raises(GateError, match="neither at"):
        ask(first)
