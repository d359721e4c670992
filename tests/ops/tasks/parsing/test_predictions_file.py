"""Prediction files: written in the challenge's form, read back, and refused with the place of what
is wrong.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from ops.annotations.vocabulary import AnnotationError
from ops.tasks.parsing.columns import TrueHumans
from ops.tasks.parsing.metric import ParsingScoreError
from ops.tasks.parsing.predictions_file import (
    predictions,
    read_actions,
    read_parts,
    text_of,
    truth_files,
)

ROW = {
    "video_id": "a/b",
    "frame": 5,
    "scores": np.array([0.91234567]),
    "boxes": np.array([[1.25, 2, 30, 40]]),
    "parts": np.array([[[1, 2, 3, 4], [5, 6, 7, 8.5]]]),
    "states": np.array([[[1, 0], [2, -1]]]),
    "state_scores": np.ones((1, 2, 2)),
}


def test_rows_become_the_challenges_form_and_come_back() -> None:
    found = predictions(["a/b", "c"], [ROW], ("head", "hand"), ("up", "down", "hold"))
    parts = {
        "head": {"box": [[1, 2, 3, 4]] * 2, "verb": ["down", "up"]},
        "hand": {"box": [[5, 6, 7, 8.5]], "verb": ["hold"]},
    }
    assert found == {
        "a/b": {
            "img_00006.json": {
                "humans": [{"box": [1.25, 2, 30, 40], "score": 0.9123, "parts": parts}]
            }
        },
        "c": {},
    }
    assert read_parts(text_of(found), "x.json") == found
    assert read_actions(b'{"a/b": "run"}', "x.json") == {"a/b": "run"}


def test_the_truth_is_written_as_the_evaluator_reads_it() -> None:
    seen, states = np.array([[True, False], [True, True]]), np.array([[0, -1], [1, -1]])
    truth = TrueHumans(
        ["v"],
        ["run"],
        np.zeros(2, int),
        np.array([0, 5]),
        np.array([1, 1]),
        np.ones((2, 4)),
        seen,
        np.ones((2, 2, 4)),
        states,
    )
    found, actions = truth_files(truth, ("head", "hand"), ("up", "down"))
    assert actions == {"v": "run"} and list(found["v"]) == ["img_00001.json", "img_00006.json"]
    assert found["v"]["img_00001.json"]["humans"] == [
        {"box": [1, 1, 1, 1], "parts": {"head": {"box": [1, 1, 1, 1], "verb": "up"}}}
    ]
    # no vocabulary has it, and no answer is right
    assert found["v"]["img_00006.json"]["humans"][0]["parts"]["hand"]["verb"] == "?"


MISTAKES = {
    "no json": (b"{", AnnotationError, r"x\.json:1"),
    "a key twice": (b'{"v": {}, "v": {}}', AnnotationError, "twice: v"),
    "a list": (b"[]", ParsingScoreError, "predicted parts: found"),
    "no humans": (b'{"v": {"f": {}}}', ParsingScoreError, "video 'v', frame 'f', humans"),
    "eleven": (
        json.dumps({"v": {"f": {"humans": [{"box": [0, 0, 1, 1], "parts": {}}] * 11}}}).encode(),
        ParsingScoreError,
        "11 humans",
    ),
    "six": (
        json.dumps(
            {
                "v": {
                    "f": {
                        "humans": [
                            {"box": [0, 0, 1, 1], "parts": {"h": {"box": [], "verb": ["a"] * 6}}}
                        ]
                    }
                }
            }
        ).encode(),
        ParsingScoreError,
        r"humans\[0\], parts\.h, verb.*at most 5",
    ),
}


@pytest.mark.parametrize(("data", "kind", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(data: bytes, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_parts(data, "x.json")


def test_actions_must_be_words() -> None:
    with pytest.raises(AnnotationError, match=r"x\.json: video 'v': found 3"):
        read_actions(b'{"v": 3}', "x.json")
    with pytest.raises(AnnotationError, match="expected: {video: action}"):
        read_actions(b"[1]", "x.json")
