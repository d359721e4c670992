"""Scoring on a frozen evaluation set, once."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import models
from configs.schema import ConfigError
from ops.data.transforms import fixed_views
from ops.evaluation import cache as kept
from ops.evaluation import run as evaluation
from ops.evaluation.run import evaluate
from ops.files.storage import read_bytes
from ops.store.reader import FrameReader
from ops.store.tables import CLIPS, from_rows, write_table
from ops.tasks.recognition import report as recognition
from ops.tasks.recognition.predictor import Recognizer
from ops.tasks.recognition.report import PREDICTIONS
from ops.tasks.recognition.task import Recognition
from ops.training.task import build


def run(discs, **changes):
    recipe = discs.recipe.model_copy(update=changes)
    return evaluate(build(recipe, discs.layout, discs.dataset), discs.weights)


def test_metrics_predictions_and_pictures_are_kept_beside_the_weights(discs) -> None:
    seen: list[tuple[int, int]] = []
    done = evaluate(
        build(discs.recipe, discs.layout, discs.dataset),
        discs.weights,
        progress=lambda *at: seen.append(at),
    )
    assert done.num_samples == 8 and seen[-1] == (8, 8)
    assert {
        "top1",
        "top5",
        "mean_class_accuracy",
        "chance",
        "pair_top1",
        "pair_order",
        "pair_order/grow__shrink",
    } <= set(done.metrics)
    rows = done.rows()
    assert rows.schema.equals(PREDICTIONS) and rows["clip_id"].to_pylist() == sorted(
        rows["clip_id"].to_pylist()
    )
    assert np.mean(rows["correct"].to_pylist()) == done.metrics["top1"]
    assert set(done.per_class) == {"grow", "shrink", "stay"}
    for uri in done.pictures.values():
        assert uri.startswith(f"{Path(discs.weights).parent}/evaluation/{done.eval_set}/")
        assert Image.open(io.BytesIO(read_bytes(uri))).width > 300


@pytest.mark.parametrize("average", ["prob", "score", "feature"])
def test_every_view_counts_and_serving_gives_the_same_probabilities(
    discs, plain, average: str
) -> None:
    views = discs.recipe.views.model_copy(
        update={"num_clips": 2, "num_crops": 3, "average": average}
    )
    recipe = discs.recipe.model_copy(update={"views": views})
    rows = run(discs, views=views).rows().to_pylist()
    network = models.build(recipe)
    network.load_state_dict(load_file(discs.weights))
    recognizer = Recognizer(network.eval(), recipe, ["grow", "shrink", "stay"])
    task = Recognition(recipe, discs.layout, discs.dataset)
    for row, clip in zip(rows[:3], task.samples("val", "test").clips, strict=False):
        frames = FrameReader(clip.array_uri).read(recognizer.indices(clip.num_frames))
        shares = recognizer.probabilities(frames)
        assert shares.argmax() == row["predicted_id"] and shares.max() == pytest.approx(
            row["probability"], abs=1e-5
        )
    single = torch.from_numpy(fixed_views(frames[:4], recipe.transforms, 1))
    assert not np.allclose(network(single).softmax(1).detach().numpy()[0], shares, atol=1e-6)


def test_the_same_question_costs_nothing(discs, plain, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(discs)
    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "predict", lambda *_, **__: pytest.fail("scored again"))
        again = run(discs)
    assert again.reused and again == first
    save_file(
        {name: tensor + 0.01 for name, tensor in load_file(discs.weights).items()}, discs.weights
    )
    other = run(discs)
    assert not other.reused and other.eval_set == first.eval_set


def test_a_changed_label_or_code_version_is_another_set(
    discs, plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(discs)
    with monkeypatch.context() as patched:
        patched.setattr(recognition, "EVALUATION", "next")
        assert run(discs).eval_set != first.eval_set
    assert (
        run(discs, views=discs.recipe.views.model_copy(update={"num_clips": 2})).eval_set
        == first.eval_set
    )
    changed = [
        {**clip, "label": "stay", "label_id": 2} if clip["clip_id"] == "video04" else clip
        for clip in discs.clips
    ]
    write_table(discs.layout.annotation_table("discs", "clips"), from_rows(changed, CLIPS))
    assert run(discs).eval_set != first.eval_set


def test_a_cut_short_evaluation_does_not_count(
    discs, plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(uri: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", uri)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(kept, "write_bytes", full_disk)
        run(discs)
    assert not run(discs).reused


def test_what_does_not_belong_together_is_refused(discs) -> None:
    with pytest.raises(ConfigError, match="found 4; allowed: 3, the labels of discs"):
        run(discs, num_classes=4)
    with pytest.raises(ConfigError, match="model.safetensors.*the weights of recipe"):
        run(discs, model={"depth": 10, "width": 16})
    with pytest.raises(ValueError, match="split 'test'"):
        evaluate(build(discs.recipe, discs.layout, discs.dataset), discs.weights, split="test")
    network = models.build(discs.recipe).eval()
    with pytest.raises(ValueError, match=r"allowed: uint8 \[4, H, W, 3\]"):
        Recognizer(network, discs.recipe, []).probabilities(np.zeros((3, 8, 8, 3), np.uint8))
