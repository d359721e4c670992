"""A recipe's way from a finished training to the champion's alias, twice; and what is still to do.
No Ray is started.
"""

from __future__ import annotations

import json

import pytest

import configs
from configs import Settings
from configs.schema import ConfigError
from finished_training import have_trained
from ops.annotations.sources import annotate_dataset, sources
from ops.annotations.vocabulary import AnnotationError
from ops.files import storage as files
from ops.files.storage import write_bytes
from ops.flow.recipe import (
    _data_pending,
    _recipe_pending,
    evaluate_recipe,
    promote_recipe,
    register_recipe,
    train_recipe,
)
from ops.store import tables
from ops.store.layout import Layout
from ops.store.tables import PROBLEMS, from_rows, write_table
from ops.tracking.connect import client
from ops.tracking.mlflow_run import find_run
from ops.tracking.registry import opponent
from ops.training.checkpoint import FILE, CheckpointError
from ops.training.ray_train import SNAPSHOT
from ops.training.run_folder import RECORD, TrainResult, plan_run


def test_every_step_may_be_called_again_and_does_nothing_twice(
    world, own: Layout, settings: Settings
) -> None:
    recipe = world.recipe(gate={"floor": -1.0})
    with pytest.raises(
        ConfigError,
        match="recipe tiny_tsm.*no finished training for the data as it is.*train it first",
    ):
        evaluate_recipe(recipe, own, settings)
    assert _recipe_pending(recipe, own, settings) == "train tiny_tsm"
    result = have_trained(recipe, own)
    assert _recipe_pending(recipe, own, settings) == "evaluate and promote tiny_tsm"
    with pytest.raises(ConfigError, match="no MLflow run"):
        register_recipe(recipe, own, settings)

    trained, again = (
        train_recipe(recipe, own, settings, "dagster-1"),
        train_recipe(recipe, own, settings, "dagster-2"),
    )
    assert trained.result == again.result == result and not trained.trained_now
    assert trained.run.run_id == again.run.run_id and trained.run.run().info.status == "FINISHED"
    first, second = evaluate_recipe(recipe, own, settings), evaluate_recipe(recipe, own, settings)
    assert (
        first.metrics == second.metrics
        and first.num_samples == 9
        and first.eval_set == second.eval_set
    )
    assert (
        all(png.startswith(b"\x89PNG") for png in first.pictures.values())
        and "confusion_matrix" in first.pictures
    )
    assert (
        register_recipe(recipe, own, settings).created
        and not register_recipe(recipe, own, settings).created
    )

    decision, kept = promote_recipe(recipe, own, settings), promote_recipe(recipe, own, settings)
    assert (
        decision.promoted
        and kept.promoted
        and kept.reused
        and not decision.reused
        and decision.reason == kept.reason
    )
    assert decision.challenger == first.metrics["top1"]
    champion = opponent("tiny", settings)
    assert champion is not None and champion.version == 1 and champion.run_key == result.run_key
    store = client(settings.tracking_uri)
    assert len(store.search_model_versions("name = 'tiny'")) == 1
    assert len(store.search_runs([store.get_experiment_by_name("recognition").experiment_id])) == 1

    assert _recipe_pending(recipe, own, settings) is None
    stricter = world.recipe(gate={"floor": 0.99})
    # another gate decides anew, and trains nothing
    assert _recipe_pending(stricter, own, settings) == "evaluate and promote tiny_tsm"


def test_a_model_that_is_no_better_is_refused_with_its_reason(
    world, own: Layout, settings: Settings
) -> None:
    for seed in (3, 4):
        recipe = world.recipe(gate={"floor": -1.0, "min_gain": 1.0}, training={"seed": seed})
        have_trained(recipe, own)
        train_recipe(recipe, own, settings)
        decision = promote_recipe(recipe, own, settings)
    assert not decision.promoted and decision.version == 2 and decision.champion_version == 1
    assert (
        "is not above the champion's" in decision.reason
        and "(version 1) by 1 on the same 9 clips" in decision.reason
    )
    tags = client(settings.tracking_uri).get_model_version("tiny", "2").tags
    assert tags["gate.decision"] == "refused" and tags["gate.reason"] == decision.reason
    champion = opponent("tiny", settings)
    assert champion is not None and champion.version == 1


