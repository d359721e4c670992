"""The parsing task: what it refuses, what it hands over, that it learns, resumes bit for bit, and
shares a batch among ranks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import parsing_ranks
from configs.schema import ConfigError
from ops.data.errors import DataError
from ops.store.layout import Layout
from ops.tasks.parsing.task import Parsing, build
from ops.training.callbacks import EpochReport
from ops.training.checkpoint import load_state
from ops.training.loop import fit


def task_of(people, layout: Layout, **changes) -> Parsing:
    return build(people.recipe(**changes), layout, people.DATASET)


@pytest.fixture
def copied(stored_people: Layout, tmp_path: Path) -> Layout:
    shutil.copytree(stored_people.root, tmp_path / "store", dirs_exist_ok=True)
    return Layout(str(tmp_path / "store"))


MISTAKES = {
    "states": (
        {"num_classes": 5},
        r"num_classes.*found 5; allowed: 3, the states of people: bend, hold, wave",
    ),
    "parts": (
        {"model": {"num_parts": 4}},
        r"model\.num_parts.*allowed: 3, the parts of people: head, left_hand, right_hand",
    ),
    "accumulation": ({"training": {"accumulate": 2}}, r"training\.accumulate.*found 2; allowed: 1"),
    "sizes": ({"images": {"long_side": 40}}, r"images\.long_side"),
    "weights": (
        {"loss_weights": {"persons": 2.0}},
        r"loss_weights.*found 'persons'; allowed: person, box",
    ),
    "family": ({"family": "detr"}, r"family.*found 'detr'; allowed: apct"),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_wrong_settings_are_named(
    people, stored_people: Layout, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        task_of(people, stored_people, **changes).check()


def test_more_persons_than_queries_and_a_split_without_frames_are_named(
    people, stored_people: Layout, copied: Layout
) -> None:
    with pytest.raises(
        DataError,
        match=r"2 persons in frame 0 of video 'train/1'; allowed: at most 1, model\.queries",
    ):
        task_of(people, stored_people, model={"queries": 1}).check()
    people.change(
        copied,
        lambda rows: [row for row in rows if row["split"] == "train" or row["video_id"] == "val/3"],
    )
    with pytest.raises(DataError, match="split 'val': 1 annotated videos, none with stored frames"):
        task_of(people, copied).check()


def test_the_vocabulary_is_frozen_with_the_data(
    people, stored_people: Layout, copied: Layout
) -> None:
    task = task_of(people, stored_people)
    words = task.vocabulary()
    assert words["labels"] == words["states"] == ["bend", "hold", "wave"] and words[
        "parts"
    ] == list(people.PARTS_OF)
    assert "head/bend" in words["pairs"] and len(words["pairs"]) == 9
    assert task.coverage()["train_usable"] == 8 and task.coverage()["val_annotated"] == 4
    before = task.data_version()
    assert task_of(people, copied).data_version() == before
    people.change(
        copied,
        lambda rows: [
            {**row, "state": "wave"} if row["video_id"] == "train/2" else row for row in rows
        ],
    )
    assert task_of(people, copied).data_version() != before


def test_a_batch_pads_what_differs_and_says_so(people, stored_people: Layout) -> None:
    task = task_of(people, stored_people)
    samples = task.samples("train", "validate")
    items = [samples[0], samples[3]]
    items[0]["pixels"] = np.ascontiguousarray(items[0]["pixels"][:, :32, :40])
    batch = task.collate(items)
    assert batch["images"].shape == (2, 3, 48, 64) and batch["padding"].dtype == torch.bool
    assert (
        not batch["padding"][1].any()
        and batch["padding"][0, 32:].all()
        and batch["padding"][0, :, 40:].all()
    )
    assert not batch["padding"][0, :32, :40].any() and batch["images"][0, :, 32:].abs().max() == 0
    assert [len(one[0]) for one in batch["people"]] == [1, 2] and batch["sizes"].tolist() == [
        [48, 64]
    ] * 2


def test_predictions_are_what_the_metric_takes(people, stored_people: Layout) -> None:
    task = task_of(people, stored_people, answers={"persons": 2, "proposals": 2})
    torch.manual_seed(0)
    model = task.model().eval()
    samples = task.samples("val", "validate")
    with torch.inference_mode():
        rows = task.predict(model, task.collate([samples[index] for index in range(len(samples))]))
    assert (
        len(rows) == 9
        and rows[0]["boxes"].shape == (2, 4)
        and rows[0]["parts"].shape == (2, 3, 4)
        and rows[0]["states"].shape == (2, 3, 2)
    )
    assert (
        np.array_equal(rows[0]["boxes"], rows[0]["boxes"].round(2)) and rows[0]["boxes"].max() <= 64
    )
    metric = task.metric("val")
    metric.update(rows[:-1])
    numbers = metric.compute()
    assert {"acc_p", "psc", "person_ap50", "part_ap50", "state_accuracy"} <= set(
        numbers
    ) and numbers["action_accuracy"] == 1


def test_a_part_has_only_states_that_training_knows(people, copied: Layout) -> None:
    people.change(
        copied,
        lambda rows: [{**row, "state": "hold"} if row["part"] == "head" else row for row in rows],
    )
    task = task_of(people, copied)
    torch.manual_seed(0)
    with torch.inference_mode():
        rows = task.predict(task.model().eval(), task.collate([task.samples("val", "validate")[0]]))
    assert {people.STATES[state] for state in rows[0]["states"][:, 0, 0]} == {"hold"}


def test_persons_without_parts_and_frames_without_persons_have_losses(
    people, copied: Layout
) -> None:
    def edit(rows: list[dict]) -> list[dict]:
        gone = {"part": None, "state": None, **dict.fromkeys(("x1", "y1", "x2", "y2"))}
        return [
            {**row, **gone} if row["part"] == "head" else row
            for row in rows
            if row["part"] == "head" or row["video_id"] != "train/0"
        ]

    people.change(copied, edit)
    task = task_of(
        people, copied, parts=["head", "left_hand", "right_hand"], states=["bend", "hold", "wave"]
    )
    model = task.model()
    batch = task.collate([task.samples("train", "validate")[index] for index in (0, 1)])
    for people_of_image in (
        batch["people"],
        [[column[:0] for column in one] for one in batch["people"]],
    ):
        losses = task.losses(model, {**batch, "people": people_of_image})
        assert torch.isfinite(losses["loss"]) and losses["part"] == 0
        losses["loss"].backward()


def test_a_killed_training_resumes_bit_for_bit(
    people, stored_people: Layout, tmp_path: Path
) -> None:
    def run(start=None, on_epoch=None):
        task = task_of(
            people,
            stored_people,
            images={"short_sides": [40, 48], "brightness": 0.2},
            training={"epochs": 2},
        )
        return fit(task, task.recipe.scale, start=start, on_epoch=on_epoch)

    class Killed(Exception):
        pass

    def kill(report: EpochReport, save) -> None:
        save(tmp_path)
        raise Killed

    whole = run()
    with pytest.raises(Killed):
        run(on_epoch=kill)
    resumed = run(
        load_state(
            tmp_path,
            people.recipe(
                images={"short_sides": [40, 48], "brightness": 0.2}, training={"epochs": 2}
            ).key(),
        )
    )
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    drop = ("seconds", "samples_per_s", "data_wait_share")
    assert [
        {key: value for key, value in row.items() if key not in drop} for row in whole.history
    ] == [{key: value for key, value in row.items() if key not in drop} for row in resumed.history]


def test_two_ranks_are_one_with_the_double_batch(stored_people: Layout, tmp_path: Path) -> None:
    shutil.copytree(stored_people.root, tmp_path / "store")
    command = [sys.executable, parsing_ranks.__file__, str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    others = [subprocess.Popen([*command, str(rank), "2"], env=env) for rank in range(2)]
    alone = parsing_ranks.train(stored_people.root, 0, 1)
    assert [other.wait(timeout=200) for other in others] == [0, 0]
    for rank in range(2):
        both = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(both["losses"], alone["losses"], rtol=1e-4, atol=1e-5)
        for name, tensor in alone.items():
            # A softmax does not see the bias of its keys: that gradient is rounding alone, which
            # Adam makes as large as any other.
            one, other = (
                _without_keys(weights) if name.endswith("in_proj_bias") else weights
                for weights in (both[name], tensor)
            )
            torch.testing.assert_close(
                one, other, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


def _without_keys(bias: torch.Tensor) -> torch.Tensor:
    queries, _, values = bias.chunk(3)
    return torch.cat([queries, values])


@pytest.mark.slow
def test_it_learns_where_the_hands_are_and_their_colours(people, stored_people: Layout) -> None:
    changes = {
        "training": {"epochs": 60, "evaluate_every": 60, "batch_size": 8},
        "frames": {"per_video": 6},
        "optimizer": {"lr": 2e-3},
    }
    task = task_of(people, stored_people, **changes)
    state = fit(task, task.recipe.scale)
    first, last = state.history[0], state.history[-1]
    assert last["loss"] < 0.4 * first["loss"] and last["persons_found"] > 0.5
