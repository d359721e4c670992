"""Places, room, other models and starting weights: what is not there or does not fit is named
before the first step.
"""

from __future__ import annotations

import pickle
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors.torch import save_file

import configs
import models
from configs.schema import Recipe
from models.weights import export_published
from ops.files.storage import remove
from ops.preflight import places
from ops.preflight.about import About
from ops.preflight.facts import Facts, facts_of
from ops.preflight.run import PreflightError, preflight, require
from ops.store.layout import Layout
from ops.store.manifest import read_manifest
from ops.store.tables import VIDEOS, from_rows, write_table
from pipelines.jobs import DEMO_RECIPES

DEMO = [configs.load(name) for name in DEMO_RECIPES]
TSM = DEMO[1]


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> Facts:
    return facts_of(configs.dataset("figures"), Layout(str(tmp_path_factory.mktemp("none"))), {})


def settings_of(tmp_path: Path, **changes) -> configs.Settings:
    usual = {
        "storage": str(tmp_path / "store"),
        "tracking_uri": f"sqlite:///{tmp_path}/m.db",
        "home": tmp_path / "home",
    }
    return configs.Settings(**{**usual, **changes})


def said(
    recipe: Recipe, settings: configs.Settings, facts: Facts, before=()
) -> list[tuple[str, str, str]]:
    found = preflight(
        recipe, Layout(settings.storage), settings, before=before, world={}, facts=facts
    )
    return [(error.where, error.field, str(error)) for error in found]


def changed(recipe: Recipe, **sections) -> Recipe:
    """The recipe with sections of other values; the schema sees them too."""
    value = recipe.model_dump()
    for name, new in sections.items():
        value[name] = {**value[name], **new} if isinstance(new, dict) else new
    return type(recipe).model_validate(value)


def test_the_demo_is_ready_and_leaves_no_trace(tmp_path, facts) -> None:
    settings = settings_of(tmp_path)
    require(DEMO, Layout(settings.storage), settings, world={})
    assert not list(tmp_path.iterdir())
    with pytest.raises(
        PreflightError, match="actionformer_tiny_figures.*features.*trained before in the same line"
    ) as raised:
        require(DEMO[2:], Layout(settings.storage), settings, world={})
    assert {mistake.field for mistake in raised.value.mistakes} == {"features", "action_model"}
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301 - our own


def test_a_store_that_cannot_be_written(tmp_path, facts) -> None:
    (tmp_path / "file").write_text("")
    (found,) = said(TSM, settings_of(tmp_path, storage=f"{tmp_path}/file/store"), facts)
    assert found[:2] == ("environment", "KINOGRAPH_STORAGE")


def test_a_bucket_that_refuses(tmp_path, facts, s3) -> None:
    settings = settings_of(tmp_path, storage=f"{s3.bucket}/prefix")
    assert said(TSM, settings, facts) == []
    s3.refuse = True
    (found,) = said(TSM, settings, facts)
    assert "access refused" in found[2] and "test-secret" not in found[2]


def test_too_little_disk_is_told_with_what_is_needed(tmp_path, facts, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**10, 10**10 - 10**9, 10**9))
    (found,) = said(TSM, settings_of(tmp_path), facts)
    assert (
        found[1] == "KINOGRAPH_STORAGE"
        and "1.0 GB free" in found[2]
        and "GB of frames to store" in found[2]
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10**12))
    assert said(TSM, settings_of(tmp_path), facts) == []


def test_frames_to_store_are_judged_by_what_this_dataset_takes(own, settings, world) -> None:
    dataset = configs.dataset("tiny")
    about = About(world.recipe(), "x", dataset, Facts("tiny", "its tables", True), own, settings)
    folder = Path(own.videos_folder(dataset))
    folder.mkdir(parents=True)
    (folder / "new.mp4").write_bytes(b"x" * 10**6)
    assert places.frame_bytes(about) == 7e6  # of filmed video
    lossless = dataset.model_copy(
        update={"frames": dataset.frames.model_copy(update={"codec": "lossless"})}
    )
    assert (
        places.frame_bytes(About(world.recipe(), "x", lossless, about.facts, own, settings)) == 38e6
    )
    assert places.checkpoint_bytes(about) > 4 * sum(
        one.numel() for one in models.build(world.recipe()).parameters()
    )


