"""Own videos from end to end: YAML files and ActivityNet's json, features by a recognition model,
and segments straight from a file.
"""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import configs
import localization_world as world
import models
from configs import Settings, versions
from configs.loading import _features_sources
from configs.schema import ConfigError, Extraction, Provenance
from finished_training import have_trained
from ops.annotations.read import annotate
from ops.evaluation.gate import Challenger, score_version
from ops.evaluation.predictors import from_files
from ops.evaluation.run import evaluate
from ops.features.materialize import make_features, read_rows
from ops.flow.recipe import register_recipe, train_recipe
from ops.media.decode import DecodeError
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.serving.predict import predict
from ops.store.layout import Layout
from ops.tasks.localization import report as localization
from ops.tracking.connect import client
from ops.tracking.mlflow_run import open_run
from ops.tracking.model import log_model
from ops.tracking.registry import CHAMPION, register
from ops.training.run_folder import read_recipe
from ops.training.task import build

SEGMENTS = [
    {"label": "jump", "segment": [0.5, 1.5]},
    {"label": "kick", "segment": [2.0, 2.8]},
    {"label": "wave", "segment": [3.0, 3.6]},
]
DURATION = 4.0


def film(path: Path, seed: int) -> None:
    """40 noisy frames at 10 a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in range(40):
            picture = np.full((32, 48, 3), 20 + 5 * frame, np.uint8)
            picture[8:24, frame : frame + 8] = rng.integers(100, 255, 3)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Three videos, their annotations, a recognition model and the YAML files."""
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setenv("KINOGRAPH_STORAGE", str(tmp_path / "storage"))
    root = tmp_path / "storage" / "own"
    world.write_configs(tmp_path / "configs")
    for index, name in enumerate(("train_a", "train_b", "val_a")):
        film(root / "videos" / f"{name}.mp4", index)
    subsets = {"train_a": "training", "train_b": "training", "val_a": "validation"}
    world.write_json(
        root,
        {
            name: {"subset": subset, "duration": DURATION, "annotations": SEGMENTS}
            for name, subset in subsets.items()
        },
    )
    recognizer(tmp_path / "recognizer", seed=0)
    dataset = yaml.safe_load((tmp_path / "configs" / "datasets" / "own.yaml").read_text())
    dataset["videos"] = "videos"
    (tmp_path / "configs" / "datasets" / "own.yaml").write_text(yaml.safe_dump(dataset))
    extract = [{"model": str(tmp_path / "recognizer"), "sampled_frames": 4}]
    features = {"own_files": {"about": "a test", "stride": 2, "num_frames": 8, "extract": extract}}
    (tmp_path / "configs" / "features" / "own.yaml").write_text(yaml.safe_dump(features))
    layout, own = Layout(str(tmp_path / "storage")), configs.dataset("own")
    ingest(own, layout, range(16))
    materialize(own, layout, workers=1)
    annotate(own, layout)
    make_features(configs.features("own_files"), layout, configs.settings())
    return layout


def recognizer(folder: Path, seed: int) -> None:
    """A run folder with a miniature TSN."""
    recipe = configs.load("tsn_tiny_figures")
    changes = {
        "num_classes": 3,
        "model": {"depth": 10, "width": 4},
        "transforms": recipe.transforms.model_copy(update={"short_side": 24, "crop": 24}),
    }  # type: ignore[attr-defined]
    recipe = recipe.model_copy(update=changes)
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    save_file(models.build(recipe).state_dict(), folder / "model.safetensors")
    (folder / "recipe.json").write_text(recipe.model_dump_json())


def test_a_file_gives_what_its_stored_features_give(own: Layout, tmp_path: Path) -> None:
    task = build(
        world.recipe(model={"input_dims": 32}, training={"batch_size": 2}),
        own,
        configs.dataset("own"),
    )
    task.check()
    torch.manual_seed(1)
    model = task.model().eval()
    run = tmp_path / "run"
    run.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        run / "model.safetensors",
    )
    (run / "recipe.json").write_text(task.recipe.model_dump_json())
    vocabulary = task.vocabulary()
    assert len(vocabulary["features_from"]) == 1
    (run / "vocabulary.json").write_text(json.dumps(vocabulary))
    samples = task.samples("val", "test")
    with torch.inference_mode():
        row = task.predict(model, task.collate([samples[0]]))[0]
    localizer = from_files(
        *(run / name for name in ("model.safetensors", "recipe.json", "vocabulary.json")),
        configs.settings(),
    )
    video = Path(own.root, "own", "videos", "val_a.mp4")
    found = localizer.on_video(video)
    assert len(found) == len(row["scores"]) > 0
    np.testing.assert_allclose([one.score for one in found], row["scores"], atol=1e-5)
    np.testing.assert_allclose(
        [[one.start_s, one.end_s] for one in found], row["segments"], atol=1e-3
    )
    assert [one.label for one in found] == [world.LABELS[label] for label in row["labels"]]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError):
        localizer.on_video(tmp_path / "broken.mp4")
    recognizer(tmp_path / "recognizer", seed=1)
    later = from_files(
        *(run / name for name in ("model.safetensors", "recipe.json", "vocabulary.json")),
        configs.settings(),
    )
    with pytest.raises(
        ConfigError,
        match="own_files, made by other weights now'; allowed: the weights that it was trained on",
    ):
        later.on_video(video)


