"""Part-level action parsing: PSC of every video and Acc^p, exactly as the Kinetics-TPS evaluator
computes them.

Truth and predictions are in the challenge's form: `{video: {"img_00001.json": {"humans": [...]}}}`.
A true human is `{"box": [x1, y1, x2, y2], "parts": {part: {"box": [...], "verb": state}}}`; a
predicted one has lists of boxes and of states (at most 5) for each part, best first. Boxes are
pixels. The rules are those of the code of xiadingZ/Kinetics-TPS-evaluation, where it and its README
differ:

- IoU counts both edge pixels (width = x2 - x1 + 1); boxes without a common pixel have IoU -1.
- Persons of a frame are assigned one to one at the largest total IoU (float32), and count when
  theirs is above 0.5.
- A true part of such a person scores 1 / N, N the states predicted for it, when any of its boxes
  has IoU >= 0.3 and the right state; all others score 0. The frame's score is the mean over its
  true parts.
- PSC is the mean over frames with true parts (1 when there is none). A frame that the prediction
  lacks scores 0, also one whose humans have no parts.
- A video is right at t when PSC >= t and its action is right; Acc^p is the mean over all videos at
  t = 1/10000 ... 9999/10000, times 0.9999: perfect is 0.9999.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.errors import KinographError
from ops.tasks.parsing.human_matching import match

HUMAN_IOU, PART_IOU = 0.5, 0.3
MAX_HUMANS, MAX_PROPOSALS = 10, 5
STEPS = 10_000
Videos = Mapping[str, Mapping[str, Mapping[str, Any]]]  # video -> frame -> {"humans": [...]}


class ParsingScoreError(KinographError, ValueError):
    """Truth or predictions that cannot be scored: names the place, what was found there and what is
    allowed.
    """

    def __init__(self, where: str, found: object, allowed: str) -> None:
        super().__init__(f"{where}: found {found!r:.200}; allowed: {allowed}")


@dataclass(frozen=True)
class ParsingScores:
    """PSC (0..1) of every video, and whether its action is right; both in the order of the
    truth.
    """

    psc: dict[str, float]
    right: dict[str, bool]

    def accuracy(self, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
        """acc(t) for each threshold: the share of videos with the right action and PSC >= t."""
        # PSC of the videos with the right action, rising: those at t or above are all from
        # `searchsorted` on.
        scores = np.sort(
            np.array([score for video, score in self.psc.items() if self.right[video]], np.float64)
        )
        return (
            len(scores) - np.searchsorted(scores, np.asarray(thresholds, np.float64), side="left")
        ) / len(self.psc)

    @property
    def acc_p(self) -> float:
        """The area under acc(t); t = 0 and t = 1 are left out, as in the original."""
        return float(self.accuracy(np.arange(1, STEPS) / STEPS).sum() / STEPS)

    @property
    def mean_psc(self) -> float:
        """Mean PSC of all videos, whatever their action: what Acc^p is with every action right, but
        for 0.0001 at most.
        """
        return float(np.mean(list(self.psc.values())))


def parsing_scores(
    truth: Videos,
    actions: Mapping[str, str],
    found: Videos,
    found_actions: Mapping[str, str],
    *,
    human_iou: float = HUMAN_IOU,
    part_iou: float = PART_IOU,
) -> ParsingScores:
    """Scores of all videos that `actions` names.

    Args:
        truth: parts of every video, in the challenge's form.
        actions: the true one by video.
        found: predicted parts, in the same form.
        found_actions: the predicted one by video.
        human_iou: above it a found human is a true one's.
        part_iou: from it on a found part is the true one.

    Raises:
        ParsingScoreError: truth and predictions cannot be scored.
    """
    if not actions:
        raise ParsingScoreError("true actions", "no video", "at least one")
    for video in actions:
        if video not in found_actions:
            raise ParsingScoreError(
                f"predicted actions, video '{video}'",
                "nothing",
                "an action for every video of the truth",
            )
        if video not in truth:
            raise ParsingScoreError(
                f"true parts, video '{video}'",
                "nothing",
                "frames for every video of the true actions",
            )
    psc = video_scores(
        {video: truth[video] for video in actions}, found, human_iou=human_iou, part_iou=part_iou
    )
    return ParsingScores(psc, {video: actions[video] == found_actions[video] for video in actions})


def video_scores(
    truth: Videos, found: Videos, *, human_iou: float = HUMAN_IOU, part_iou: float = PART_IOU
) -> dict[str, float]:
    """PSC of every video of the truth. Raises ParsingScoreError."""
    try:
        return _video_scores(truth, found, human_iou, part_iou)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        ZeroDivisionError,
    ) as error:
        _explain(truth, found)
        raise ParsingScoreError(
            "truth or predictions", f"{type(error).__name__}: {error}", "the challenge's form"
        ) from error


# --------------------------------------------------------------------------------------------------
# scoring


def _video_scores(
    truth: Videos, found: Videos, human_iou: float, part_iou: float
) -> dict[str, float]:
    humans, others = list[Any](), list[Any]()  # of all frames, one after another
    num_humans, num_others, owners = list[int](), list[int](), list[int]()
    counted = [0] * len(truth)
    for number, (video, own) in enumerate(truth.items()):
        for name, frame in own.items():
            here = frame["humans"]
            if not here:
                continue
            if name not in found[video]:
                counted[number] += 1
                continue
            there = found[video][name]["humans"]
            if len(there) > MAX_HUMANS:
                raise ValueError("too many humans")
            humans += here
            others += there
            num_humans.append(len(here))
            num_others.append(len(there))
            owners.append(number)
    counts = np.array([num_humans, num_others], np.int64)
    pairs = match(counts[0], _boxes(humans), counts[1], _boxes(others), human_iou)
    scores = np.zeros(len(humans))
    scores[pairs.truth] = [
        _human_score(humans[one]["parts"], others[other]["parts"], part_iou)
        for one, other in zip(pairs.truth.tolist(), pairs.found.tolist(), strict=True)
    ]
    # The frame of each true human; `sums` and `parts` [frames] are added up over it.
    frame_of = np.repeat(np.arange(len(owners)), counts[0])
    sums = np.bincount(frame_of, scores, len(owners))  # added up in order, as the original does
    parts = np.bincount(frame_of, [len(human["parts"]) for human in humans], len(owners))
    # Frames whose humans have a part at all: the others have no mean.
    good = parts > 0
    video_of = np.array(owners, np.int64)[good]
    totals = np.bincount(video_of, sums[good] / parts[good], len(truth))
    times = np.bincount(video_of, minlength=len(truth)) + np.array(counted, np.int64)
    means = np.where(times > 0, totals / np.maximum(times, 1), 1.0)
    return dict(zip(truth, means.tolist(), strict=True))


def _boxes(humans: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Float32 [humans, 4]."""
    boxes = np.array([human["box"] for human in humans], np.float32)
    return (
        boxes.reshape(-1, 4)
        if not humans or boxes.shape[1:] == (4,)
        else np.full((1, 4), np.nan, np.float32)
    )