def test_services_that_do_not_answer(tmp_path, facts) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    found = said(
        TSM,
        settings_of(tmp_path, tracking_uri=f"http://user:secret@{address}", ray_address=address),
        facts,
    )
    assert {field for _, field, _ in found} >= {
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
    } and "secret" not in str(found)


def test_starting_weights_that_are_not_there_or_of_another_network(tmp_path, facts) -> None:
    other = models.build(DEMO[0].model_copy(update={"model": {**DEMO[0].model, "width": 8}}))
    own = models.build(DEMO[0])
    for name, network in (("other", other), ("own", own)):
        save_file(
            {key: value.contiguous() for key, value in export_published(network).items()},
            tmp_path / f"{name}.safetensors",
        )
    (tmp_path / "text.safetensors").write_text("no weights")
    for name, right in (("own", True), ("other", False), ("text", False), ("gone", False)):
        recipe = changed(DEMO[0], training={"init_from": str(tmp_path / f"{name}.safetensors")})
        found = said(recipe, settings_of(tmp_path), facts)
        assert (not found) == right, found
        assert right or found[0][1] == "training.init_from"


def test_a_name_that_another_task_of_the_line_registers(tmp_path, facts) -> None:
    detector = changed(DEMO[3], gate={"registered_model": "figures-recognition"})
    (found,) = said(detector, settings_of(tmp_path), facts, before=DEMO[:1])
    assert (
        found[1] == "gate.registered_model"
        and "recipe tsn_tiny_figures of this line registers recognition" in found[2]
    )
    parser = DEMO[4].model_copy(update={"action_model": "models:/figures-detection@champion"})
    (found,) = said(parser, settings_of(tmp_path), facts, before=[DEMO[3]])
    assert (
        found[1] == "action_model"
        and "a recognition model; recipe evad_tiny_figures registers detection models" in found[2]
    )


def test_features_of_another_width(tmp_path, facts) -> None:
    wide = changed(TSM, model={"width": 32})
    (found,) = said(DEMO[2], settings_of(tmp_path), facts, before=[wide])
    assert (
        found[1] == "model.input_dims"
        and "found 128; allowed: 256, the channels of features figures_tsm" in found[2]
    )
    # either may become the champion
    assert said(DEMO[2], settings_of(tmp_path), facts, before=[TSM, wide]) == []


def test_data_that_cannot_train_it_is_told_from_the_files_alone(
    own, settings, world, tmp_path
) -> None:
    """Annotation files without a table yet: labels, splits and files are judged; then the tables,
    by the task's own check.
    """
    recipe = world.recipe()
    assert preflight(recipe, own, settings) == []
    found = preflight(world.recipe(num_classes=4), own, settings)
    assert [error.field for error in found] == ["num_classes"] and "3, the labels of tiny" in found[
        0
    ].allowed
    many = preflight(
        world.recipe(training={"batch_size": 7}, scale={"num_workers": 2}), own, settings
    )
    assert [error.field for error in many] == ["training.batch_size"]
    Path(own.annotation_table("tiny", "clips")).unlink()
    told = {error.field: str(error) for error in preflight(recipe, own, settings)}
    assert "clips.csv" in told["annotations"] and "videos" in told["(whole)"]


def test_frames_that_somebody_deleted_are_made_again_before_the_task_reads_them(
    world, own: Layout
) -> None:
    stored = [row for row in read_manifest(own, world.DATASET).to_pylist() if row["status"] == "ok"]
    blank = {field.name: None for field in VIDEOS} | {
        "status": "ok",
        "reason": "",
        "width": 40,
        "height": 32,
        "num_frames_packets": 12,
    }
    known = [
        {"video_id": row["video_id"], "sha256": row["sha256"], "source_uri": row["video_id"]}
        for row in stored
    ]
    rows = [{**blank, **row, "duration_s": 1.2} for row in known]
    buckets = {
        row["video_id"]: bucket
        for bucket in range(2)
        for row in read_manifest(own, world.DATASET, [bucket]).to_pylist()
    }
    for bucket in range(2):
        write_table(
            own.video_table("tiny", bucket),
            from_rows([row for row in rows if buckets[row["video_id"]] == bucket], VIDEOS),
        )
    dataset = configs.dataset("tiny")
    assert facts_of(dataset, own).made
    remove(f"{own.root}/frames")
    assert not facts_of(dataset, own).made
