"""Kinetics-TPS: persons, their body parts and part states, one json file per annotated frame.

Form: `<label>/<video>/img_%05d.json`, each `{"humans": [{"box": [x1, y1, x2, y2], "parts": {part:
{"box": [...], "verb": state}}}]}`. Frame numbers in the names are 1-based, our frame column is
0-based. Boxes are inclusive pixels of the original video. `number` and `name` inside the json
repeat what is known and are not read. `person` is the position of the human in the frame's list.

One row per part. A human without parts keeps one row, whose part, part box and state are null. A
frame without humans has no row; every video that has a good frame is an entry. The names of parts
(the challenge has ten) and states (74) are what the files hold: `words` gives both, sorted. The
label is the video's class, and its vocabulary that of the clips.

As clips every video with a file of a frame is one row, whole, with its class; what stands in the
files is the parts' concern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from configs.schema import TableName
from ops.annotations.json_text import load
from ops.annotations.rows import Context, Entry, Fault, Problem, Read, Rows, box_fault
from ops.annotations.vocabulary import AnnotationError
from ops.store.tables import CLIPS, PARTS

TABLE: TableName = "parts"
TABLES: tuple[TableName, ...] = ("parts", "clips")
FOLDER = True
PERSON = ("px1", "py1", "px2", "py2")
BOX = ("x1", "y1", "x2", "y2")
EXPECTED = (
    'files <label>/<video>/img_00001.json with {"humans": [{"box": [...], "parts": {part: {"box":'
    ' [...], "verb": state}}}]}'
)
NAME = re.compile(r"(?P<label>[^/]+)/(?P<video>[^/]+)/img_(?P<frame>\d{5,9})\.json", re.ASCII)


def sniff(name: str, data: bytes) -> bool:
    """Whether it is the file of one frame, by its name and beginning."""
    return re.search(r"img_\d{5,9}\.json$", name) is not None and data.lstrip(
        b"\xef\xbb\xbf \t\r\n"
    ).startswith(b"{")


class Place(NamedTuple):
    """Which frame of which video a file is of; `frame` counts from 0."""

    video_id: str
    split: str
    label: str
    label_id: int
    frame: int


def read(files: Iterable[tuple[str, bytes | None]], context: Context) -> Read:
    """Parts or clips of a folder, from (path below the folder, content; None for a file too large
    to be one frame).

    Raises AnnotationError when no part and no frame, or no clip, is good.
    """
    context.check_template({"video": "text", "label": "text"})
    if context.table == "clips":
        return _clips(files, context)
    rows, problems, entries = (Rows(PARTS, context.dataset), list[Problem](), dict[Entry, None]())
    for path, data in files:
        file, place = f"{context.file}/{path}", _place(path, context)
        fault = (
            place
            if isinstance(place, Fault)
            else _frame(rows, entries, place, data, file, problems)
        )
        if fault is not None:
            problems.append(fault.at(file, 0))
    if not rows.count:  # frames without a single human are not this form's annotations
        entries.clear()
    return rows.finish(context, problems, EXPECTED, entries=entries)


def _clips(files: Iterable[tuple[str, bytes | None]], context: Context) -> Read:
    rows, problems, known = (Rows(CLIPS, context.dataset), list[Problem](), set[tuple[str, str]]())
    for path, _ in files:
        place = _place(path, context)
        if isinstance(place, Fault):
            problems.append(place.at(f"{context.file}/{path}", 0))
        elif (place.video_id, place.label) not in known:
            known.add((place.video_id, place.label))
            source = f"{context.file}/{path.rpartition('/')[0]}"
            rows.add(
                place.video_id,
                place.video_id,
                place.split,
                context.target,
                place.label,
                place.label_id,
                None,
                None,
                source,
            )
    return rows.finish(context, problems, EXPECTED)


def _place(path: str, context: Context) -> Place | Fault:
    """What the path of a file says, or what is wrong with it."""
    name = NAME.fullmatch(path)
    if name is None or int(name["frame"]) < 1:
        return Fault("(name)", path, "structure", "not <label>/<video>/img_00001.json")
    label_id = context.label_id(name["label"])
    if label_id is None:
        return Fault("label", name["label"], "unknown_label", "unknown label")
    video_id = context.video.format(video=name["video"], label=name["label"])
    split = context.split or context.splits.get(video_id)
    if split is None:
        return Fault(
            "video",
            video_id,
            "unknown_split",
            "no split: the config names none, and no clip has this video",
        )
    return Place(video_id, split, name["label"], label_id, int(name["frame"]) - 1)


def _frame(
    rows: Rows,
    entries: dict[Entry, None],
    place: Place,
    data: bytes | None,
    file: str,
    problems: list[Problem],
) -> Fault | None:
    """Adds the rows of one frame, and the problems of its humans and parts; gives what is wrong
    with the file as a whole.
    """
    if data is None:
        return Fault(
            "(whole file)", "too large", "long_line", "a frame's annotations are under 1 MB"
        )
    try:
        content, repeated = load(data, file)
    except AnnotationError as error:
        return Fault(
            error.field,
            error.found,
            "text" if error.field == "encoding" else "structure",
            f"expected {error.expected}",
        )
    if repeated:
        return Fault(
            "(whole file)", ", ".join(sorted(repeated)), "contradiction", "key given twice"
        )
    humans = content.get("humans") if isinstance(content, dict) else None
    if not isinstance(humans, list):
        return Fault("humans", humans, "structure", "not a list of humans")
    entries[Entry(place.video_id, place.split)] = None
    key = (place.video_id, place.split, place.label, place.frame)
    for index, human in enumerate(humans):
        for below, fault in _human(rows, key, index, human, file):
            problems.append(fault.at(file, 0, f"humans[{index}]{below}"))
    return None


def _human(
    rows: Rows, key: tuple[str, str, str, int], index: int, human: Any, file: str
) -> list[tuple[str, Fault]]:
    """Adds the rows of one human; gives (place below the human, fault) of what is wrong."""
    if not isinstance(human, dict):
        return [("", Fault("humans", human, "structure", "not a mapping with box and parts"))]
    fault = box_fault(human.get("box"), None)
    if fault is not None:
        return [("", fault)]
    person, parts = [float(value) for value in human["box"]], human.get("parts", {})
    if not isinstance(parts, dict):
        return [("", Fault("parts", parts, "structure", "not a mapping from part to box and verb"))]
    source = f"{file}:humans[{index}]"
    if not parts:
        rows.add(*key, index, *person, None, None, None, None, None, None, source)
    faults: list[tuple[str, Fault]] = []
    for part, value in parts.items():
        place, box = f".parts.{part}", value.get("box") if isinstance(value, dict) else None
        state = value.get("verb") if isinstance(value, dict) else None
        fault = box_fault(box, None, "part")
        if not isinstance(value, dict):
            faults.append(
                (place, Fault("part", value, "structure", "not a mapping with box and verb"))
            )
        elif fault is not None:
            faults.append((place, fault))
        elif not isinstance(state, str) or not state:
            faults.append((place, Fault("verb", state, "value", "not the name of a state")))
        else:
            rows.add(
                *key,
                index,
                *person,
                part,
                *(float(number) for number in value["box"]),
                state,
                source,
            )
    return faults


def words(table: pa.Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(parts, states) that the rows of a parts table name, each sorted."""
    names = [
        sorted(name for name in table[column].unique().to_pylist() if name is not None)
        for column in ("part", "state")
    ]
    return tuple(names[0]), tuple(names[1])
