"""The detection task: what it checks, its losses over ranks, its rows, and a training that is
killed and resumed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import configs
import detection_ranks
import key_frame_world as scenes
from configs.schema import ConfigError
from models.checkpoints import PublishedWeightsError
from models.weights import export_published
from ops.data.errors import DataError
from ops.files.storage import write_bytes
from ops.store.layout import Layout
from ops.store.tables import BOXES, from_rows, read_table, write_table
from ops.tasks.detection.task import Detection, build
from ops.training.checkpoint import State, load_state
from ops.training.inference import alone, predict
from ops.training.loop import fit


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(str(tmp_path_factory.mktemp("scenes")))
    scenes.build_world(layout)
    return layout


def task(layout: Layout, **changes) -> Detection:
    return build(scenes.recipe(**changes), layout, scenes.DATASET)


def batch_of(own: Detection, count: int = 4, mode: str = "train") -> dict:
    samples = own.samples("train", mode)  # type: ignore[arg-type]
    return own.collate([samples[index] for index in range(count)])


def test_the_data_fits_and_is_told(stored: Layout) -> None:
    own = task(stored)
    own.check()
    assert own.vocabulary() == {"labels": ["stand", "walk", "red"], "ids": ["1", "2", "5"]}
    assert own.groups() == {"pose": [0, 1], "colour": [2]}
    assert own.scored_classes() is None
    numbers = own.coverage()
    assert (numbers["train_annotated"], numbers["train_usable"], numbers["train_not_stored"]) == (
        27,
        24,
        3,
    )
    assert own.data_version() == task(stored).data_version() != ""


WRONG = {
    "classes": ({"num_classes": 4}, "num_classes.*found 4; allowed: 3, the actions"),
    "length": ({"sampling": {"clip_len": 8}}, "sampling.clip_len.*found 8; allowed: 4"),
    "padding": ({"pictures": {"pad_to": 16}}, "pictures.pad_to.*a multiple of 32"),
    "accumulation": (
        {"training": {"accumulate": 2}},
        "training.accumulate.*divided by the persons of the whole batch",
    ),
    "groups": ({"groups": {"all": ["fly"]}}, "groups.*found 'fly'; allowed: stand, walk, red"),
    "flip": (
        {"pictures": {"flip_labels": {"left": "right"}}},
        "pictures.flip_labels.*found 'left'",
    ),
    "scored": ({"scored": "none.pbtxt"}, "scored.*an existing file"),
    "tubes": ({"tubes": {}}, "tubes.*has key frames, not tubes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_named(stored: Layout, case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        task(stored, **changes).check()


def test_one_action_each_where_the_model_has_a_softmax(stored: Layout) -> None:
    with pytest.raises(
        DataError,
        match=r"a person of 'train/\d\d' at 1.0 s has 2 actions; with model.multi_label false",
    ):
        task(stored, model={**scenes.MODEL, "multi_label": False}).check()


def test_actions_that_count(layout: Layout) -> None:
    scenes.build_world(layout)
    write_bytes(
        f"{layout.dataset_root(scenes.DATASET)}/scored.pbtxt", b'item { name: "walk" id: 2 }\n'
    )
    own = task(layout, scored="scored.pbtxt")
    assert own.scored_classes() == [1]
    write_bytes(
        f"{layout.dataset_root(scenes.DATASET)}/scored.pbtxt", b'item { name: "swim" id: 7 }\n'
    )
    with pytest.raises(ConfigError, match=r"scored.pbtxt.*'id': found 7"):
        own.scored_classes()


def test_batches_and_losses(stored: Layout) -> None:
    own = task(stored)
    torch.manual_seed(0)
    model, batch = own.model(), batch_of(own)
    assert batch["clips"].shape == (4, 3, 4, 64, 64)  # 48 x 64, padded to multiples of 32
    assert batch["sizes"].tolist() == [[48, 64]] * 4
    losses = own.losses(model, batch)
    assert set(losses) == {"loss", "person", "l1", "giou", "action"}
    losses["loss"].backward()
    lost = [name for name, value in model.named_parameters() if value.grad is None]
    assert lost == []


def test_a_batch_without_persons_trains_too(stored: Layout) -> None:
    own = task(stored)
    batch = batch_of(own)
    batch["boxes"] = [boxes[:0] for boxes in batch["boxes"]]
    batch["labels"] = [labels[:0] for labels in batch["labels"]]
    model = own.model()
    losses = own.losses(model, batch)
    losses["loss"].backward()
    assert (
        np.isfinite(float(losses["loss"].detach()))
        and float(losses["giou"]) == float(losses["action"]) == 0
    )
    assert all(
        value.grad is not None and torch.isfinite(value.grad).all() for value in model.parameters()
    )


def test_proposals_may_start_at_typical_boxes(stored: Layout) -> None:
    own = task(stored, start_boxes="typical")
    start = own.model().proposal_boxes.weight
    assert start.shape == (5, 4) and len(torch.unique(start, dim=0)) > 1
    assert (start[:, 2:] < 0.8).all() and ((start > 0) & (start < 1)).all()
    assert (task(stored).model().proposal_boxes.weight == torch.tensor([0.5, 0.5, 1.0, 1.0])).all()


def test_it_starts_from_a_published_detector_or_from_videomae(
    stored: Layout, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    source = task(stored).model()
    whole, encoder = tmp_path / "detector.pth", tmp_path / "videomae.pth"
    torch.save({"model_state": export_published(source)}, whole)
    torch.save(
        {
            "model": {
                f"encoder.{name}": value for name, value in source.encoder.state_dict().items()
            }
        },
        encoder,
    )
    torch.manual_seed(6)
    found = task(stored, training={"init_from": str(whole)}).model()
    assert all(
        torch.equal(value, source.state_dict()[name]) for name, value in found.state_dict().items()
    )
    found = task(stored, training={"init_from": str(encoder)}).model()
    assert torch.equal(found.encoder.embed.weight, source.encoder.embed.weight)
    assert not torch.equal(
        found.pyramid.state_dict()["laterals.0.weight"],
        source.pyramid.state_dict()["laterals.0.weight"],
    )
    torch.save({"weight": torch.zeros(3)}, encoder)
    with pytest.raises(PublishedWeightsError, match="videomae.pth|mapping"):
        task(stored, training={"init_from": str(encoder)}).model()


def test_ava_s_ids_have_ava_s_groups(layout: Layout) -> None:
    lines = "".join(f'item {{ name: "action {number}" id: {number} }}\n' for number in range(1, 81))
    write_bytes(f"{layout.dataset_root(scenes.DATASET)}/actions.pbtxt", lines.encode())
    groups = task(layout, groups={}, num_classes=80).groups()
    assert {
        name: (members[0] + 1, members[-1] + 1, len(members)) for name, members in groups.items()
    } == {"movement": (1, 14, 14), "object": (15, 63, 49), "interaction": (64, 80, 17)}


def test_rows_of_predictions(stored: Layout) -> None:
    own = task(stored, detecting={"person_threshold": 1.0, "times_person": True})
    rows = predict(own, own.model(), own.samples("val", "test"), place=alone(own.recipe.scale))
    assert [(row["video_id"], row["timestamp_s"]) for row in rows][:3] == [
        ("val/00", 1.0),
        ("val/00", 2.0),
        ("val/00", 3.0),
    ]
    row = rows[0]
    # nobody is sure: all count
    assert row["proposals"].shape == (5, 4) and row["scores"].shape == (5, 3)
    assert (
        (np.diff(row["proposal_scores"]) <= 0).all()
        and (row["boxes"] >= 0).all()
        and (row["boxes"] <= 1).all()
    )
    assert (row["scores"] <= row["person_scores"][:, None]).all()
    metric = own.metric("val")
    metric.update(rows)
    assert {"frame_map", "person_ap", "person_recall", "frame_map/pose"} <= set(metric.compute())


def same(one: State, two: State) -> bool:
    return all(torch.equal(tensor, two.weights[name]) for name, tensor in one.weights.items())


def test_killed_and_resumed_it_ends_in_the_same_weights(stored: Layout, tmp_path: Path) -> None:
    own = task(stored)

    def stop(report, save) -> None:
        if report.epoch == 1:
            save(tmp_path)

    whole = fit(own, own.recipe.scale, on_epoch=stop)
    again = fit(own, own.recipe.scale, start=load_state(tmp_path, own.recipe.key()))
    assert same(whole, again)
    assert {"frame_map", "best_frame_map", "loss", "giou"} <= set(whole.history[-1])


def test_two_ranks_are_one_rank_with_the_double_batch(stored: Layout, tmp_path: Path) -> None:
    command = [sys.executable, detection_ranks.__file__, str(tmp_path), stored.root]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([*command, str(rank), "2"], env=environment) for rank in (0, 1)]
    expected = detection_ranks.train(stored.root, 0, 1)
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5)
        np.testing.assert_allclose(found["gradients"], expected["gradients"], rtol=1e-4, atol=1e-6)
        assert found["metric"] == pytest.approx(expected["metric"], abs=1e-6)


def test_tubes_are_scored_in_pixels(layout: Layout) -> None:
    scenes.build_world(layout, num_train=2, num_val=1)
    uri = layout.annotation_table("scenes", "boxes")
    rows = [row for row in read_table(uri).to_pylist() if row["label_id"] != 5]
    moved = [
        {**row, "frame": int(row["timestamp_s"]) + more, "timestamp_s": None}
        for row in rows
        for more in range(2)
    ]
    write_table(
        uri,
        from_rows({(r["video_id"], r["frame"], r["person_id"]): r for r in moved}.values(), BOXES),
    )
    own = task(
        layout, tubes={}, key_frames={"every": 2}, model={**scenes.MODEL, "multi_label": False}
    )
    own.check()
    assert own.metric("val").pixels
    assert len(own.samples("val", "test")) == scenes.NUM_FRAMES
    assert len(own.samples("val", "validate")) < 4
    losses = own.losses(own.model(), batch_of(own, 2))
    assert np.isfinite(float(losses["loss"]))


def test_every_recipe_builds(stored: Layout) -> None:
    import models

    published = {
        "keep10": (425, 32.1),
        "v2_ava22_keep07": (243, 37.7),
        "vitb_ava22_keep07": (243, 32.3),
        "w4": (209, 31.8),
    }
    for name in configs.names("detection"):
        recipe = configs.load(name)
        with torch.device("meta"):
            model = models.build(recipe)
        if recipe.published and recipe.published.params_m:
            assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(
                recipe.published.params_m, abs=0.005
            )
        for part, (gflops, mean_ap) in published.items():
            if part in name:
                assert recipe.published is not None and (
                    recipe.published.gflops,
                    recipe.published.mean_ap,
                ) == (gflops, mean_ap)
