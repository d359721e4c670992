"""A champion is scored by what it was trained with: labels that move, come, go or change their
names, other frames, other questions.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save as to_safetensors

import configs
import models
from configs import Settings
from configs.schema import RecognitionRecipe
from ops.files.storage import write_bytes
from ops.flow.recipe import evaluate_recipe, promote_recipe, train_recipe
from ops.store.layout import Layout
from ops.store.tables import CLIPS, MANIFEST, from_rows, read_table, write_table
from ops.tracking.connect import client
from ops.tracking.registry import Decision, GateError, reset_champion
from ops.training.run_folder import WEIGHTS, TrainResult, finish, plan_run
from ops.training.task import build

VAL = {"right": 3, "left": 2, "still": 1}  # a model that says 'right' to all gets 1/2


def relabel(
    layout: Layout,
    labels: Sequence[str],
    renamed: dict[str, str] | None = None,
    moved: dict[str, str] | None = None,
) -> None:
    """Today's labels, in this order; some have other names, and the clips of a dropped one are
    gone. `moved` gives clips other labels.
    """
    uri, kept, counts = layout.annotation_table("tiny", "clips"), [], dict[str, int]()
    for row in read_table(uri).to_pylist():
        label = (moved or {}).get(row["clip_id"], row["label"])
        label = (renamed or {}).get(label, label)
        counts[label] = counts.get(label, 0) + (row["split"] == "val")
        if label in labels and (
            row["split"] == "train" or counts[label] <= VAL.get(row["label"], 3)
        ):
            kept.append({**row, "label": label, "label_id": labels.index(label)})
    write_table(uri, from_rows(kept, CLIPS))
    write_bytes(
        f"{layout.dataset_root(configs.dataset('tiny'))}/labels.txt", "\n".join(labels).encode()
    )


def says(recipe: RecognitionRecipe, layout: Layout, settings: Settings, label: str) -> Decision:
    """The gate's decision on a trained model that says this label to every clip."""
    vocabulary, plan = build(recipe, layout).vocabulary(), plan_run(recipe, layout)
    torch.manual_seed(recipe.training.seed)
    weights = {
        name: tensor.contiguous() for name, tensor in models.build(recipe).state_dict().items()
    }
    weights["fc.bias"][vocabulary["labels"].index(label)] = 100.0
    write_bytes(f"{plan.run_dir}/{WEIGHTS}", to_safetensors(weights))
    result = TrainResult(
        plan.run_dir,
        plan.run_key,
        f"{plan.run_dir}/{WEIGHTS}",
        None,
        plan.data_version,
        {"top1": 0.3},
        3,
        1.0,
    )
    finish(result, recipe, vocabulary, build(recipe, layout).provenance())
    train_recipe(recipe, layout, settings)
    return promote_recipe(recipe, layout, settings)


@pytest.fixture
def champion(world, own: Layout, settings: Settings, plain: None):
    """A store whose champion, version 1, is right for half of the clips."""
    relabel(own, world.LABELS)
    first = says(recipe(world), own, settings, "right")
    assert first.promoted and first.challenger == pytest.approx(1 / 2)
    return own


def recipe(world, num_classes: int = 3, **training: object) -> RecognitionRecipe:
    transforms = {"flip": 0.0, "flip_labels": {}}
    return world.recipe(
        num_classes=num_classes,
        transforms=transforms,
        gate={"floor": -1.0},
        training={"seed": num_classes, **training},
    )


def test_labels_in_another_order_leave_the_champion_where_it_was(
    world, champion: Layout, settings: Settings
) -> None:
    relabel(champion, ["still", "right", "left"])
    decision = says(recipe(world), champion, settings, "left")
    assert not decision.promoted and decision.compared is None
    assert decision.champion == pytest.approx(1 / 2) and decision.challenger == pytest.approx(1 / 3)
    assert decision.reason.endswith("the champion's 0.5 (version 1) on the same 6 clips")


