"""From weights to a promoted version: evaluation, record in the run, registry and gate together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from configs import Settings
from configs.schema import ConfigError, Provenance
from ops.evaluation.gate import Challenger, gate_input, open_version, score_version
from ops.evaluation.log import log_evaluation
from ops.evaluation.run import evaluate
from ops.evaluation.weights import served
from ops.files.storage import StorageError, write_bytes
from ops.tracking.connect import client
from ops.tracking.mlflow_run import open_run
from ops.tracking.model import log_model
from ops.tracking.registry import GateError, Registered, promote, register
from ops.training.run_folder import read_recipe
from ops.training.task import build


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
    evaluation = evaluate(build(discs.recipe, discs.layout, discs.dataset), weights)
    assert log_evaluation(run, evaluation, discs.recipe.name) and not log_evaluation(
        run, evaluation, discs.recipe.name
    )
    data = run.run().data
    assert (
        data.metrics["eval/top1"] == evaluation.metrics["top1"]
        and data.tags["kinograph.eval_set"] == evaluation.eval_set
    )
    assert data.tags["kinograph.eval_precision"] == "fp32"
    stored = {
        file.path for file in client(settings.tracking_uri).list_artifacts(run.run_id, "evaluation")
    }
    names = (
        "accuracy_per_label.png",
        "confusion_matrix.png",
        "learning_curves.png",
        "predictions.parquet",
        "worst_clips.png",
    )
    assert stored == {f"evaluation/{name}" for name in names}
    return register(run, model, discs.recipe, key, weights, settings), weights


def test_the_champion_is_scored_on_the_challengers_set_even_when_its_run_folder_is_gone(
    discs, plain, settings: Settings
) -> None:
    gate = discs.recipe.gate.model_copy(update={"floor": 0.0})
    first, weights = trained(discs, settings, "k1", 0.0)
    task = build(discs.recipe, discs.layout, discs.dataset)
    own = gate_input(evaluate(task, weights))

    def ask(version: Registered):
        return score_version(
            version, Challenger(task, weights, discs.dataset), discs.layout, settings
        )

    assert ask(first) == own
    assert promote(gate, first, own, ask, settings).promoted
    shutil.rmtree(Path(weights).parent)
    assert ask(first) == own
    shutil.rmtree(Path(weights).parent)
    shutil.rmtree(settings.artifacts)
    with pytest.raises(GateError, match="neither at"):
        ask(first)


@pytest.mark.parametrize("name", ["recipe.json", "vocabulary.json", "provenance.json"])
def test_a_file_that_is_cut_short_is_named(
    discs, settings: Settings, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "brought"
    folder.mkdir()
    shutil.copy(discs.weights, folder / "model.safetensors")
    texts = {
        "recipe.json": discs.recipe.model_dump_json(),
        "vocabulary.json": '{"labels": ["grow", "shrink", "stay"]}',
        "provenance.json": (
            Provenance(dataset="discs", frames=discs.dataset.frames).model_dump_json()
        ),
    }
    for other, text in texts.items():
        (folder / other).write_text(text)
    version = Registered("discs", 3, "", "k9", discs.recipe.name, str(folder / "model.safetensors"))
    files = [folder / other for other in ("model.safetensors", "recipe.json", "vocabulary.json")]
    assert open_version(version, discs.layout, settings).vocabulary == served(*files).vocabulary
    (folder / name).write_text(texts[name][: len(texts[name]) // 2])
    with pytest.raises(
        GateError,
        match=(
            rf"discs version 3 cannot be compared: .*brought/{name}: no whole json .*;"
            r" `kinograph run"
        ),
    ):
        open_version(version, discs.layout, settings)
    with pytest.raises(StorageError, match=rf"brought/{name}: no whole json"):
        served(*files)
    if name == "recipe.json":
        with pytest.raises(StorageError, match=r"brought/recipe\.json: no whole json"):
            read_recipe(str(folder / name))
    (folder / name).write_text('{"task": "recognition", "labels": 3}')
    with pytest.raises(ConfigError, match=rf"brought/{name}"):
        served(*files)
    (folder / name).write_text("[]")
    with pytest.raises(GateError, match=rf"brought/{name}"):
        open_version(version, discs.layout, settings)
