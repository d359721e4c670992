"""A detector along whole videos, in batches, in bounded memory, and as MLflow serves it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import key_frame_world as scenes
import models
from ava_files import read_boxes
from configs.schema import ConfigError, Provenance
from ops.annotations.formats.ava_csv import sniff
from ops.evaluation.predictors import from_files
from ops.media.decode import DecodeError
from ops.media.encode import Coding, write_mp4
from ops.tasks.detection import predictor as detector
from ops.tasks.detection.family import Persons, detected
from ops.tasks.detection.key_frame_clips import padded, pixels_of
from ops.tasks.detection.predictor import Detector


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, recipe = (
        tmp_path_factory.mktemp("model"),
        scenes.recipe(detecting={"person_threshold": 0.3}),
    )
    torch.manual_seed(0)
    save_file(models.build(recipe).state_dict(), path / "model.safetensors")
    (path / "recipe.json").write_text(recipe.model_dump_json())
    (path / "vocabulary.json").write_text(
        json.dumps({"labels": list(scenes.ACTIONS), "ids": ["1", "2", "5"]})
    )
    (path / "provenance.json").write_text(
        Provenance(dataset="scenes", frames=scenes.DATASET.frames).model_dump_json()
    )
    return path


@pytest.fixture(scope="module")
def served(folder: Path) -> Detector:
    return from_files(
        folder / "model.safetensors", folder / "recipe.json", folder / "vocabulary.json"
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "long.mp4"
    write_mp4(
        path,
        (frame for seed in range(3) for frame in scenes.scene(seed)[0]),
        scenes.FPS,
        Coding(12, 8, 0, True),
    )
    return path


def test_a_key_frame_each_second_along_a_video(
    served: Detector, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "BATCH", 4)
    found = served.on_video(film)
    assert found.video_id == "long" and [key.timestamp_s for key in found.key_frames] == [
        float(second) for second in range(1, 12)
    ]
    assert all(len(key.persons.boxes) for key in found.key_frames)
    assert (np.diff(found.key_frames[0].persons.person_scores) <= 0).all()
    halves = served.on_video(film, every_s=0.5)
    assert len(halves.key_frames) == 23
    # batches and neighbours change nothing
    for one, two in zip(found.key_frames, halves.key_frames[1::2], strict=True):
        np.testing.assert_allclose(one.persons.boxes, two.persons.boxes, atol=1e-4)


def test_the_rows_are_ava_s() -> None:
    # the second has no width: a row of the table, none of the csv
    boxes = np.array([[0.1, 0.2, 0.3, 0.9], [0.5, 0.5, 0.5, 0.9]])
    persons = Persons(boxes, np.array([0.93, 0.5]), np.array([[0.8, 0.01, 0.4], [0.1, 0.2, 0.3]]))
    found = detector.VideoFound(
        "long", scenes.ACTIONS, scenes.IDS, [detector.KeyFrameFound(4.0, persons)]
    )
    table = found.table()
    assert (
        table["label"].to_pylist() == [*scenes.ACTIONS] * 2
        and table["label_id"].to_pylist() == [1, 2, 5] * 2
    )
    assert table["person_score"].to_pylist()[0] == pytest.approx(0.93)
    data = found.csv()
    assert sniff("long.csv", data)
    rows = read_boxes(data, "long.csv", scenes.IDS)
    assert rows.frames == [("long", 4000)] * 3 and rows.actions == [1, 5, 2]
    assert len(found.table(least=0.5)) == 1


def test_lines_say_who_does_what() -> None:
    persons = Persons(
        np.array([[0.1, 0.2, 0.3, 0.9]]), np.array([0.93]), np.array([[0.8, 0.01, 0.4]])
    )
    found = detector.VideoFound(
        "v", scenes.ACTIONS, scenes.IDS, [detector.KeyFrameFound(3.0, persons)]
    )
    own = Detector(torch.nn.Identity(), scenes.recipe(), scenes.ACTIONS, scenes.IDS)
    assert own.lines(found) == ["   3.00 s  person  93%  [0.10 0.20 0.30 0.90]  stand 80%, red 40%"]
    assert own.lines(detector.VideoFound("v", scenes.ACTIONS, scenes.IDS, [])) == ["nobody"]


def test_a_short_video_has_its_middle(served: Detector, tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    write_mp4(path, scenes.scene(0)[0][:5], scenes.FPS, Coding(12, 8, 0, True))
    assert [key.timestamp_s for key in served.on_video(path).key_frames] == [0.25]


def test_what_is_no_video_or_distance_is_refused(
    served: Detector, film: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DecodeError):
        served.on_video(tmp_path / "text.mp4")
    with pytest.raises(ValueError, match="every_s: found 0"):
        served.on_video(film, every_s=0)
    with pytest.raises(
        ValueError, match=r"frames: found uint8 \[3, 8, 8, 3\]; allowed: uint8 \[4, H, W, 3\]"
    ):
        served.persons([np.zeros((3, 8, 8, 3), np.uint8)])


def test_clips_of_several_sizes_in_one_batch(served: Detector) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 255, (4, *size, 3), dtype=np.uint8) for size in ((48, 64), (60, 50))]
    both = served.persons(clips)
    batch = padded([pixels_of(clips[0], served.recipe.pictures)[0]], 64)
    alone = detected(served.model, batch.clips, batch.sizes, served.recipe)[0]
    np.testing.assert_allclose(both[0].boxes, alone.boxes, atol=1e-5)
    assert all(((found.boxes >= 0) & (found.boxes <= 1)).all() for found in both)


def test_a_wrong_vocabulary_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text(json.dumps({"labels": ["stand"]}))
    with pytest.raises(
        ConfigError, match="vocabulary.json.*found '1 labels'; allowed: 3, the recipe's num_classes"
    ):
        from_files(
            folder / "model.safetensors", folder / "recipe.json", tmp_path / "vocabulary.json"
        )


def test_as_mlflow_serves_it(folder: Path) -> None:
    from ops.tasks.detection import mlflow_model as detection_model

    recipe = scenes.recipe(detecting={"person_threshold": 0.3})
    signature, example = detection_model.interface(recipe)
    served = detection_model.DetectionModel()
    files = {
        "weights": "model.safetensors",
        "recipe": "recipe.json",
        "vocabulary": "vocabulary.json",
    }
    context = SimpleNamespace(artifacts={name: str(folder / file) for name, file in files.items()})
    served.load_context(context)  # type: ignore[arg-type]
    answer = served.predict(context, np.concatenate([example, example]))  # type: ignore[arg-type]
    assert answer.dtype == np.float32 and answer.shape[1] == 6 + 3
    assert set(answer[:, 0].tolist()) == {0.0, 1.0}
    assert signature.inputs.inputs[0].shape == (-1, 4, -1, -1, 3)
