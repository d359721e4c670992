"""Accuracy per label and of labels that differ only in the order of time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from configs.schema import ConfigError
from ops.annotations.time_order import PAIRS_FILE, read_pairs
from ops.files.storage import remove, write_bytes
from ops.tasks.recognition.scores import class_accuracy, scores_of

LABELS = ["sit_down", "stand_up", "wave"]


def test_pairs_are_scored_between_all_labels_and_between_the_two() -> None:
    true = np.array([0, 0, 1, 1, 2])
    scores = np.array([[3, 1, 0], [2, 1, 5], [1, 2, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    found = scores_of(scores, true, LABELS, [("sit_down", "stand_up")])
    # clip 2 loses to 'wave' but keeps its order; clip 4 is a tie between the two, and argmax takes
    # the first
    assert found["pair_top1"] == found["pair_top1/sit_down__stand_up"] == 2 / 4
    assert found["pair_order"] == (1 + 1 + 1 + 0.5) / 4
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["top5"] == 1.0


def test_a_model_blind_to_time_gets_one_half() -> None:
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(size=(50, 1)), 3, axis=1)
    true = rng.integers(0, 2, 50)
    assert scores_of(scores, true, LABELS, [("sit_down", "stand_up")])["pair_order"] == 0.5


def test_without_clips_of_a_pair_there_is_no_number_for_it() -> None:
    found = scores_of(
        np.eye(3, dtype=np.float32)[[2]], np.array([2]), LABELS, [("sit_down", "stand_up")]
    )
    assert not [name for name in found if name.startswith("pair")]


def test_class_accuracy_leaves_out_labels_without_clips() -> None:
    accuracy, clips = class_accuracy(np.eye(3)[[0, 1, 1]], np.array([0, 0, 1]), LABELS)
    assert accuracy == {"sit_down": 0.5, "stand_up": 1.0} and clips == {
        "sit_down": 2,
        "stand_up": 1,
    }


def test_the_pairs_file_is_optional_and_checked(discs) -> None:
    uri = f"{discs.layout.dataset_root(discs.dataset)}/{PAIRS_FILE}"
    assert read_pairs(discs.layout, discs.dataset, ["grow", "shrink"]) == [("grow", "shrink")]
    for wrong in ([["grow", "fly"]], [["grow"]], [["grow", "grow"]], {"grow": "shrink"}, ["ab"]):
        write_bytes(uri, json.dumps(wrong).encode())
        with pytest.raises(ConfigError, match="time_order_pairs.json"):
            read_pairs(discs.layout, discs.dataset, ["grow", "shrink"])
    write_bytes(uri, b"[")
    with pytest.raises(ConfigError, match="JSON"):
        read_pairs(discs.layout, discs.dataset, ["grow", "shrink"])
    remove(uri)
    assert read_pairs(discs.layout, discs.dataset, ["grow", "shrink"]) == []
