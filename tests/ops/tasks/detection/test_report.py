"""Evaluation of a detector: numbers, rows, csv, pictures and film; kept, and made again when
something has changed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import key_frame_world as scenes
import models
from ava_files import as_boxes, read_boxes
from configs.schema import ConfigError, DetectionRecipe
from ops.evaluation.cache import Evaluation
from ops.evaluation.run import evaluate
from ops.files.storage import read_bytes, write_bytes
from ops.store.layout import Layout
from ops.store.tables import BOXES, from_rows, read_table, write_table
from ops.tasks.detection import plots as pictures
from ops.tasks.detection import report as detection
from ops.tasks.detection.metric import frame_map
from ops.tasks.detection.plots import Person, Shown
from ops.tasks.detection.task import build as build_task
from ops.tasks.detection.tube_rows import video_maps
from ops.training.task import build


class Scored(NamedTuple):
    layout: Layout
    recipe: DetectionRecipe
    weights: str
    evaluation: Evaluation


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    layout = Layout(str(tmp_path_factory.mktemp("scenes")))
    scenes.build_world(layout, num_train=2)
    recipe, weights = scenes.recipe(), f"{layout.run('scenes', 'key')}/model.safetensors"
    Path(weights).parent.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(models.build(recipe).state_dict(), weights)
    told: list[tuple[int, int]] = []
    found = evaluate(
        build(recipe, layout, scenes.DATASET),
        weights,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (9, 9)
    return Scored(layout, recipe, weights, found)


def test_numbers_and_rows(scored: Scored) -> None:
    found = scored.evaluation
    assert (found.num_samples, found.sample_unit, found.reused) == (9, "key frames", False)
    assert {"frame_map", "person_ap", "person_recall", "frame_map/pose", "frame_map/colour"} <= set(
        found.metrics
    )
    assert set(found.per_class) <= {"stand", "walk", "red"} and found.per_class
    rows = found.rows().to_pylist()
    assert {row["video_id"] for row in rows} == {"val/00", "val/01", "val/02"}
    assert all(0 <= row["x1"] <= row["x2"] <= 1 and len(row["scores"]) == 3 for row in rows)
    assert rows[0]["predicted"] in scenes.ACTIONS


def test_what_is_kept_is_given_back(scored: Scored) -> None:
    again = evaluate(build(scored.recipe, scored.layout, scenes.DATASET), scored.weights)
    assert again.reused and again == scored.evaluation
    other = evaluate(
        build(scored.recipe.model_copy(update={"num_classes": 3}), scored.layout, scenes.DATASET),
        scored.weights,
    )
    assert other.reused


def test_the_csv_is_what_the_official_evaluators_read(scored: Scored) -> None:
    data = read_bytes(scored.evaluation.files["detections.csv"])
    found = read_boxes(data, "detections.csv", scenes.IDS)
    lines = [
        f"{key.video.video_id},{key.timestamp_s:04.0f},{','.join(map(repr, map(float, box)))},{scenes.IDS[act]},{person}"  # noqa: E501
        for key in key_frames(scored)
        for person, (box, acts) in enumerate(zip(key.boxes, key.labels, strict=True))
        for act in np.nonzero(acts)[0]
    ]
    true, rows = as_boxes(
        read_boxes("\n".join(lines).encode(), "true.csv", scenes.IDS),
        found,
        {number: place for place, number in enumerate(scenes.IDS)},
    )
    # scores are rounded
    assert frame_map(rows, true, 3).mean_ap == pytest.approx(
        scored.evaluation.metrics["frame_map"], abs=0.02
    )


def key_frames(scored: Scored) -> list:

    frames = build_task(scored.recipe, scored.layout, scenes.DATASET).key_frames(
        "val", training=False
    )
    return [frames[index] for index in range(len(frames))]


def test_pictures_and_film(scored: Scored) -> None:
    found = scored.evaluation
    assert set(found.pictures) == {"average_precision_per_class.png", "key_frames.png"}
    for uri in found.pictures.values():
        assert Image.open(io.BytesIO(read_bytes(uri))).size > (300, 200)
    with av.open(io.BytesIO(read_bytes(found.files["overlay.mp4"]))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # 4 s at 8 frames a second, but for the last frame
    assert len(frames) == 31 and frames[0].shape == (360, 480, 3)


def test_weights_of_another_model_are_refused(scored: Scored) -> None:
    wider = scored.recipe.model_copy(update={"model": {**scenes.MODEL, "width": 64}})
    with pytest.raises(ConfigError, match="model.safetensors"):
        evaluate(build(wider, scored.layout, scenes.DATASET), scored.weights)


# --------------------------------------------------------------------------------------------------
# pictures


def test_true_boxes_are_dashed_and_found_ones_whole() -> None:
    grey = np.full((48, 64, 3), 90, np.uint8)
    truth = pictures.drawn(
        Shown("a", grey, true=[Person((0.2, 0.2, 0.8, 0.8), [("walk", None)])]), 240, 320
    )
    finding = pictures.drawn(
        Shown("a", grey, found=[Person((0.2, 0.2, 0.8, 0.8), [], 0.9)]), 240, 320
    )
    assert truth.shape == finding.shape == (240, 320, 3)
    edge = (slice(48, 60), slice(62, 66))  # at the left side, above the labels
    assert (finding[:, 63:65] != 90).any(axis=(1, 2))[50:180].all()
    assert 0.3 < (truth[:, 63:65] != 90).any(axis=(1, 2))[50:170].mean() < 0.8
    assert truth[edge].shape == (12, 4, 3)


def test_boxes_outside_the_picture_and_backwards_are_drawn_all_the_same() -> None:
    grey = np.full((48, 64, 3), 90, np.uint8)
    odd = [
        Person((-0.5, -0.5, 1.5, 1.5), [("walk", 0.9)] * 5, 0.5),
        Person((0.9, 0.9, 0.9, 0.9)),
        Person((0.8, 0.5, 0.2, 0.4)),
    ]
    assert pictures.drawn(Shown("a", grey, odd, odd), 100, 130).shape == (100, 130, 3)


def test_sheets_of_nothing_and_of_many_classes() -> None:
    assert Image.open(io.BytesIO(pictures.contact_sheet([], "nothing"))).width > 300
    many = {f"class {number}": number / 80 for number in range(80)}
    drawn = pictures.average_precisions(many, dict.fromkeys(many, 3), {"all": list(many)}, 0.5)
    assert Image.open(io.BytesIO(drawn)).height < 3000
    assert Image.open(io.BytesIO(pictures.average_precisions({}, {}, {}, 0.0))).width > 300


# --------------------------------------------------------------------------------------------------
# tubes


def test_video_map_of_rows_in_any_order() -> None:
    rows = []
    for frame in range(30):
        box = np.array([[0.1 + frame / 100, 0.2, 0.4 + frame / 100, 0.8]])
        seen = frame not in (7, 8)
        rows.append(
            {
                "video_id": "v",
                "frame": frame,
                "width": 320,
                "height": 240,
                "true_boxes": box,
                "true_labels": np.array([[True, False]]),
                "persons": np.array([0]),
                "boxes": box if seen else box[:0],
                "scores": np.array([[0.9, 0.3]] if seen else np.empty((0, 2))),
                "person_scores": np.array([0.9] if seen else []),
            }
        )
    numbers, per_class = video_maps(rows[::-1], 2)
    assert numbers == {
        "video_map@0.2": 1.0,
        "video_map@0.5": 1.0,
        "video_map@0.75": 1.0,
        "video_map@0.5:0.95": 1.0,
    }
    assert per_class[0] == 1 and np.isnan(per_class[1])
    missed = [
        {**row, "boxes": row["boxes"][:0], "scores": np.empty((0, 2)), "person_scores": []}
        for row in rows
    ]
    assert video_maps(missed, 2)[0]["video_map@0.5"] == 0


def test_a_model_is_scored_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(str(tmp_path))
    scenes.build_world(layout, num_train=2)
    recipe, weights = scenes.recipe(), f"{layout.run('scenes', 'key')}/model.safetensors"
    Path(weights).parent.mkdir(parents=True)
    save_file(models.build(recipe).state_dict(), weights)
    answers = right_answers(build_task(recipe, layout, scenes.DATASET))
    monkeypatch.setattr(detection, "drawn", lambda *_: {})  # pictures are what takes the time
    monkeypatch.setattr(detection, "overlay", lambda *_: b"")
    monkeypatch.setattr(
        "ops.evaluation.run.predict",
        lambda task, *_, **__: [{**row, **truth_of(task, row)} for row in answers],
    )
    before = evaluate(build(recipe, layout, scenes.DATASET), weights)
    assert before.metrics["frame_map"] == 1
    uri, spoken = layout.annotation_table("scenes", "boxes"), {"labels": list(scenes.ACTIONS)}
    swapped = {1: 2, 2: 1, 5: 5}
    write_table(
        uri,
        from_rows(
            [{**row, "label_id": swapped[row["label_id"]]} for row in read_table(uri).to_pylist()],
            BOXES,
        ),
    )
    text = scenes.PBTXT.replace("stand", "?").replace("walk", "stand").replace("?", "walk")
    write_bytes(f"{layout.dataset_root(scenes.DATASET)}/actions.pbtxt", text.encode())
    wrong = evaluate(build(recipe, layout, scenes.DATASET), weights)
    found = evaluate(build(recipe, layout, scenes.DATASET), weights, spoken=spoken)
    assert found.metrics == pytest.approx(before.metrics) and wrong.metrics["frame_map"] < 0.9
    assert found.eval_set == wrong.eval_set != before.eval_set
    renamed = {"labels": ["stand", "walk", "blue"]}
    part = evaluate(
        build(recipe, layout, scenes.DATASET), weights, spoken=renamed, common=["walk", "stand"]
    )
    assert (
        part.metrics["frame_map"] == 1
        and set(part.per_class) == {"stand", "walk"}
        and part.eval_set != found.eval_set
    )
    with pytest.raises(
        ConfigError, match="found 'red'; allowed: labels that the model was trained on"
    ):
        evaluate(build(recipe, layout, scenes.DATASET), weights, spoken=renamed)


def right_answers(task) -> list[dict]:
    """Prediction rows of the validation split that are the truth, in the task's words of now."""
    rows = []
    for key in task.key_frames("val", training=False):
        sure = np.ones(len(key.boxes), np.float32)
        place = {
            "video_id": key.video.video_id,
            "timestamp_s": key.timestamp_s,
            "frame": key.frame,
            "height": 48,
            "width": 64,
        }
        rows.append(
            {
                **place,
                "boxes": key.boxes,
                "person_scores": sure,
                "scores": key.labels.astype(np.float32),
                "persons": key.persons,
            }
        )
    return rows


def truth_of(task, row: dict) -> dict:
    """The true persons of a row's key frame, in the task's words."""
    frames = task.key_frames("val", training=False)
    key = next(
        key
        for key in frames
        if (key.video.video_id, key.timestamp_s) == (row["video_id"], row["timestamp_s"])
    )
    return {"true_boxes": key.boxes, "true_labels": key.labels}
