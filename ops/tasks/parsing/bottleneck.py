"""Where a parser loses: Acc^p with the truth put in place of one stage after another, as table 1 of
the APCT report has it.

`kinograph bottleneck TRUTH_FOLDER PREDICTION_FOLDER` prints it.

The folders hold the challenge's files: gt_part_result.json and gt_vid_result.json,
pred_part_result.json and pred_vid_result.json; an evaluation of ours writes all four into its own
folder.

- persons: every true person is found, at its true box. What was said of its parts is what the
  prediction said that is taken for it (one to one at the largest total IoU, as far as boxes meet at
  all); of a person that nobody saw nothing is known.
- part boxes: every part of a person that is found has its true box.
- states: every part that is there has one proposal, its first box with the true state; a part that
  was not predicted is there when its box is given too.
- action: the video's true one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ops.files.storage import read_bytes, read_json
from ops.tasks.parsing.human_matching import match
from ops.tasks.parsing.metric import HUMAN_IOU, MAX_HUMANS, Videos, check_truth, parsing_scores
from ops.tasks.parsing.predictions_file import (
    ACTIONS_FILE,
    PARTS_FILE,
    TRUE_ACTIONS_FILE,
    TRUE_PARTS_FILE,
    read_actions,
    read_parts,
)

STAGES = ("persons", "part boxes", "states", "action")


class Given(NamedTuple):
    """Which stages are replaced by the truth."""

    persons: bool = False
    boxes: bool = False
    states: bool = False
    action: bool = False


TABLE = tuple(
    Given(*(mark == "x" for mark in row))
    for row in (
        "....",
        "x...",
        ".x..",
        ".xx.",
        "...x",
        "..x.",
        "xx..",
        "xxx.",
        "x..x",
        ".xxx",
        "xxxx",
    )
)
"""The rows of the table, in its order; its columns are STAGES."""


def bottleneck(
    truth: Videos,
    actions: Mapping[str, str],
    found: Videos,
    found_actions: Mapping[str, str],
    table: Sequence[Given] = TABLE,
) -> list[tuple[Given, float]]:
    """Acc^p for each row of the table.

    Args:
        truth: parts of every video, in the challenge's form.
        actions: the true one by video.
        found: predicted parts, in the same form.
        found_actions: the predicted one by video.
        table: what is given of the truth, row by row.

    Raises:
        ParsingScoreError: truth and predictions cannot be scored.
    """
    rows, known = [], dict[Given, Videos]()
    parsing_scores(truth, actions, found, found_actions)  # says what is wrong with the files
    paired = {near: pairs_of(truth, found, near) for near in (0.0, HUMAN_IOU)}
    for given in table:
        frames = given._replace(action=False)
        if frames not in known:
            known[frames] = (
                found if frames == Given() else replaced(truth, found, given, paired[_near(given)])
            )
        said = actions if given.action else found_actions
        rows.append((given, parsing_scores(truth, actions, known[frames], said).acc_p))
    return rows


def _near(given: Given) -> float:
    return 0.0 if given.persons else HUMAN_IOU


def pairs_of(truth: Videos, found: Videos, near: float) -> dict[tuple[str, str], dict[int, int]]:
    """The true person's place -> the predicted one's that is taken for it, by video and frame; only
    IoUs above `near` count.
    """
    shared = [
        (video, name)
        for video, frames in truth.items()
        for name in frames
        if name in found.get(video, {})
    ]
    people = [
        [source[video][name]["humans"] for video, name in shared] for source in (truth, found)
    ]
    counts = [np.array([len(humans) for humans in side], np.int64) for side in people]
    boxes = [
        np.array([human["box"] for humans in side for human in humans], np.float32)
        for side in people
    ]
    pairs = match(counts[0], boxes[0], counts[1], boxes[1], near)
    ends = [np.cumsum(own) for own in counts]
    frames = np.searchsorted(ends[0], pairs.truth, side="right")
    starts = [(end - own)[frames] for end, own in zip(ends, counts, strict=True)]
    places = zip(
        frames.tolist(),
        (pairs.truth - starts[0]).tolist(),
        (pairs.found - starts[1]).tolist(),
        strict=True,
    )
    result: dict[tuple[str, str], dict[int, int]] = {}
    for frame, one, other in places:
        result.setdefault(shared[frame], {})[one] = other
    return result


def replaced(
    truth: Videos,
    found: Videos,
    given: Given,
    pairs: Mapping[tuple[str, str], Mapping[int, int]] | None = None,
) -> Videos:
    """The predictions with the truth in place of what is given, for the truth's frames.

    Args:
        truth: parts of every video, in the challenge's form.
        found: predicted parts, in the same form.
        given: what is taken from the truth.
        pairs: what `pairs_of` says of both; None asks it now.
    """
    pairs = pairs_of(truth, found, _near(given)) if pairs is None else pairs
    result: dict[str, dict[str, Any]] = {}
    for video, frames in truth.items():
        own = result[video] = {}
        for name, frame in frames.items():
            if name in found.get(video, {}):
                own[name] = {
                    "humans": _frame(
                        frame["humans"],
                        found[video][name]["humans"],
                        given,
                        pairs.get((video, name), {}),
                    )
                }
            elif given.persons:
                own[name] = {"humans": _frame(frame["humans"], [], given, {})}
    return result


def _frame(
    humans: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    given: Given,
    pairs: Mapping[int, int],
) -> list[dict[str, Any]]:
    taken = {other: human for human, other in pairs.items()}
    kept: list[tuple[Any, int | None, Mapping[str, Any]]]
    if given.persons:
        kept = [
            (human["box"], number, others[pairs[number]] if number in pairs else {"parts": {}})
            for number, human in enumerate(humans)
        ]
        kept = kept[:MAX_HUMANS]
    else:
        kept = [(other["box"], taken.get(place), other) for place, other in enumerate(others)]
    return [
        {
            "box": box,
            "parts": (
                other["parts"]
                if own is None
                else _parts(humans[own]["parts"], other["parts"], given)
            ),
        }
        for box, own, other in kept
    ]


def _parts(true: Mapping[str, Any], found: Mapping[str, Any], given: Given) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, part in true.items():
        own = found.get(name) or {"box": [], "verb": []}
        boxes, states = own["box"], own["verb"]
        if given.boxes:
            boxes = [part["box"]] * (1 if given.states else len(states))
        if given.states:
            boxes, states = boxes[:1], [part["verb"]] * len(boxes[:1])
        result[name] = {"box": boxes, "verb": states}
    return result


def lines(rows: Sequence[tuple[Given, float]]) -> list[str]:
    """The table in words."""
    head = "".join(f"{stage:>12}" for stage in STAGES) + f"{'Acc^p':>10}"
    return [
        head,
        *(
            "".join(f"{'true' if mark else '-':>12}" for mark in given) + f"{score:>10.2%}"
            for given, score in rows
        ),
    ]


def bottleneck_of(truth: str, predictions: str) -> list[tuple[Given, float]]:
    """The table for the files of two folders or URIs.

    Args:
        truth: has gt_part_result.json and gt_vid_result.json.
        predictions: has pred_part_result.json and pred_vid_result.json.

    Raises:
        AnnotationError: a file is damaged.
        ParsingScoreError: files have another form, or cannot be scored.
        StorageError: a store does not answer.
        FileNotFoundError: a file is missing.
    """

    def read(reader: Any, uri: str) -> Any:
        return reader(read_bytes(uri), uri)

    true = read_json(f"{truth}/{TRUE_PARTS_FILE}")
    check_truth(true)
    return bottleneck(
        true,
        read(read_actions, f"{truth}/{TRUE_ACTIONS_FILE}"),
        read(read_parts, f"{predictions}/{PARTS_FILE}"),
        read(read_actions, f"{predictions}/{ACTIONS_FILE}"),
    )
