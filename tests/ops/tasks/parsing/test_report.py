"""Evaluation and serving of a parsing model: numbers, prediction files that score the same, the
action of another model, pictures.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import models
import ops.evaluation.predictors
from configs import load
from configs.schema import ConfigError, RecognitionRecipe
from configs.schema.parsing import ParsingRecipe
from ops.evaluation.predictors import from_files
from ops.evaluation.run import evaluate
from ops.files.storage import read_bytes, write_bytes
from ops.media.encode import draw_coding, write_mp4
from ops.store.layout import Layout
from ops.tasks.parsing import report as parsing
from ops.tasks.parsing.actions import actions_of
from ops.tasks.parsing.metric import parsing_scores
from ops.tasks.parsing.parts import load_parts
from ops.tasks.parsing.predictions_file import (
    ACTIONS_FILE,
    PARTS_FILE,
    TRUE_ACTIONS_FILE,
    TRUE_PARTS_FILE,
    read_actions,
    read_parts,
)
from ops.tasks.parsing.predictor import Parser
from ops.tasks.parsing.report import PREDICTIONS
from ops.tasks.parsing.task import build
from ops.tasks.recognition.predictor import Recognizer


class Trained(NamedTuple):
    layout: Layout
    recipe: ParsingRecipe
    weights: str
    folder: Path


@pytest.fixture
def trained(people, stored_people: Layout, tmp_path: Path) -> Trained:
    """An untrained model in a run folder, and a file of actions, one of them wrong."""
    shutil.copytree(stored_people.root, tmp_path / "store")
    layout, recipe = Layout(str(tmp_path / "store")), people.recipe()
    folder = tmp_path / "store" / "runs" / "people"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(models.build(recipe).state_dict(), folder / "model.safetensors")
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    (folder / "vocabulary.json").write_text(
        json.dumps(build(recipe, layout, people.DATASET).vocabulary())
    )
    write_bytes(
        f"{layout.root}/actions.json",
        json.dumps({"val/0": "act_0", "val/1": "act_1", "val/2": "act_0"}).encode(),
    )
    return Trained(layout, recipe, str(folder / "model.safetensors"), folder)


def test_an_evaluation_is_whole_and_kept(people, trained: Trained) -> None:
    found = evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)
    assert found.sample_unit == "frames" and found.num_samples == 9 and not found.reused
    assert (
        found.metrics["action_accuracy"] == pytest.approx(2 / 3)
        and found.metrics["acc_p"] <= found.metrics["acc_p_true_actions"]
    )
    assert {
        "psc",
        "person_ap50",
        "part_ap50",
        "parts_found",
        "state_accuracy",
        "found/head",
        "state_accuracy/left_hand",
    } <= set(found.metrics)
    assert set(found.per_class) == set(people.PARTS_OF)
    rows = found.rows()
    assert rows.schema == PREDICTIONS and rows.num_rows == 9 * 4 * 3
    for uri in found.pictures.values():
        assert min(Image.open(io.BytesIO(read_bytes(uri))).size) > 150
    assert set(found.pictures) == {
        "people.png",
        "accuracy_curve.png",
        "parts.png",
        "bottleneck.png",
    }
    again = evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)
    assert again.reused and again == found


def test_its_files_score_as_it_says(people, trained: Trained) -> None:
    found = evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)
    content = {
        name: read_bytes(found.files[name])
        for name in (PARTS_FILE, ACTIONS_FILE, TRUE_PARTS_FILE, TRUE_ACTIONS_FILE)
    }
    parts, actions = (
        read_parts(content[PARTS_FILE], PARTS_FILE),
        read_actions(content[ACTIONS_FILE], ACTIONS_FILE),
    )
    scores = parsing_scores(
        json.loads(content[TRUE_PARTS_FILE]), json.loads(content[TRUE_ACTIONS_FILE]), parts, actions
    )
    assert scores.acc_p == pytest.approx(found.metrics["acc_p"], abs=1e-9)
    assert scores.mean_psc == pytest.approx(found.metrics["psc"], abs=1e-9)
    table = read_bytes(found.files["bottleneck.csv"]).decode().splitlines()
    assert len(table) == 12 and float(table[1].split(",")[-1]) == pytest.approx(
        found.metrics["acc_p"], abs=1e-6
    )
    assert float(table[-1].split(",")[-1]) == pytest.approx(0.9999, abs=1e-4)


def test_other_actions_are_another_evaluation_set(people, trained: Trained) -> None:
    first = evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)
    write_bytes(
        f"{trained.layout.root}/actions.json",
        json.dumps({f"val/{index}": f"act_{index}" for index in range(3)}).encode(),
    )
    second = evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)
    assert second.eval_set != first.eval_set and second.metrics["action_accuracy"] == 1


def test_actions_that_are_missing_are_named(people, trained: Trained) -> None:
    write_bytes(f"{trained.layout.root}/actions.json", b'{"val/0": "act_0"}')
    with pytest.raises(
        ConfigError,
        match=(
            r"no action for 2 videos, first 'val/1'; allowed: all 3|found \"no action for 2 videos"
        ),
    ):
        evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)
    Path(trained.layout.root, "actions.json").unlink()
    with pytest.raises(ConfigError, match=r"action_file.*an existing json file"):
        evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)


def recognizer(labels: list[str]) -> Recognizer:
    recipe = load("tsn_tiny_figures")
    assert isinstance(recipe, RecognitionRecipe)
    transforms = recipe.transforms.model_copy(update={"short_side": 40, "crop": 32})
    own = recipe.model_copy(
        update={
            "num_classes": len(labels),
            "model": {"depth": 10, "width": 8},
            "transforms": transforms,
        }
    )
    torch.manual_seed(0)
    return Recognizer(models.build(own).eval(), own, labels)


def test_a_recognition_model_is_asked_once_a_video(
    people, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = people.recipe(action_file=None, action_model="models:/people-recognition@champion")
    videos = load_parts(trained.layout, people.DATASET).videos["val"]
    model, asked = recognizer(["act_0", "act_1", "act_2", "act_3"]), []
    inner = Recognizer.probabilities
    monkeypatch.setattr(
        Recognizer,
        "probabilities",
        lambda self, frames: asked.append(len(frames)) or inner(self, frames),
    )
    monkeypatch.setattr(ops.evaluation.predictors, "load", lambda uri, settings: model)
    first = actions_of(recipe, people.DATASET, videos, trained.layout)
    assert set(first) == {"val/0", "val/1", "val/2"} and len(asked) == 3
    assert actions_of(recipe, people.DATASET, videos, trained.layout) == first and len(asked) == 3
    monkeypatch.setattr(
        ops.evaluation.predictors, "load", lambda uri, settings: recognizer(["sing", "dance"])
    )
    with pytest.raises(ConfigError, match="it has no label act_0, act_1, act_2"):
        actions_of(recipe, people.DATASET, videos, trained.layout)
    monkeypatch.setattr(ops.evaluation.predictors, "load", lambda uri, settings: object())
    with pytest.raises(ConfigError, match="a recognition model"):
        actions_of(recipe, people.DATASET, videos, trained.layout)


def parser_of(trained: Trained) -> Parser:
    return from_files(
        *(trained.folder / name for name in ("model.safetensors", "recipe.json", "vocabulary.json"))
    )


def test_a_parser_says_of_frames_what_the_task_says(people, trained: Trained) -> None:
    parser, task = parser_of(trained), build(trained.recipe, trained.layout, people.DATASET)
    samples = task.samples("val", "validate")
    with torch.inference_mode():
        row = task.predict(parser.model, task.collate([samples[0]]))[0]
    frames = people.video("val/0", "val", 100, 1)[0]
    own = parser.arrays(frames[:1])[0]
    assert all(np.allclose(own[name], row[name], atol=0.02) for name in own)
    person = parser.on_frames(frames[:1])[0][0]
    assert [part.name for part in person.parts] == list(people.PARTS_OF) and person.parts[
        0
    ].state in people.STATES
    with pytest.raises(ValueError, match=r"pictures: found float64"):
        parser.arrays(frames[:1].astype(float))


def test_a_parser_reads_videos(
    people, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("configs.dataset", lambda name: people.DATASET)
    parser = parser_of(trained)
    path = tmp_path / "video.mp4"
    write_mp4(
        path, people.video("val/0", "val", 100, 1)[0], 10, draw_coding(np.random.default_rng(0), 10)
    )
    found = parser.on_video(path)
    assert [frame.frame for frame in found.frames] == [0, 5, 10] and found.action is None
    lines = parser.lines(found)
    assert len(lines) >= 3 and "frame    0" in lines[0] and "left hand" in lines[0]


def test_weights_and_vocabulary_that_do_not_belong_together_are_named(trained: Trained) -> None:
    path = trained.folder / "vocabulary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": ["bend"]}))
    with pytest.raises(ConfigError, match="found '1 labels'; allowed: 3"):
        parser_of(trained)


def test_a_model_is_scored_in_its_own_words(
    people, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = trained.recipe.model_copy(
        update={"states": ("wave", "bend", "hold"), "parts": tuple(reversed(people.PARTS_OF))}
    )
    task = build(pinned, trained.layout, people.DATASET)
    monkeypatch.setattr(parsing, "_pictures", lambda *_: {})  # they are what takes the time
    # right, in these words
    monkeypatch.setattr("ops.evaluation.run.predict", lambda *_, **__: answers(task.truth("val")))
    own = evaluate(build(pinned, trained.layout, people.DATASET), trained.weights)
    today = evaluate(build(trained.recipe, trained.layout, people.DATASET), trained.weights)
    spoken = task.vocabulary()
    found = evaluate(
        build(trained.recipe, trained.layout, people.DATASET), trained.weights, spoken=spoken
    )
    assert (
        found.metrics == pytest.approx(own.metrics)
        and found.metrics["psc"] > 0.99
        and today.metrics["psc"] < 0.5
    )
    # the same question, so that the gate may compare
    assert found.eval_set == today.eval_set != own.eval_set
    fewer = {**spoken, "states": ["wave", "bend"], "labels": ["wave", "bend"]}
    with pytest.raises(ConfigError, match=r"states.*none more, hold fewer"):
        evaluate(
            build(trained.recipe, trained.layout, people.DATASET), trained.weights, spoken=fewer
        )


def answers(truth) -> list[dict]:
    """Prediction rows that are the truth."""
    rows, ends = [], np.cumsum(truth.counts)
    for place, (video, frame, end) in enumerate(
        zip(truth[2].tolist(), truth[3].tolist(), ends.tolist(), strict=True)
    ):
        boxes, _, parts, states = (values[end - truth.counts[place] : end] for values in truth[5:])
        scores = np.ones((*states.shape, 1))
        own = {
            "boxes": boxes.astype(float),
            "parts": parts.astype(float),
            "states": states[..., None],
            "state_scores": scores,
        }
        rows.append(
            {"video_id": truth.videos[video], "frame": frame, "scores": np.ones(len(boxes)), **own}
        )
    return rows
