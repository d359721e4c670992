"""The localization task on own data: what it checks, its losses over ranks, resuming, and its
predictions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import configs
import localization_ranks as ranks
import localization_world as world
from configs.schema import ConfigError
from configs.schema.localization import Decoding
from models.localization import actionformer as family
from ops.data.errors import DataError
from ops.store.layout import Layout
from ops.tasks.localization.segments import Grid
from ops.tasks.localization.task import Localization, placed
from ops.training.checkpoint import State, load_state
from ops.training.loop import fit
from ops.training.task import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A whole world, made once: configs/ and storage/."""
    folder = tmp_path_factory.mktemp("localization")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINOGRAPH_CONFIGS", str(folder / "configs"))
        patch.setenv("KINOGRAPH_STORAGE", str(folder / "storage"))
        world.write_configs(folder / "configs")
        world.write_files(folder / "storage" / "own")
        world.bring_in(Layout(str(folder / "storage")))
        yield folder


def task_of(folder: Path, **changes: object) -> Localization:
    return build(world.recipe(**changes), Layout(str(folder / "storage")), configs.dataset("own"))  # type: ignore[return-value]


def test_good_data_passes_and_has_one_name(folder: Path) -> None:
    task = task_of(folder)
    task.check()
    assert task.data_version() == task_of(folder).data_version()
    assert task.vocabulary() == {"labels": list(world.LABELS)}
    coverage = task.coverage()
    assert (
        coverage["train_share"] == 1
        and coverage["left_out"] == 0
        and coverage["labels_without_training"] == 0
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_classes": 4}, ConfigError, "'num_classes': found 4; allowed: 3, the labels of own"),
        (
            {"model": {"input_dims": 9}},
            ConfigError,
            "'model.input_dims': found .*have 8 channels.*allowed: 8",
        ),
        (
            {"features": "thumos14_i3d"},
            ConfigError,
            "'features': found 'thumos14_i3d, of thumos14'; allowed: features of dataset own",
        ),
        ({"target": "verb"}, ValueError, "found 'verb'; expected: label"),
    ],
)
def test_what_cannot_be_trained_is_named(
    folder: Path, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        task_of(folder, **changes).check()


def test_a_split_without_features_is_named(folder: Path) -> None:
    task = task_of(folder)
    del task.table.videos["val"]
    with pytest.raises(
        DataError,
        match="split 'val': 5 annotated videos, none with features 'own_files'; make them",
    ):
        task.check()


def test_a_label_without_training_is_reported_and_starts_as_good_as_never(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(folder)
    for split, videos in task.table.videos.items():
        kept = videos.labels != 2
        starts = np.append(0, np.cumsum(kept))[videos.starts]
        task.table.videos[split] = replace(
            videos, starts=starts, segments=videos.segments[kept], labels=videos.labels[kept]
        )
    task.check()
    assert (
        "no training segment of wave" in caplog.text
        and task.coverage()["labels_without_training"] == 1
    )
    bias = task.model().classify.last.bias  # type: ignore[union-attr]
    assert torch.sigmoid(bias).tolist() == pytest.approx([0.01, 0.01, 1e-6], rel=1e-3)  # type: ignore[arg-type]


def test_the_normaliser_is_a_running_mean_and_is_kept(folder: Path) -> None:
    task = task_of(folder)
    samples = task.samples("train", "train")
    batch = task.collate([samples[index] for index in range(4)])
    torch.manual_seed(0)
    model = task.model()
    first = task.losses(model, batch)
    positives = float(first["positives"]) * 4
    normaliser = 0.9 * 20 + 0.1 * positives
    assert task.state_dict() == {"normaliser": pytest.approx(normaliser)}
    assert first["loss"].item() == pytest.approx(
        first["classification"].item() + first["regression"].item(), rel=1e-6
    )
    second = task.losses(model, batch)
    assert second["loss"].item() == pytest.approx(
        first["loss"].item() * normaliser / (0.9 * normaliser + 0.1 * positives), rel=1e-5
    )
    other = task_of(folder)
    other.load_state_dict(task.state_dict())
    assert other.state_dict() == task.state_dict()


def test_it_learns_and_resumes_in_the_same_bits(folder: Path, tmp_path: Path) -> None:
    saved: list[Path] = []

    def on_epoch(report, save) -> None:
        if report.epoch == 3:
            save(tmp_path)
            saved.append(tmp_path)

    training = {"training": {"epochs": 5, "evaluate_every": 5}}
    whole = fit(task_of(folder, **training), task_of(folder).recipe.scale, on_epoch=on_epoch)
    assert (
        whole.history[-1]["loss"] < 0.7 * whole.history[0]["loss"]
        and "mean_ap" in whole.history[-1]
    )
    task = task_of(folder, **training)
    again = fit(task, task.recipe.scale, start=load_state(saved[0], task.recipe.key()))
    assert same(whole, again) and again.task == whole.task


def same(one: State, two: State) -> bool:
    return all(torch.equal(tensor, two.weights[name]) for name, tensor in one.weights.items())


def test_two_ranks_take_the_steps_of_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with half of every batch each, against one with all of it: same losses,
    normaliser and weights.
    """
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    other = subprocess.Popen(
        [sys.executable, ranks.__file__, str(folder), "1", "2"], env=environment
    )
    ranks.main(folder, 0, 2)  # this process is the first rank
    assert other.wait(timeout=120) == 0
    alone = ranks.train(folder, 0, 1)
    both = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert (
        both[0]["normalisers"] == pytest.approx(alone["normalisers"])
        and len(alone["normalisers"]) == 6
    )
    for share in both:
        assert share["last"] == alone["last"]
        np.testing.assert_allclose(share["history"], alone["history"], rtol=1e-4)
        for name in ("weights", "average"):
            for key, tensor in alone[name].items():
                torch.testing.assert_close(share[name][key], tensor, rtol=0, atol=2e-5)


def test_predictions_lie_inside_the_video_and_a_batch_changes_nothing(folder: Path) -> None:
    task = task_of(folder)
    torch.manual_seed(0)
    model = task.model().eval()
    samples = task.samples("val", "validate")
    with torch.inference_mode():
        together = task.predict(
            model, task.collate([samples[index] for index in range(len(samples))])
        )
        alone = [
            row
            for index in range(len(samples))
            for row in task.predict(model, task.collate([samples[index]]))
        ]
    for one, other, video in zip(together, alone, samples.videos, strict=True):
        assert one["video_id"] == other["video_id"] == video.video_id
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-5)
        assert (one["segments"] >= 0).all() and (one["segments"] <= video.duration_s + 1e-4).all()
        assert (one["segments"][:, 0] < one["segments"][:, 1]).all() and (
            np.diff(one["scores"]) <= 0
        ).all()
        np.testing.assert_array_equal(one["true_segments"], video.segments)
    metric = task.metric("val")
    metric.update(together)
    assert set(metric.compute()) >= {"mean_ap", "map/0.50", "recall_1x", "recall_5x/0.70"}


def test_a_point_in_the_pyramid_becomes_its_seconds() -> None:
    candidates = family.Candidates(
        torch.tensor([[10.0, 20.0], [-5.0, -3.0], [90.0, 140.0]]),
        torch.tensor([0.9, 0.8, 0.7]),
        torch.tensor([1, 0, 0]),
    )
    found = placed(candidates, Decoding(), Grid(4, 8, 10.0, 45.0), None, world.recipe())
    np.testing.assert_allclose(found["segments"], [[4.4, 8.4], [36.4, 45.0]], rtol=1e-5)
    assert found["labels"].tolist() == [1, 0]


def test_proposals_get_the_classes_of_their_video(folder: Path) -> None:
    fusion = {"scores": "annotations/scores.json", "video": "{video}", "top": 2}
    changes = {
        "class_agnostic": True,
        "num_classes": 1,
        "fusion": fusion,
        "decoding": {"multiclass": False},
    }
    names = [
        f"{split}_{index:02d}"
        for split, count in (("train", 12), ("val", 5))
        for index in range(count)
    ]
    file = folder / "storage" / "own" / "annotations" / "scores.json"
    with pytest.raises(
        ConfigError, match=r"scores\.json.*no such file.*or a recipe without its fusion section"
    ):
        task_of(folder, **changes).check()
    file.write_text(
        json.dumps(
            {
                "class": ["wave", "jump", "kick"],
                "results": {name: [0.1, 0.7, 0.2] for name in names[:-1]},
            }
        )
    )
    with pytest.raises(DataError, match="no class scores of 1 of 5 videos: val_04"):
        task_of(folder, **changes).check()
    file.write_text(
        json.dumps(
            {
                "class": ["wave", "jump", "kick"],
                "results": {name: [0.1, 0.7, 0.2] for name in names},
            }
        )
    )
    task = task_of(folder, **changes)
    task.check()
    assert task.vocabulary() == {"labels": ["action"], "video_labels": list(world.LABELS)}
    samples = task.samples("val", "validate")
    assert set(np.concatenate([samples[index]["labels"] for index in range(5)])) == {0}
    model = task.model().eval()
    with torch.inference_mode():
        rows = task.predict(model, task.collate([samples[0]]))
    labels = rows[0]["labels"]
    assert set(labels.tolist()) == {0, 1}, "jump and kick: the two best"
    best = {label: rows[0]["scores"][labels == label].max() for label in (0, 1)}
    assert best[0] / best[1] == pytest.approx((0.7 / 0.2) ** 0.5, rel=1e-4)
    assert set(rows[0]["true_labels"]) <= {0, 1, 2}
    alone = task_of(folder, **{**changes, "fusion": None})
    with torch.inference_mode():
        assert set(alone.predict(model, alone.collate([samples[0]]))[0]["true_labels"]) == {0}
    assert alone.scored_labels == ["action"]
