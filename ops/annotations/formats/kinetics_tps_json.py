"""Kinetics-TPS: persons, their body parts and part states, one json file per annotated frame.

Form: `<label>/<video>/img_%05d.json`, each `{"humans": [{"box": [x1, y1, x2, y2], "parts": {part: {"box": [...], "verb": state}}}]}`. Frame
numbers in the names are 1-based, our frame column is 0-based. Boxes are inclusive pixels of the original video. `number` and `name`
inside the json repeat what is known and are not read. `person` is the position of the human in the frame's list.

One row per part. A human without parts keeps one row, whose part, part box and state are null. A frame without humans has no row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ops.annotations.activitynet_json import load
from ops.annotations.rows import Context, Problem, Read, Rows, box_fault, shorten
from ops.annotations.vocabulary import AnnotationError
from ops.store.tables import PARTS

PERSON = ("px1", "py1", "px2", "py2")
COLUMNS = ("video_id", "split", "label", "frame", "person", *PERSON, "part", "x1", "y1", "x2", "y2", "state", "source")
EXPECTED = 'files <label>/<video>/img_00001.json with {"humans": [{"box": [...], "parts": {part: {"box": [...], "verb": state}}}]}'
NAME = re.compile(r"(?P<label>[^/]+)/(?P<video>[^/]+)/img_(?P<frame>\d{5,9})\.json", re.ASCII)


def read(files: Iterable[tuple[str, bytes | None]], context: Context) -> Read:
    """Parts of a folder, from (path below the folder, content; None for a file too large to be one frame).

    Raises AnnotationError when no part is good.
    """
    context.check_template({"video": "text", "label": "text"})
    rows, problems = Rows(PARTS, COLUMNS, context.dataset), list[Problem]()
    for path, data in files:
        file = f"{context.file}/{path}"
        fault = _frame(rows, path, data, context, file, problems)
        if fault is not None:
            problems.append(Problem(file, 0, fault[0], shorten(fault[1]), fault[2]))
    return rows.finish(context, problems, EXPECTED)


def _frame(
    rows: Rows, path: str, data: bytes | None, context: Context, file: str, problems: list[Problem]
) -> tuple[str, object, str] | None:
    """Adds the rows of one frame, and the problems of its humans and parts; gives what is wrong with the file as a whole."""
    name = NAME.fullmatch(path)
    if name is None or int(name["frame"]) < 1:
        return "(name)", path, "not <label>/<video>/img_00001.json"
    if data is None:
        return "(whole file)", "too large", "a frame's annotations are under 1 MB"
    if context.label_id(name["label"]) is None:
        return "label", name["label"], "unknown label"
    video_id = context.video.format(video=name["video"], label=name["label"])
    split = context.split or context.splits.get(video_id)
    if split is None:
        return "video", video_id, "no split: the config names none, and no clip has this video"
    try:
        content, repeated = load(data, file)
    except AnnotationError as error:
        return error.field, error.found, f"expected {error.expected}"
    if repeated:
        return "(whole file)", ", ".join(sorted(repeated)), "key given twice"
    humans = content.get("humans") if isinstance(content, dict) else None
    if not isinstance(humans, list):
        return "humans", humans, "not a list of humans"
    key = (video_id, split, name["label"], int(name["frame"]) - 1)
    for index, human in enumerate(humans):
        for field, found, reason in _human(rows, key, index, human, file):
            problems.append(Problem(file, 0, field, shorten(f"humans[{index}]{found}"), reason))
    return None


def _human(rows: Rows, key: tuple[str, str, str, int], index: int, human: Any, file: str) -> list[tuple[str, str, str]]:
    """Adds the rows of one human; gives (field, found below the human, reason) of what is wrong."""
    if not isinstance(human, dict):
        return [("humans", f": {human}", "not a mapping with box and parts")]
    fault = box_fault(human.get("box"), None)
    if fault is not None:
        return [("box", f": {fault[0]}", fault[1])]
    person, parts = [float(value) for value in human["box"]], human.get("parts", {})
    if not isinstance(parts, dict):
        return [("parts", f": {parts}", "not a mapping from part to box and verb")]
    source = f"{file}:humans[{index}]"
    if not parts:
        rows.add(*key, index, *person, None, None, None, None, None, None, source)
    faults: list[tuple[str, str, str]] = []
    for part, value in parts.items():
        state = value.get("verb") if isinstance(value, dict) else None
        fault = box_fault(value.get("box"), None) if isinstance(value, dict) else (value, "not a mapping with box and verb")
        if fault is not None:
            faults.append(("part", f".parts.{part}: {fault[0]}", fault[1]))
        elif not isinstance(state, str) or not state:
            faults.append(("verb", f".parts.{part}: {state}", "not the name of a state"))
        else:
            rows.add(*key, index, *person, part, *(float(number) for number in value["box"]), state, source)
    return faults
