"""Evaluation and serving of a localization model on own data: numbers, files, pictures, and
segments from features and from videos.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import configs
import localization_world as world
from activitynet_files import read_predictions, read_truth
from configs.schema import ConfigError, Dataset
from configs.schema.localization import LocalizationRecipe
from ops.annotations.read import annotate
from ops.evaluation.predictors import from_files
from ops.evaluation.run import evaluate
from ops.files.storage import read_bytes
from ops.store.layout import Layout
from ops.tasks.localization import report as localization
from ops.tasks.localization.metric import match
from ops.tasks.localization.predictor import Localizer, Segment, Steps
from ops.tasks.localization.report import PREDICTIONS, eval_set_of
from ops.tasks.localization.segments import LeftOut
from ops.training.loop import fit
from ops.training.task import build


class Trained(NamedTuple):
    layout: Layout
    dataset: Dataset
    recipe: LocalizationRecipe
    weights: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """A short training on the tiny world: weights, recipe and vocabulary as a run folder holds
    them.
    """
    folder = tmp_path_factory.mktemp("localization")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINOGRAPH_CONFIGS", str(folder / "configs"))
        patch.setenv("KINOGRAPH_STORAGE", str(folder / "storage"))
        world.write_configs(folder / "configs")
        world.write_files(folder / "storage" / "own")
        layout = Layout(str(folder / "storage"))
        dataset = world.bring_in(layout)
        recipe = world.recipe(training={"epochs": 14, "evaluate_every": 14})
        task = build(recipe, layout, dataset)
        state = fit(task, recipe.scale)
        run = folder / "storage" / "runs" / "own"
        run.mkdir(parents=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in state.weights.items()},
            run / "model.safetensors",
        )
        (run / "recipe.json").write_text(recipe.model_dump_json())
        (run / "vocabulary.json").write_text(json.dumps(task.vocabulary()))
        yield Trained(layout, dataset, recipe, run / "model.safetensors")


def localizer(trained: Trained) -> Localizer:
    return from_files(
        trained.weights,
        *(trained.weights.with_name(name) for name in ("recipe.json", "vocabulary.json")),
    )


def test_an_evaluation_has_numbers_files_and_pictures(trained: Trained) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate(
        build(trained.recipe, trained.layout, trained.dataset),
        str(trained.weights),
        progress=lambda *at: seen.append(at),
    )
    assert (
        result.sample_unit == "videos"
        and result.num_samples == 5
        and not result.reused
        and seen[-1][0] == seen[-1][1]
    )
    assert result.metrics["mean_ap"] > 0.5
    assert {
        "map/0.30",
        "map/0.70",
        "recall_1x",
        "recall_5x/0.50",
        "gain_without/background",
    } <= set(result.metrics)
    assert set(result.per_class) == set(world.LABELS)
    assert np.mean(list(result.per_class.values())) == pytest.approx(result.metrics["mean_ap"])
    assert set(result.pictures) == {
        "ap_per_label.png",
        "timelines.png",
        "false_positives.png",
        "precision_recall.png",
    }
    for uri in result.pictures.values():
        image = Image.open(io.BytesIO(read_bytes(uri)))
        image.load()
        assert image.format == "PNG" and image.width > 400
    rows = result.rows()
    assert rows.schema.equals(PREDICTIONS) and set(rows["kind"].to_pylist()) >= {"true positive"}
    again = evaluate(build(trained.recipe, trained.layout, trained.dataset), str(trained.weights))
    assert again.reused and again == result


def test_the_results_are_activitynets_json(trained: Trained) -> None:
    result = evaluate(build(trained.recipe, trained.layout, trained.dataset), str(trained.weights))
    truth, labels = read_truth(
        (Path(trained.layout.root) / "own" / "annotations" / "own.json").read_text(), "validation"
    )
    found = read_predictions(read_bytes(result.files["results.json"]), labels)
    precision = match(truth, found, trained.recipe.tiou).average_precision()
    assert precision.mean() == pytest.approx(result.metrics["mean_ap"], abs=1e-3)
    table = list(csv.DictReader(io.StringIO(read_bytes(result.files["per_label.csv"]).decode())))
    assert {row["label"] for row in table} == set(world.LABELS)
    assert read_bytes(result.files["left_out.csv"]).decode().splitlines() == [
        ",".join(LeftOut._fields)
    ]


def test_the_set_is_that_of_the_truth_and_the_thresholds(trained: Trained) -> None:
    task = build(trained.recipe, trained.layout, trained.dataset)

    def eval_set(**changes: object) -> str:
        return eval_set_of(
            task.videos("val"), world.LABELS, trained.recipe.model_copy(update=changes)
        )  # type: ignore[attr-defined]

    first = eval_set()
    assert (
        eval_set(decoding=trained.recipe.decoding.model_copy(update={"max_segments": 5})) == first
    )
    assert eval_set(tiou=(0.5,)) != first
    assert eval_set_of(task.videos("val")[:-1], world.LABELS, trained.recipe) != first  # type: ignore[attr-defined]


def test_weights_of_another_model_are_refused(trained: Trained, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="the weights of recipe actionformer_own"):
        evaluate(
            build(trained.recipe, trained.layout, trained.dataset),
            str(tmp_path / "model.safetensors"),
        )


def test_features_of_any_length_in_batches(trained: Trained) -> None:
    model = localizer(trained)
    videos = [world.video(seed)[0] for seed in range(2000, 2005)]
    # far longer than the training's 64 steps; one step
    videos += [np.concatenate(videos), videos[0][:1]]
    together = model.on_features([Steps(features, 10.0) for features in videos])
    for features, found in zip(videos, together, strict=True):
        alone = model.on_features([Steps(features, 10.0)])[0]
        assert len(alone) == len(found)
        np.testing.assert_allclose(
            [one[1:] for one in alone[:5]], [one[1:] for one in found[:5]], atol=1e-3
        )
    hits = wanted = 0
    for seed, found in zip(range(2000, 2005), together, strict=False):
        _, segments, duration = world.video(seed)
        best = found[: 4 * len(segments)]
        hits += sum(
            any(
                one.label == label and min(one.end_s, end) - max(one.start_s, start) > 0
                for one in best
            )
            for label, start, end in segments
        )
        wanted += len(segments)
        assert all(0 <= one.start_s < one.end_s <= duration + 1e-4 for one in found)
    assert hits >= 0.6 * wanted


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((5, 7), np.float32), r"found float32 \[5, 7\]; allowed: floating point \[T, 8\]"),
        (np.zeros((0, 8), np.float32), r"found float32 \[0, 8\]"),
        (np.full((5, 8), np.nan, np.float32), "40 values that are not finite, the first at step 0"),
        (np.zeros((5, 8), np.int64), "found int64"),
    ],
)
def test_features_that_do_not_fit_are_named(
    trained: Trained, features: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        localizer(trained).on_features([Steps(features, 10.0)])


def test_imported_features_cannot_be_made_from_a_video(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match="'features': found 'own_files'; allowed: features that are extracted from videos",
    ):
        localizer(trained).on_video(tmp_path / "video.mp4")


def test_lines(trained: Trained) -> None:
    model = localizer(trained)
    found = [Segment("wave", 1.0, 2.5, 0.9), Segment("jump", 3.0, 4.0, 0.05)]
    assert model.lines(found) == ["   1.00 –    2.50 s  wave   90.0%  " + "█" * 27]
    assert len(model.lines(found[1:])) == 1 and model.lines([]) == ["nothing found"]


def test_labels_that_do_not_belong_are_refused(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text('{"labels": ["one"]}')
    with pytest.raises(ConfigError, match="found '1 labels'; allowed: 3, the recipe's num_classes"):
        from_files(
            trained.weights, trained.weights.with_name("recipe.json"), tmp_path / "vocabulary.json"
        )


def test_mlflow_keeps_and_serves_it(trained: Trained, tmp_path: Path) -> None:
    import mlflow

    from ops.tracking.model import save_model

    code = (
        Path(configs.__file__).parent.parent / "ops" / "tasks" / "localization" / "mlflow_model.py"
    )
    vocabulary = json.loads(trained.weights.with_name("vocabulary.json").read_text())
    save_model(tmp_path / "model", trained.recipe, trained.weights, vocabulary, code)
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    features, segments, _ = world.video(2001)
    rows = served.predict(features[None], params={"fps": 10.0})
    assert rows.shape[0] == 1 and rows.shape[2] == 4 and rows.shape[1] >= len(segments)
    expected = localizer(trained).on_features([Steps(features, 10.0)])[0]
    np.testing.assert_allclose(rows[0, 0, [0, 1, 3]], expected[0][1:], rtol=1e-5)
    with pytest.raises(ValueError, match="found no 'fps'"):
        served.predict(features[None])


def test_a_model_is_scored_in_its_own_words(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localization, "_pictures", lambda *_: {})  # they are what takes the time
    spoken = json.loads(trained.weights.with_name("vocabulary.json").read_text())
    before = evaluate(build(trained.recipe, trained.layout, trained.dataset), str(trained.weights))
    labels = f"{trained.layout.root}/own/annotations/labels.txt"
    Path(labels).write_text("wave\njump\nkick")
    try:
        annotate(trained.dataset, trained.layout)
        wrong = evaluate(
            build(trained.recipe, trained.layout, trained.dataset), str(trained.weights)
        )
        found = evaluate(
            build(trained.recipe, trained.layout, trained.dataset),
            str(trained.weights),
            spoken=spoken,
        )
        common = ["kick", "jump"]
        part = evaluate(
            build(trained.recipe, trained.layout, trained.dataset),
            str(trained.weights),
            spoken=spoken,
            common=common,
        )
    finally:
        Path(labels).write_text("\n".join(world.LABELS))
        annotate(trained.dataset, trained.layout)
    assert wrong.metrics["mean_ap"] < 0.2 < before.metrics["mean_ap"]
    assert found.metrics == pytest.approx(before.metrics) and found.per_class == pytest.approx(
        before.per_class
    )
    assert found.eval_set == wrong.eval_set != before.eval_set
    assert (
        part.per_class == pytest.approx({label: before.per_class[label] for label in common})
        and part.eval_set != found.eval_set
    )
    assert part.metrics["mean_ap"] == pytest.approx(np.mean(list(part.per_class.values())))


def test_progress_counts_videos(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localization, "_pictures", lambda *_: {})
    weights, seen = tmp_path / "model.safetensors", list[tuple[int, int]]()
    weights.write_bytes(trained.weights.read_bytes())
    evaluate(
        build(trained.recipe, trained.layout, trained.dataset),
        str(weights),
        progress=lambda *at: seen.append(at),
    )
    assert seen == [(4, 5), (5, 5)]  # in two batches