def _human_score(parts: Mapping[str, Any], found: Mapping[str, Any], part_iou: float) -> float:
    """Sum of the scores of one human's true parts. The loop is written out: it runs a million
    times.
    """
    score = 0.0
    for name, part in parts.items():
        if name not in found:
            continue
        own = found[name]
        states, proposals, state = own["verb"], own["box"], part["verb"]
        count = len(states)
        if count > MAX_PROPOSALS or states.__class__ is str:
            raise ValueError("too many proposals")
        if state in states:
            ax1, ay1, ax2, ay2 = part["box"]
            for proposed, (bx1, by1, bx2, by2) in zip(states, proposals, strict=False):
                if proposed == state:
                    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1) + 1
                    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1) + 1
                    if width > 0 and height > 0:
                        inside = width * height
                        union = (
                            (ax2 - ax1 + 1) * (ay2 - ay1 + 1)
                            + (bx2 - bx1 + 1) * (by2 - by1 + 1)
                            - inside
                        )
                        if inside / union >= part_iou:
                            score += 1.0 / count
                            break
            else:
                if len(proposals) > count:
                    raise ValueError("more boxes than states")
        elif len(proposals) > count:
            raise ValueError("more boxes than states")
    return score


# --------------------------------------------------------------------------------------------------
# mistakes


