"""Prediction files of the Kinetics-TPS challenge: `pred_part_result.json` and
`pred_vid_result.json`, written and read.

Parts: `{video: {"img_00001.json": {"humans": [{"box": [x1, y1, x2, y2], "score": p, "parts":
{...}}]}}}` with parts as `{part: {"box": [[...]], "verb": [state]}}`, at most 10 humans a frame and
5 proposals a part, best first; a part with several states repeats its box for each. `score` is our
own addition; the evaluator reads box, parts and verb alone. Videos: `{video: action}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ops.annotations.json_text import load
from ops.annotations.vocabulary import AnnotationError
from ops.tasks.parsing.columns import TrueHumans
from ops.tasks.parsing.metric import Videos, check_predictions, frame_name

PARTS_FILE, ACTIONS_FILE = "pred_part_result.json", "pred_vid_result.json"
TRUE_PARTS_FILE, TRUE_ACTIONS_FILE = "gt_part_result.json", "gt_vid_result.json"


def predictions(
    videos: Iterable[str],
    rows: Iterable[Mapping[str, Any]],
    parts: Sequence[str],
    states: Sequence[str],
) -> Videos:
    """Prediction rows in the challenge's form; every video is there.

    Args:
        videos: ids.
        rows: `ops.tasks.parsing.columns.found_humans` says what they hold.
        parts: names in the order of their numbers.
        states: names in the order of their numbers.
    """
    found: dict[str, dict[str, Any]] = {video: {} for video in videos}
    for row in sorted(rows, key=lambda row: (row["video_id"], row["frame"])):
        boxes, part_boxes, named = (
            row["boxes"].tolist(),
            row["parts"].tolist(),
            row["states"].tolist(),
        )
        humans = []
        for human, score in enumerate(row["scores"].tolist()):
            own: dict[str, Any] = {}
            for part, name in enumerate(parts):
                verbs = [states[state] for state in named[human][part] if state >= 0]
                if verbs:
                    own[name] = {"box": [part_boxes[human][part]] * len(verbs), "verb": verbs}
            humans.append({"box": boxes[human], "score": round(score, 4), "parts": own})
        found.setdefault(row["video_id"], {})[frame_name(int(row["frame"]))] = {"humans": humans}
    return found


def truth_files(
    truth: TrueHumans, parts: Sequence[str], states: Sequence[str]
) -> tuple[Videos, dict[str, str]]:
    """The truth in the challenge's form: parts and actions. A state that no vocabulary has is
    called '?'.
    """
    found: dict[str, dict[str, Any]] = {video: {} for video in truth.videos}
    starts = np.cumsum(truth.counts) - truth.counts
    boxes, part_boxes = (
        truth.boxes.astype(float).round(4).tolist(),
        truth.parts.astype(float).round(4).tolist(),
    )
    named, seen = truth.states.tolist(), truth.seen.tolist()
    for place, (video, frame) in enumerate(
        zip(truth.video.tolist(), truth.frame.tolist(), strict=True)
    ):
        humans = []
        for human in range(starts[place], starts[place] + truth.counts[place]):
            own = {
                name: {
                    "box": part_boxes[human][part],
                    "verb": states[named[human][part]] if named[human][part] >= 0 else "?",
                }
                for part, name in enumerate(parts)
                if seen[human][part]
            }
            humans.append({"box": boxes[human], "parts": own})
        found[truth.videos[video]][frame_name(frame)] = {"humans": humans}
    return found, dict(zip(truth.videos, truth.actions, strict=True))


def text_of(content: Any) -> bytes:
    """Json as it is written."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def read_parts(data: bytes, file: str) -> Videos:
    """Predicted parts. Raises AnnotationError for what is no json or names a key twice,
    ParsingScoreError for another form.
    """
    content = _loaded(data, file)
    check_predictions(content)
    return content


def read_actions(data: bytes, file: str) -> dict[str, str]:
    """Predicted actions by video. Raises AnnotationError."""
    content = _loaded(data, file)
    for video, action in content.items() if isinstance(content, dict) else [("", content)]:
        if not isinstance(action, str) or not isinstance(content, dict):
            raise AnnotationError(file, f"video '{video}'", action, "{video: action}")
    return content


def _loaded(data: bytes, file: str) -> Any:
    content, repeated = load(data, file)
    if repeated:
        raise AnnotationError(
            file, "(whole file)", f"twice: {', '.join(sorted(repeated))}", "each key once"
        )
    return content
