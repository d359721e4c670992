"""A parsing model as MLflow serves it: what it answers is what the parser says."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import torch
from safetensors.torch import save_file

import models
import ops.tasks.parsing.mlflow_model as served
from ops.evaluation.predictors import from_files
from ops.store.layout import Layout
from ops.tasks.parsing.task import build
from ops.tracking.model import save_model


def test_a_saved_model_answers_as_the_parser_does(
    people, stored_people: Layout, tmp_path: Path
) -> None:
    recipe = people.recipe(answers={"persons": 3})
    vocabulary = build(recipe, stored_people, people.DATASET).vocabulary()
    torch.manual_seed(0)
    save_file(models.build(recipe).state_dict(), tmp_path / "model.safetensors")
    save_model(
        tmp_path / "saved",
        recipe,
        tmp_path / "model.safetensors",
        vocabulary,
        Path(served.__file__),
    )
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    (tmp_path / "vocabulary.json").write_text(json.dumps(vocabulary))
    parser = from_files(
        *(tmp_path / name for name in ("model.safetensors", "recipe.json", "vocabulary.json"))
    )
    frames = people.video("val/0", "val", 100, 1)[0][:2]
    found = mlflow.pyfunc.load_model(str(tmp_path / "saved")).predict(frames)
    assert found.shape == (2, 3, 4, 6) and not np.isnan(found).any()
    own = parser.arrays(frames)[1]
    np.testing.assert_allclose(found[1, :, 0, :4], own["boxes"])
    np.testing.assert_allclose(found[1, :, 1:, :4], own["parts"])
    assert (found[1, :, 1:, 4] == own["states"][..., 0]).all() and (found[:, :, 0, 4] == -1).all()