def test_a_damaged_checkpoint_stops_the_training_and_fails_its_run(
    world, own: Layout, settings: Settings
) -> None:
    recipe = world.recipe()
    plan = plan_run(recipe, own)
    write_bytes(f"{plan.run_dir}/checkpoint_000001/{FILE}", b"half")
    write_bytes(
        f"{plan.run_dir}/{SNAPSHOT}",
        json.dumps({"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_000001"}]}).encode(),
    )
    with pytest.raises(
        CheckpointError,
        match=f"{plan.run_dir}/checkpoint_000001/{FILE}: damaged.*delete the folder",
    ):
        train_recipe(recipe, own, settings)
    run = find_run(settings, plan.run_key)
    assert run is not None and run.run().info.status == "FAILED"


def test_annotations_are_read_anew_when_their_files_change(own: Layout, world) -> None:
    dataset = configs.dataset("tiny")
    assert _data_pending(dataset, own) == ["bring in videos, frames and annotations"]
    write_table(own.problem_table("tiny"), from_rows([], PROBLEMS))
    # by a version that did not note what it read
    assert _data_pending(dataset, own) == ["read changed annotations"]
    before = sources(dataset, own)
    write_bytes(f"{own.root}/datasets/tiny/labels.txt", b"one\ntwo")
    after = sources(dataset, own)
    assert before != after == sources(dataset, own)
    other = dataset.annotations[0].model_copy(update={"split": "val"})
    assert sources(dataset.model_copy(update={"annotations": (other,)}), own) != after
    with pytest.raises(AnnotationError, match="no video table"):
        annotate_dataset(dataset, own)  # nothing is noted
    assert _data_pending(dataset, own) == ["read changed annotations"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (RuntimeError, "FAILED")],
)
def test_a_training_that_is_stopped_leaves_no_run_that_seems_to_go_on(
    world,
    own: Layout,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    status: str,
) -> None:
    def stops(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ops.training.ray_train.train", stops)
    recipe = world.recipe()
    with pytest.raises(error):
        train_recipe(recipe, own, settings)
    run = find_run(settings, plan_run(recipe, own).run_key)
    assert run is not None and run.run().info.status == status


def test_tables_are_read_three_times_at_most_on_the_whole_way(
    world, own: Layout, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the driver, by the checks before a training, and by the worker, whose part is not seen
    here; the steps after it read nothing.
    """
    recipe, read, read_bytes = world.recipe(gate={"floor": -1.0}), list[str](), tables.read_bytes
    write_table(own.problem_table("tiny"), from_rows([], PROBLEMS))
    result = have_trained(recipe, own)
    record = files.read_bytes(f"{result.run_dir}/{RECORD}")
    files.remove(f"{result.run_dir}/{RECORD}")

    def counted(uri: str) -> bytes:
        read.append(uri)
        return read_bytes(uri)

    def trains(*_: object, **__: object) -> TrainResult:
        write_bytes(f"{result.run_dir}/{RECORD}", record)
        return result

    monkeypatch.setattr(tables, "read_bytes", counted)
    monkeypatch.setattr("ops.training.ray_train.train", trains)
    trained = train_recipe(recipe, own, settings)
    clips = own.annotation_table("tiny", "clips")
    assert trained.trained_now and read.count(clips) == 2 and max(map(read.count, read)) <= 2
    before = list(read)
    evaluate_recipe(recipe, own, settings, prepared=trained.prepared)
    register_recipe(recipe, own, settings, prepared=trained.prepared)
    assert promote_recipe(recipe, own, settings, prepared=trained.prepared).promoted
    assert [uri for uri in read[len(before) :] if "/evaluation/" not in uri] == []
    # another precision of its gate: what was prepared would be scored in the old one
    half = world.recipe(gate={"floor": -1.0, "precision": "bf16"})
    with pytest.raises(ConfigError, match="'prepared': found \"recipe 'tiny_tsm' in .*unchanged"):
        promote_recipe(half, own, settings, prepared=trained.prepared)


def test_the_steps_are_found_in_the_package() -> None:
    import ops.flow

    assert ops.flow.train_recipe is train_recipe and set(ops.flow.__all__) >= {
        "promote_recipe",
        "annotate_dataset",
    }
    with pytest.raises(AttributeError, match="no attribute 'deploy_recipe'"):
        _ = ops.flow.deploy_recipe