def champion(settings: Settings, folder: Path, key: str) -> str:
    """Register a run folder's recognition model and make it the champion of 'extractors'; its
    version's URI.
    """
    recipe = read_recipe(str(folder / "recipe.json"))
    recipe = recipe.model_copy(
        update={"gate": recipe.gate.model_copy(update={"registered_model": "extractors"})}
    )
    run = open_run(recipe, key, settings)
    model = log_model(run, recipe, str(folder / "model.safetensors"), {"labels": ["a", "b", "c"]})
    version = register(run, model, recipe, key, str(folder / "model.safetensors"), settings)
    client(settings.tracking_uri).set_registered_model_alias(
        "extractors", CHAMPION, str(version.version)
    )
    return version.uri


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """None: they are what takes the time."""
    monkeypatch.setattr(localization, "_pictures", lambda *_: {})


@pytest.fixture
def pinned(own: Layout, settings: Settings, tmp_path: Path, plain_pictures: None):
    """A registered localization model whose features a champion made, and that champion's
    version.
    """
    first = champion(settings, tmp_path / "recognizer", "first")
    extract = [{"model": "models:/extractors@champion", "sampled_frames": 4}]
    features = {"own_files": {"about": "a test", "stride": 2, "num_frames": 8, "extract": extract}}
    (tmp_path / "configs" / "features" / "own.yaml").write_text(yaml.safe_dump(features))
    _features_sources.cache_clear()
    make_features(configs.features("own_files"), own, settings)
    recipe = world.recipe(model={"input_dims": 32}, training={"batch_size": 2})
    torch.manual_seed(1)
    result = have_trained(recipe, own)
    train_recipe(recipe, own, settings)
    return register_recipe(recipe, own, settings), result, first


def test_a_localization_model_names_its_extractors_version_and_keeps_it(
    own: Layout, settings: Settings, pinned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, result, first = pinned
    provenance = Provenance.model_validate_json(Path(result.run_dir, "provenance.json").read_text())
    assert [one.model for one in provenance.extractors] == [
        first
    ] and provenance.features == configs.features("own_files")
    assert (
        provenance.code["training"] == versions.TRAINING
        and provenance.frames == configs.dataset("own").frames
    )
    video = str(Path(own.root, "own", "videos", "val_a.mp4"))
    before = predict(video, version.uri, settings=settings)
    recognizer(tmp_path / "other", seed=1)
    champion(settings, tmp_path / "other", "second")
    monkeypatch.setenv("KINOGRAPH_CONFIGS", "")  # and nothing of the user's YAML is needed
    with pytest.raises(ConfigError):
        configs.dataset("own")
    assert before and predict(video, version.uri, settings=settings) == before
    client(settings.tracking_uri).delete_model_version("extractors", "1")
    with pytest.raises(
        ConfigError,
        match="own_files, made by other weights now.*has no version with these weights any more",
    ):
        predict(video, version.uri, settings=settings)
    champion(settings, tmp_path / "recognizer", "again")  # the same weights as another version
    assert predict(video, version.uri, settings=settings) == before


def test_a_localization_champion_is_scored_on_the_features_that_it_was_trained_on(
    own: Layout, settings: Settings, pinned, tmp_path: Path
) -> None:
    version, result, first = pinned
    recipe, dataset = (
        world.recipe(model={"input_dims": 32}, training={"batch_size": 2}),
        configs.dataset("own"),
    )
    before = evaluate(build(recipe, own, dataset), result.weights_uri)
    rows = before.rows()
    recognizer(tmp_path / "other", seed=1)
    champion(settings, tmp_path / "other", "second")
    # another champion: other features under the same name
    make_features(configs.features("own_files"), own, settings)
    assert evaluate(build(recipe, own, dataset), result.weights_uri).rows() != rows
    asked = Challenger(build(recipe, own, dataset), result.weights_uri, dataset)
    found = score_version(version, asked, own, settings)
    assert (
        found.metrics == before.metrics
        and found.eval_set == before.eval_set
        and before.rows() == rows
    )
    beside = configs.features("own_files").model_copy(
        update={"extract": (Extraction(model=first, sampled_frames=4),)}
    )
    # no more than what is scored was made again
    assert {row["video_id"] for row in read_rows(beside, own)} == {"val_a"}
    assert score_version(version, asked, own, settings).metrics == before.metrics
