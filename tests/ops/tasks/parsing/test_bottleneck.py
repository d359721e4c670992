"""The truth in place of one stage after another: what each replacement must and must not repair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops.tasks.parsing.bottleneck import TABLE, Given, bottleneck
from ops.tasks.parsing.metric import parsing_scores
from ops.tasks.parsing.predictions_file import (
    ACTIONS_FILE,
    PARTS_FILE,
    TRUE_ACTIONS_FILE,
    TRUE_PARTS_FILE,
)

PERSON, HEAD, HAND, FAR = [0, 0, 99, 199], [40, 0, 59, 19], [0, 90, 14, 104], [300, 300, 310, 310]


def frame(*humans: tuple[list[int], dict[str, Any]]) -> dict[str, Any]:
    return {"img_00001.json": {"humans": [{"box": box, "parts": parts} for box, parts in humans]}}


def true(**states: str) -> dict[str, Any]:
    return {
        name: {"box": {"head": HEAD, "hand": HAND}[name], "verb": state}
        for name, state in states.items()
    }


def said(box: list[int], *states: str) -> dict[str, Any]:
    return {"box": [box] * len(states), "verb": list(states)}


# One video for each way to lose: nothing, the person, a part's box, a state, the action, a part
# that was not predicted.
TRUTH = {
    name: frame((PERSON, true(head="up", hand="hold")))
    for name in ("right", "person", "box", "state", "action", "absent")
}
ACTIONS = dict.fromkeys(TRUTH, "run")
WELL = {"head": said(HEAD, "up"), "hand": said(HAND, "hold")}
FOUND = {
    "right": frame((PERSON, WELL)),
    "person": frame(([0, 0, 99, 80], WELL)),  # overlaps the person, and too little
    "box": frame((PERSON, {"head": said(FAR, "up"), "hand": said(FAR, "hold")})),
    "state": frame((PERSON, {"head": said(HEAD, "down"), "hand": said(HAND, "wave")})),
    "action": frame((PERSON, WELL)),
    "absent": frame((PERSON, {})),
}
SAID = {**ACTIONS, "action": "walk"}
FULL = 0.9999


def share(given: Given) -> float:
    (row,) = bottleneck(TRUTH, ACTIONS, FOUND, SAID, [given])
    return row[1] * 6 / FULL


REPAIRED = {
    Given(): 1,
    Given(persons=True): 2,
    Given(boxes=True): 2,
    Given(states=True): 2,
    Given(action=True): 2,
    Given(boxes=True, states=True): 4,
    Given(True, True, True): 5,
    Given(False, True, True, True): 5,
    Given(True, True, True, True): 6,
}


@pytest.mark.parametrize(
    ("given", "videos"), REPAIRED.items(), ids=[str(tuple(given)) for given in REPAIRED]
)
def test_a_replacement_repairs_its_own_stage(given: Given, videos: int) -> None:
    assert share(given) == pytest.approx(videos)


def test_the_table_is_that_of_the_report_and_begins_with_the_model_itself() -> None:
    rows = bottleneck(TRUTH, ACTIONS, FOUND, SAID)
    assert len(rows) == 11 and [row[0] for row in rows] == list(TABLE)
    assert rows[0][1] == parsing_scores(TRUTH, ACTIONS, FOUND, SAID).acc_p and rows[-1][
        1
    ] == pytest.approx(FULL)


def test_a_person_that_nobody_saw_is_there_with_all_of_the_truth_alone() -> None:
    nobody = {name: frame() for name in TRUTH}
    rows = dict(bottleneck(TRUTH, ACTIONS, nobody, ACTIONS))
    assert rows[Given(persons=True)] == 0 and rows[Given(boxes=True, states=True)] == 0
    assert rows[Given(True, True, True)] == pytest.approx(FULL)
    missing: dict[str, Any] = {name: {} for name in TRUTH}
    assert dict(bottleneck(TRUTH, ACTIONS, missing, ACTIONS))[
        Given(True, True, True)
    ] == pytest.approx(FULL)


def test_the_command_prints_the_table_or_says_what_is_wrong(
    tmp_path: Path, command, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        TRUE_PARTS_FILE: TRUTH,
        TRUE_ACTIONS_FILE: ACTIONS,
        PARTS_FILE: FOUND,
        ACTIONS_FILE: SAID,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert command("bottleneck", str(tmp_path), str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 12
        and lines[1].split() == ["-", "-", "-", "-", "16.66%"]
        and lines[-1].split()[-1] == "99.99%"
    )
    assert (
        command("bottleneck", str(tmp_path), str(tmp_path / "none")) == 1
        and "no such file" in capsys.readouterr().err
    )
    # of a video that no action is asked of, too
    (tmp_path / TRUE_PARTS_FILE).write_text(json.dumps({**TRUTH, "more": {"f": {"humans": 3}}}))
    assert command("bottleneck", str(tmp_path), str(tmp_path)) == 1
    assert "true parts, video 'more', frame 'f', humans: found 3" in capsys.readouterr().err
    (tmp_path / TRUE_PARTS_FILE).write_text(json.dumps(TRUTH))
    (tmp_path / ACTIONS_FILE).write_text('{"right": 1}')
    assert (
        command("bottleneck", str(tmp_path), str(tmp_path)) == 1
        and "video 'right'" in capsys.readouterr().err
    )