def check_predictions(found: Any) -> None:
    """Raise ParsingScoreError for the first thing in predicted parts that the challenge's form does
    not allow, scored or not.
    """
    for video, frames in _mapping(found, "predicted parts").items():
        for name, frame in _mapping(frames, f"predicted parts, video '{video}'").items():
            where = f"predicted parts, video '{video}', frame '{name}'"
            humans = _humans(frame, where, one=False)
            if len(humans) > MAX_HUMANS:
                raise ParsingScoreError(
                    where, f"{len(humans)} humans", f"at most {MAX_HUMANS} humans in a frame"
                )


def check_truth(truth: Any) -> None:
    """As `check_predictions`, for the parts of the truth."""
    for video, frames in _mapping(truth, "true parts").items():
        for name, frame in _mapping(frames, f"true parts, video '{video}'").items():
            _humans(frame, f"true parts, video '{video}', frame '{name}'", one=True)


def _explain(truth: Videos, found: Videos) -> None:
    """Raise ParsingScoreError for the first thing that cannot be scored."""
    for video, frames in truth.items():
        for name, frame in _mapping(frames, f"true parts, video '{video}'").items():
            where = f"video '{video}', frame '{name}'"
            humans = _humans(frame, f"true parts, {where}", one=True)
            if not humans:
                continue
            if video not in found:
                raise ParsingScoreError(
                    f"predicted parts, video '{video}'",
                    "nothing",
                    "frames for every video of the truth",
                )
            if name not in _mapping(found[video], f"predicted parts, video '{video}'"):
                continue
            others = _humans(found[video][name], f"predicted parts, {where}", one=False)
            if len(others) > MAX_HUMANS:
                raise ParsingScoreError(
                    f"predicted parts, {where}",
                    f"{len(others)} humans",
                    f"at most {MAX_HUMANS} humans in a frame",
                )


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ParsingScoreError(where, value, "a mapping")
    return value


def _humans(frame: Any, where: str, one: bool) -> Sequence[Any]:
    humans = _mapping(frame, where).get("humans")
    if not isinstance(humans, list):
        raise ParsingScoreError(f"{where}, humans", humans, "a list")
    for number, human in enumerate(humans):
        place = f"{where}, humans[{number}]"
        _four(_mapping(human, place).get("box"), f"{place}, box")
        for part, value in _mapping(human.get("parts"), f"{place}, parts").items():
            _part(_mapping(value, f"{place}, parts.{part}"), f"{place}, parts.{part}", one)
    return humans


def _part(part: Mapping[str, Any], where: str, one: bool) -> None:
    boxes, states = part.get("box"), part.get("verb")
    if one:
        if not isinstance(states, str):
            raise ParsingScoreError(f"{where}, verb", states, "the name of a state")
        return _four(boxes, f"{where}, box")
    if (
        not isinstance(states, list)
        or not all(isinstance(state, str) for state in states)
        or len(states) > MAX_PROPOSALS
    ):
        raise ParsingScoreError(
            f"{where}, verb", states, f"a list of at most {MAX_PROPOSALS} names of states"
        )
    if not isinstance(boxes, list) or len(boxes) > len(states):
        raise ParsingScoreError(
            f"{where}, box", boxes, f"a list of boxes, one for each of the {len(states)} states"
        )
    for number, box in enumerate(boxes):
        _four(box, f"{where}, box[{number}]")
    return None


def _four(box: Any, where: str) -> None:
    numbers = (
        isinstance(box, list | tuple)
        and len(box) == 4
        and all(isinstance(edge, int | float) for edge in box)
    )
    if not numbers or not np.isfinite(box).all():
        raise ParsingScoreError(where, box, "four finite numbers [x1, y1, x2, y2]")


def frame_name(frame: int) -> str:
    """The challenge's name of a frame that counts from 0."""
    return f"img_{frame + 1:05d}.json"
