"""From weights to a promoted version: evaluation, record in the run, registry and gate together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from configs import Settings
from configs.schema import ConfigError, Provenance, RecognitionRecipe
from ops.evaluation.recognition import evaluate
from ops.evaluation.record import record
from ops.evaluation.scoring import open_version, read_recipe, score_version, scored
from ops.evaluation.weights import files_of, served
from ops.store.files import StorageError, write_bytes
from ops.tracking.connect import client
from ops.tracking.mlflow_run import open_run
from ops.tracking.model import log_model
from ops.tracking.registry import GateError, Registered, promote, register


def trained(world, settings: Settings, key: str, change: float) -> tuple[Registered, str]:
    """A registered version of weights that differ from the fixture's by `change`."""
    weights = f"{world.layout.run(world.recipe.name, key)}/model.safetensors"
    Path(weights).parent.mkdir(parents=True)
    save_file({name: tensor + change for name, tensor in load_file(world.weights).items()}, weights)
    write_bytes(f"{Path(weights).parent}/recipe.json", world.recipe.model_dump_json().encode())
    run = open_run(world.recipe, key, settings)
    for epoch in (1, 2):
        run.log_epoch(epoch, {"loss": 1.0 / epoch, "train_top1": 0.3 * epoch})
    model = log_model(run, world.recipe, weights, {"labels": ["grow", "shrink", "stay"]})
    evaluation = evaluate(world.recipe, weights, world.layout, dataset=world.dataset)
    assert record(run, evaluation, world.recipe.name) and not record(run, evaluation, world.recipe.name)
    data = run.run().data
    assert data.metrics["eval/top1"] == evaluation.metrics["top1"] and data.tags["kinograph.eval_set"] == evaluation.eval_set
    stored = {file.path for file in client(settings.tracking_uri).list_artifacts(run.run_id, "evaluation")}
    names = ("accuracy_per_label.png", "confusion_matrix.png", "learning_curves.png", "predictions.parquet", "worst_clips.png")
    assert stored == {f"evaluation/{name}" for name in names}
    return register(run, model, world.recipe, key, weights, settings), weights


def test_the_champion_is_scored_on_the_challengers_set_even_when_its_run_folder_is_gone(world, plain, settings: Settings) -> None:
    gate = world.recipe.gate.model_copy(update={"floor": 0.0})
    first, weights = trained(world, settings, "k1", 0.0)
    own = scored(evaluate(world.recipe, weights, world.layout, dataset=world.dataset))

    def ask(version: Registered):
        return score_version(version, world.layout, settings, world.dataset)

    assert ask(first) == own
    assert promote(gate, first, own, ask, settings).promoted
    shutil.rmtree(Path(weights).parent)
    assert ask(first) == own
    shutil.rmtree(Path(weights).parent)
    shutil.rmtree(settings.artifacts)
    with pytest.raises(GateError, match="neither at"):
        ask(first)


@pytest.mark.parametrize("name", ["recipe.json", "vocabulary.json", "provenance.json"])
def test_a_file_that_is_cut_short_is_named(world, settings: Settings, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "brought"
    folder.mkdir()
    shutil.copy(world.weights, folder / "model.safetensors")
    texts = {
        "recipe.json": world.recipe.model_dump_json(),
        "vocabulary.json": '{"labels": ["grow", "shrink", "stay"]}',
        "provenance.json": Provenance(dataset="discs", frames=world.dataset.frames).model_dump_json(),
    }
    for other, text in texts.items():
        (folder / other).write_text(text)
    version = Registered("discs", 3, "", "k9", world.recipe.name, str(folder / "model.safetensors"))
    files = files_of(*(folder / other for other in ("model.safetensors", "recipe.json", "vocabulary.json")))
    assert open_version(version, world.layout, settings).vocabulary == served(RecognitionRecipe, files)[2]
    (folder / name).write_text(texts[name][: len(texts[name]) // 2])
    with pytest.raises(GateError, match=rf"discs version 3 cannot be compared: .*brought/{name}: no whole json .*; `kinograph run"):
        open_version(version, world.layout, settings)
    with pytest.raises(StorageError, match=rf"brought/{name}: no whole json"):
        served(RecognitionRecipe, files)
    if name == "recipe.json":
        with pytest.raises(StorageError, match=r"brought/recipe\.json: no whole json"):
            read_recipe(str(folder / name))
    (folder / name).write_text('{"task": "recognition", "labels": 3}')
    with pytest.raises(ConfigError, match=rf"brought/{name}"):
        served(RecognitionRecipe, files)
    (folder / name).write_text("[]")
    with pytest.raises(GateError, match=rf"brought/{name}"):
        open_version(version, world.layout, settings)
