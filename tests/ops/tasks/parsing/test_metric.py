"""Acc^p against the answers of the official evaluator, in both forms, and against cases whose
answer is known.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from ops.tasks.parsing.box_ap import BoxScores
from ops.tasks.parsing.columns import ParsingMetric, TrueHumans, column_psc, found_humans, part_hits
from ops.tasks.parsing.human_matching import match
from ops.tasks.parsing.metric import (
    ParsingScoreError,
    ParsingScores,
    check_predictions,
    parsing_scores,
)

CASES = ("boundaries", "easy", "no_predictions_empty_frames", "perfect")


def files(folder: Path) -> tuple[Any, Any, Any, Any]:
    names = ("gt_part_result", "gt_vid_result", "pred_part_result", "pred_vid_result")
    return tuple(json.loads((folder / f"{name}.json").read_text()) for name in names)  # type: ignore[return-value]


@pytest.mark.parametrize("case", CASES)
def test_the_official_evaluators_answers(shared: Path, case: str) -> None:
    folder = shared / "metrics" / "tps" / case
    data, expected = files(folder), json.loads((folder / "expected.json").read_text())
    scores = parsing_scores(*data)
    official = expected["official"]
    for video, own in official["videos"].items():
        assert scores.psc[video] == pytest.approx(own["psc"], abs=1e-12) and scores.right[
            video
        ] == bool(own["video_correct"])
    for threshold, share in official["acc_at_t"].items():
        assert scores.accuracy([float(threshold)])[0] == pytest.approx(share, abs=1e-12)
    assert scores.acc_p == pytest.approx(official["acc_p_area"], abs=1e-9)
    for point in expected["grid"]:
        own = parsing_scores(*data, human_iou=point["human_iou"], part_iou=point["part_iou"])
        assert own.acc_p == pytest.approx(point["acc_p_area"], abs=1e-9)


def test_where_the_original_crashes_there_is_an_error_that_says_why(shared: Path) -> None:
    message = (
        r"predicted parts, video 'v', frame 'img_00001\.json', humans\[0\], box: found None;"
        r" allowed: four finite numbers"
    )
    with pytest.raises(ParsingScoreError, match=message):
        parsing_scores(*files(shared / "metrics" / "tps" / "malformed_human_without_box"))


def human(box: Any = (0, 0, 99, 99), **parts: Any) -> dict[str, Any]:
    return {
        "box": list(box),
        "parts": {name: {"box": box, "verb": verb} for name, (box, verb) in parts.items()},
    }


def case(true: list[Any], found: list[Any]) -> tuple[Any, Any, Any, Any]:
    return (
        {"v": {"img_00001.json": {"humans": true}}},
        {"v": "run"},
        {"v": {"img_00001.json": {"humans": found}}},
        {"v": "run"},
    )


BOX = [0, 0, 9, 9]
MISTAKES = {
    "eleven humans": (
        [human(head=(BOX, "up"))],
        [human(head=([BOX], ["up"]))] * 11,
        "found '11 humans'; allowed: at most 10",
    ),
    "six proposals": (
        [human(head=(BOX, "up"))],
        [human(head=([BOX] * 6, ["up"] * 6))],
        r"parts\.head, verb.*at most 5 names",
    ),
    "a state that is no list": (
        [human(head=(BOX, "up"))],
        [human(head=(BOX, "up"))],
        r"parts\.head, verb: found 'up'",
    ),
    "more boxes than states": (
        [human(head=(BOX, "up"))],
        [human(head=([BOX, BOX], ["on"]))],
        "one for each of the 1 states",
    ),
    "a box of three": (
        [human(head=(BOX, "up"))],
        [human(head=([[0, 0, 9]], ["up"]))],
        r"box\[0\].*four finite numbers",
    ),
    "a person that is not finite": (
        [human(head=(BOX, "up"))],
        [human((0, 0, float("nan"), 9))],
        r"humans\[0\], box",
    ),
    "a human without parts": (
        [human(head=(BOX, "up"))],
        [{"box": [0, 0, 99, 99]}],
        r"humans\[0\], parts: found None",
    ),
}


@pytest.mark.parametrize(("true", "found", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(true: list[Any], found: list[Any], message: str) -> None:
    with pytest.raises(ParsingScoreError, match=message):
        parsing_scores(*case(true, found))


def test_videos_that_are_missing_are_named() -> None:
    truth, actions, found, said = case([human(head=(BOX, "up"))], [])
    with pytest.raises(ParsingScoreError, match="predicted actions, video 'v'"):
        parsing_scores(truth, actions, found, {})
    with pytest.raises(ParsingScoreError, match="predicted parts, video 'v'"):
        parsing_scores(truth, actions, {}, said)
    with pytest.raises(ParsingScoreError, match="true parts, video 'v'"):
        parsing_scores({}, actions, found, said)
    with pytest.raises(ParsingScoreError, match="no video"):
        parsing_scores(truth, {}, found, said)


def test_what_is_not_scored_is_not_checked_there_but_in_a_file_it_is() -> None:
    truth, actions, found, said = case(
        [human(head=(BOX, "up"))],
        [human(head=([BOX], ["up"])), human((500, 500, 600, 600), head=([BOX] * 9, ["up"] * 9))],
    )
    assert parsing_scores(truth, actions, found, said).acc_p == pytest.approx(0.9999)
    with pytest.raises(ParsingScoreError, match=r"humans\[1\], parts\.head, verb"):
        check_predictions(found)


def test_two_persons_at_one_place_are_told_apart_as_scipy_does() -> None:
    twice = [human(head=([BOX], ["up"])), human(head=([BOX], ["down"]))]
    assert parsing_scores(*case([human(head=(BOX, "up"))], twice)).psc == {"v": 1.0}
    assert parsing_scores(*case([human(head=(BOX, "up"))], twice[::-1])).psc == {"v": 0.0}


def test_fast_matching_is_the_search() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        counts = rng.integers(0, 5, (2, 3))
        corners = [rng.integers(0, 40, (int(own.sum()), 2)) for own in counts]
        boxes = [
            np.concatenate([low, low + rng.integers(10, 40, low.shape)], 1).astype(float)
            for low in corners
        ]
        pairs = match(counts[0], boxes[0], counts[1], boxes[1], 0.1)
        from ops.tasks.parsing.human_matching import pixel_ious

        expected = []
        for frame in range(3):
            first, second = counts[0][:frame].sum(), counts[1][:frame].sum()
            ious = pixel_ious(
                boxes[0][first : first + counts[0][frame], None].astype(np.float32),
                boxes[1][None, second : second + counts[1][frame]].astype(np.float32),
            )
            padded = np.zeros((max(ious.shape, default=0),) * 2)
            padded[: ious.shape[0], : ious.shape[1]] = ious
            rows, columns = linear_sum_assignment(1 - padded)
            expected += [
                (first + r, second + c)
                for r, c in zip(rows, columns, strict=True)
                if r < ious.shape[0] and c < ious.shape[1] and ious[r, c] > 0.1
            ]
        assert list(zip(pairs.truth, pairs.found, strict=True)) == expected


# --------------------------------------------------------------------------------------------------
# columns


def as_columns(
    data: tuple[Any, Any, Any, Any],
) -> tuple[TrueHumans, list[dict[str, Any]], list[str]]:
    """Challenge files whose proposals of a part share a box, as arrays."""
    truth, actions, found, _ = data
    parts = sorted(
        {
            part
            for own in truth.values()
            for frame in own.values()
            for one in frame["humans"]
            for part in one["parts"]
        }
    )
    states: list[str] = []

    def number(state: str) -> int:
        if state not in states:
            states.append(state)
        return states.index(state)

    videos = list(truth)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("video", "frame", "counts", "boxes", "seen", "parts", "states")
    }
    rows = []
    for place, (video, frames) in enumerate(truth.items()):
        for name, frame in frames.items():
            columns["video"].append(place)
            columns["frame"].append(int(name[4:9]) - 1)
            columns["counts"].append(len(frame["humans"]))
            for one in frame["humans"]:
                own = [one["parts"].get(part) for part in parts]
                columns["boxes"].append(one["box"])
                columns["seen"].append([part is not None for part in own])
                columns["parts"].append([part["box"] if part else [0] * 4 for part in own])
                columns["states"].append([number(part["verb"]) if part else -1 for part in own])
            if name not in found.get(video, {}):
                continue
            others = found[video][name]["humans"]
            boxes, named = (
                np.zeros((len(others), len(parts), 4)),
                np.full((len(others), len(parts), 5), -1),
            )
            for human_at, one in enumerate(others):
                for part_at, part in enumerate(parts):
                    for at, verb in enumerate(one["parts"].get(part, {}).get("verb", [])):
                        named[human_at, part_at, at] = number(verb)
                        boxes[human_at, part_at] = one["parts"][part]["box"][0]
            rows.append(
                {"video_id": video, "frame": int(name[4:9]) - 1, "scores": np.ones(len(others)),
                 "boxes": np.array([one["box"] for one in others]).reshape(-1, 4),
                 "parts": boxes, "states": named, "state_scores": np.ones(named.shape)}
            )  # fmt: skip
    sizes = {
        "boxes": (-1, 4),
        "seen": (-1, len(parts)),
        "parts": (-1, len(parts), 4),
        "states": (-1, len(parts)),
    }
    arrays = [np.array(values).reshape(sizes.get(name, -1)) for name, values in columns.items()]
    return TrueHumans(videos, [actions[video] for video in videos], *arrays), rows, parts


def one_box_a_part(found: Any) -> Any:
    found = copy.deepcopy(found)
    for frames in found.values():
        for frame in frames.values():
            for one in frame["humans"]:
                for part in one["parts"].values():
                    part["box"] = [part["box"][0]] * len(part["verb"]) if part["box"] else []
    return found


@pytest.mark.parametrize("case", CASES)
def test_arrays_score_as_files_do(shared: Path, case: str) -> None:
    truth, actions, found, said = files(shared / "metrics" / "tps" / case)
    found = one_box_a_part(found)
    expected = parsing_scores(truth, actions, found, said)
    columns, rows, parts = as_columns((truth, actions, found, said))
    metric = ParsingMetric(columns, parts, said)
    metric.update(rows)
    scores = metric.scores()
    assert scores.right == expected.right
    assert scores.psc == pytest.approx(expected.psc, abs=1e-12)
    if case == "perfect":
        numbers = metric.compute()
        assert (
            numbers["acc_p"] == pytest.approx(0.9999)
            and numbers["person_ap50"] == 1
            and numbers["part_ap50"] == 1
        )
        assert numbers["parts_found"] == numbers["persons_found"] == 1


def test_too_many_humans_in_arrays_are_named() -> None:
    data = case([human(head=(BOX, "up"))], [human(head=([BOX], ["up"]))] * 11)
    columns, rows, _ = as_columns(data)
    with pytest.raises(ParsingScoreError, match="video 'v', frame 0: found '11 humans'"):
        column_psc(columns, found_humans(columns, rows))


def test_hits_say_where_a_part_is_lost() -> None:
    true = [
        human(head=(BOX, "up"), hand=([50, 50, 59, 59], "hold"), foot=([80, 80, 89, 89], "step"))
    ]
    found = [
        human(
            head=([BOX], ["up"]),
            hand=([[20, 20, 29, 29]], ["hold"]),
            foot=([[80, 80, 89, 89]] * 2, ["lift", "step"]),
        )
    ]
    columns, rows, parts = as_columns(case(true, found))
    hits = part_hits(columns, found_humans(columns, rows))
    assert [parts[part] for part in hits.part] == ["foot", "hand", "head"]
    assert (
        hits.human_found.all()
        and hits.box_found.tolist() == [True, False, True]
        and hits.credit.tolist() == [0.5, 1, 1]
    )
    metric = ParsingMetric(columns, parts)
    metric.update(rows)
    assert (
        metric.compute()["psc"] == pytest.approx(0.5)
        and metric.per_part()["foot"]["state_accuracy"] == 0.5
    )


def test_the_curve_counts_videos_at_their_own_score() -> None:
    scores = ParsingScores({"a": 0.5, "b": 1.0, "c": 1.0}, {"a": True, "b": True, "c": False})
    assert scores.accuracy([0.0, 0.5, 0.5001, 1.0]).tolist() == pytest.approx(
        [2 / 3, 2 / 3, 1 / 3, 1 / 3]
    )
    assert scores.acc_p == pytest.approx(
        (5000 * 2 / 3 + 4999 / 3) / 10000
    ) and scores.mean_psc == pytest.approx(2.5 / 3)


def test_average_precision_of_a_hand_made_case() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10]], float)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [50, 50, 60, 60]], float)
    found = BoxScores(
        np.array([0, 0, 1]), truth, np.array([0, 0, 0, 1]), boxes, np.array([0.9, 0.8, 0.7, 0.6])
    )
    # hit, double, hit, miss; one true box is never found
    assert found.ap() == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    assert (
        BoxScores(np.empty(0), np.empty((0, 4)), np.array([0]), boxes[:1], np.array([1.0])).ap()
        == 0
    )