def test_a_new_name_is_a_label_that_the_champion_does_not_know(
    world, champion: Layout, settings: Settings
) -> None:
    relabel(champion, ["calm", "left", "right"], renamed={"still": "calm"})
    decision = says(recipe(world), champion, settings, "left")
    assert not decision.promoted and (decision.champion, decision.compared) == (
        pytest.approx(3 / 5),
        pytest.approx(2 / 5),
    )
    assert decision.challenger == pytest.approx(2 / 6)  # its own score is that of the whole set
    assert decision.reason.endswith(
        "on the same 5 clips, the 2 labels that both know (new: calm; gone: still)"
    )
    tags = client(settings.tracking_uri).get_model_version("tiny", "2").tags
    assert tags["gate.compared"] == repr(decision.compared) and tags["gate.challenger"] == repr(
        decision.challenger
    )


def test_a_label_more_and_a_label_less_are_scored_on_what_both_know(
    world, champion: Layout, settings: Settings
) -> None:
    relabel(champion, ["left", "up", "right", "still"], moved={"clip-val/004": "up"})
    more = says(recipe(world, num_classes=4), champion, settings, "up")
    assert (
        not more.promoted and more.champion == pytest.approx(3 / 5) and "(new: up)" in more.reason
    )
    relabel(champion, ["left", "right"])
    less = says(recipe(world, num_classes=2), champion, settings, "right")
    assert (
        less.champion == less.compared
        and not less.promoted
        and "the 2 labels that both know (gone: still)" in less.reason
    )
    better = says(recipe(world, num_classes=2, epochs=9), champion, settings, "left")
    assert not better.promoted and better.compared < better.champion


def test_nothing_in_common_and_other_frames_are_refused_with_the_way_on(
    world, champion: Layout, settings: Settings, tmp_path: Path
) -> None:
    renamed = {"still": "a", "left": "b", "right": "c"}
    relabel(champion, ["a", "b", "c"], renamed=renamed)
    with pytest.raises(
        GateError,
        match=(
            r"version 1 cannot be compared: it knows 0 of the 3 labels of today .*--reset-champion"
        ),
    ):
        says(recipe(world), champion, settings, "a")
    relabel(
        champion, ["right", "left", "still"], renamed={new: old for old, new in renamed.items()}
    )
    path = tmp_path / "configs" / "datasets" / "tiny.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**values, "frames": {**values["frames"], "short_side": 16}}))
    layout = Layout(champion.root)
    frames_of_today(world, layout)
    with pytest.raises(
        GateError,
        match=(
            "trained on frames as they come, and those of dataset tiny are with a short side of 16"
        ),
    ):
        says(recipe(world), layout, settings, "left")
    reset_champion("tiny", settings)
    decision = promote_recipe(recipe(world), layout, settings)
    assert decision.promoted and decision.reason.endswith(
        "the champion before it (version 1) was set aside on request"
    )
    assert promote_recipe(recipe(world), layout, settings).reused


def frames_of_today(world, layout: Layout) -> None:
    """The frames of before under the key of the frames of today: what they show does not matter
    here.
    """
    before, now = world.DATASET.frames.key(), configs.dataset("tiny").frames.key()
    shutil.copytree(f"{layout.root}/frames/tiny/{before}", f"{layout.root}/frames/tiny/{now}")
    for bucket in range(2):
        uri = layout.manifest("tiny", now, bucket)
        before_now = read_table(uri).to_pylist()
        rows = [
            {**row, "key": f"{row['key']}{now}", "array_uri": row["array_uri"].replace(before, now)}
            for row in before_now
        ]
        write_table(uri, from_rows(rows, MANIFEST))


def test_a_version_of_another_task_or_of_nobody_is_no_opponent(
    world, champion: Layout, settings: Settings
) -> None:
    store = client(settings.tracking_uri)
    other = store.create_model_version("tiny", f"{settings.storage}/other")
    store.set_registered_model_alias("tiny", "champion", other.version)
    with pytest.raises(
        GateError, match="version 2 was not registered by this project.*--reset-champion"
    ):
        says(recipe(world, epochs=5), champion, settings, "left")


def test_the_evaluation_of_the_challenger_is_kept_as_it_was(
    world, champion: Layout, settings: Settings
) -> None:
    relabel(champion, ["calm", "left", "right"], renamed={"still": "calm"})
    says(recipe(world), champion, settings, "left")
    found = evaluate_recipe(recipe(world), champion, settings)
    assert found.num_samples == 6 and found.metrics["top1"] == pytest.approx(1 / 3)
