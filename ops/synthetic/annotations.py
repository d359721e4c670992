"""The ground truth in the published formats: Kinetics csv, ActivityNet json, AVA csv and pbtxt,
Kinetics-TPS json.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any, NamedTuple

from ops.synthetic.actions import LABELS
from ops.synthetic.films import SCENE_ACTIONS, Film
from ops.synthetic.render import Box, truth
from ops.synthetic.states import part_states

MIN_VISIBLE, MIN_INSIDE = 0.35, 0.35
"""A part is annotated when at least this share of it is uncovered, and this share of it is in the
image.
"""

CLEAR_VISIBLE, CLEAR_INSIDE = 0.5, 0.6
"""Below these a person of a scene is ambiguous, and the key frame is excluded as a whole."""


class BoxRow(NamedTuple):
    """One action of one person at a key frame; box in shares of the image."""

    timestamp_s: int
    box: Box
    action_id: int
    person_id: int


def text_of(value: Any) -> bytes:
    """Json as this package writes it."""
    return (json.dumps(value, indent=1, sort_keys=False) + "\n").encode()


def _numbers(box: Box) -> list[float]:
    return [round(edge, 1) for edge in box]


def part_files(film: Film, fps: int) -> dict[str, bytes]:
    """Kinetics-TPS files of a trimmed film, by name: img_00001.json is the first frame.

    Boxes are xyxy in pixels, between pixel edges. A part that is out of the image or covered is
    left out, as is a person with no part.
    """
    files: dict[str, bytes] = {}
    for place, (stage, t) in enumerate(film.frames):
        # The last frame has no next one: its speeds are those from the frame before it.
        now, then = (place, place + 1) if place + 1 < len(film.frames) else (place - 1, place)
        humans: list[dict[str, Any]] = []
        for person in truth(stage, t):
            figure = stage.figures[person.person]
            states = part_states(
                figure.state(film.frames[now][1]),
                figure.state(film.frames[then][1]),
                figure.facing(t),
                figure.body,
                1 / fps,
            )
            parts = {
                name: {
                    "box": _numbers(part.box),
                    "verb": states[name],
                    "name": name,
                    "number": len(humans) + 1,
                }
                for name, part in person.parts.items()
                if part.visible >= MIN_VISIBLE and part.inside >= MIN_INSIDE
            }
            if parts:
                humans.append(
                    {"box": _numbers(person.whole.box), "number": len(humans) + 1, "parts": parts}
                )
        files[f"img_{place + 1:05d}.json"] = text_of({"humans": humans})
    return files


def scene_rows(film: Film, fps: int) -> tuple[list[BoxRow], list[int]]:
    """The rows of a scene's key frames (each whole second), and the timestamps where some person is
    ambiguous (they have no rows).
    """
    rows: list[BoxRow] = []
    excluded: list[int] = []
    for second in range(1, len(film.frames) // fps):
        stage, t = film.frames[second * fps]
        people = truth(stage, t, with_parts=False)
        if any(
            person.whole.visible < CLEAR_VISIBLE or person.whole.inside < CLEAR_INSIDE
            for person in people
        ):
            excluded.append(second)
            continue
        width, height = (edge / 2 for edge in stage.size)
        for person in people:
            x1, y1, x2, y2 = person.whole.box
            box = (x1 / width, y1 / height, x2 / width, y2 / height)
            rows += [
                BoxRow(second, box, SCENE_ACTIONS.index(name) + 1, person.person)
                for name in film.acts[person.person](t)
            ]
    return rows, excluded


def _csv(rows: list[list[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def clips_csv(clips: list[tuple[str, str, str, int, int]]) -> bytes:
    """rows: (label, youtube_id, split, time_start, time_end)."""
    return _csv(
        [
            ["label", "youtube_id", "time_start", "time_end", "split"],
            *([a, b, start, end, c] for a, b, c, start, end in clips),
        ]
    )


def labels_txt() -> bytes:
    """The vocabulary of clips and segments, one label a line."""
    return "".join(f"{label}\n" for label in LABELS).encode()


def segments_json(films: dict[str, dict[str, Any]]) -> bytes:
    """films: entry of the database by video name."""
    taxonomy = [{"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}]
    taxonomy += [
        {"nodeId": place + 1, "nodeName": label, "parentId": 0, "parentName": "Root"}
        for place, label in enumerate(LABELS)
    ]
    return text_of({"version": "figures 1", "taxonomy": taxonomy, "database": films})


def boxes_csv(rows: list[tuple[str, BoxRow]]) -> bytes:
    """rows: (video name, row). Six decimals: exact to far below a pixel."""
    return _csv(
        [
            [
                name,
                f"{row.timestamp_s:04d}",
                *(f"{edge:.6f}" for edge in row.box),
                row.action_id,
                row.person_id,
            ]
            for name, row in rows
        ]
    )


def excluded_csv(rows: list[tuple[str, int]]) -> bytes:
    """rows: (video name, timestamp)."""
    return _csv([[name, f"{second:04d}"] for name, second in rows])


def actions_pbtxt() -> bytes:
    """The vocabulary of the scenes."""
    kinds = {"hold": "OBJECT_MANIPULATION", "push": "OBJECT_MANIPULATION"}
    blocks = (
        f'label {{\n  name: "{name}"\n  label_id: {place + 1}\n  label_type:'
        f" {kinds.get(name, 'PERSON_MOVEMENT')}\n}}\n"
        for place, name in enumerate(SCENE_ACTIONS)
    )
    return "".join(blocks).encode()
