"""AVA csv files of evaluators as columns: ground truth, detections and excluded key frames.

Ground truth has rows of `video,timestamp,x1,y1,x2,y2,action_id,person_id`, detections a score in
the place of the person (without one every score is 1), the excluded key frames `video,timestamp`;
none has a header. Timestamps are compared to the millisecond, so that 0902, 902.0 and 902 are one.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from configs.errors import KinographError
from ops.tasks.detection.matching import Boxes, boxes_of

Frame = tuple[str, int]  # video and timestamp in ms


class AvaFileError(KinographError, ValueError):
    """A row that is not of the form: names the file, the line, what was found and what is
    expected.
    """

    def __init__(self, file: str, line: int, found: object, expected: str) -> None:
        super().__init__(f"{file}:{line}: found {found!r}; expected: {expected}")


class AvaRows(NamedTuple):
    """The rows of one file. `frames` are every key frame that is named, `unknown` counts rows whose
    action is not in the list.
    """

    frames: list[Frame]
    actions: list[int]  # ids as in the file
    boxes: list[tuple[float, float, float, float]]
    marks: list[float | None]  # person or score
    unknown: int


def read_boxes(
    data: bytes, file: str, actions: Collection[int], excluded: Collection[Frame] = ()
) -> AvaRows:
    """Rows whose action is in the list and whose key frame is not excluded.

    Raises AvaFileError for a row that is not of the form; an action outside the list is counted,
    not an error, as the official lists have 60 of 80 ids.
    """
    rows, out, known = AvaRows([], [], [], [], 0), frozenset(excluded), frozenset(actions)
    unknown = 0
    for line, fields in enumerate(csv.reader(io.StringIO(data.decode("utf-8-sig"))), 1):
        if not fields:
            continue
        if len(fields) not in (7, 8):
            raise AvaFileError(
                file,
                line,
                ",".join(fields),
                "video,timestamp,x1,y1,x2,y2,action_id and a person or score",
            )
        frame = _frame(fields, file, line)
        numbers = [_number(text, file, line) for text in fields[2:6]]
        action = _number(fields[6], file, line)
        if not action.is_integer():
            raise AvaFileError(file, line, fields[6], "a whole action id")
        if frame in out:
            continue
        if int(action) not in known:
            unknown += 1
            continue
        rows.frames.append(frame)
        rows.actions.append(int(action))
        rows.boxes.append((numbers[0], numbers[1], numbers[2], numbers[3]))
        rows.marks.append(
            _number(fields[7], file, line) if len(fields) == 8 and fields[7] else None
        )
    return rows._replace(unknown=unknown)


def read_excluded(data: bytes, file: str) -> set[Frame]:
    """Key frames of an exclusion list. Raises AvaFileError."""
    found = set[Frame]()
    for line, fields in enumerate(csv.reader(io.StringIO(data.decode("utf-8-sig"))), 1):
        if not fields:
            continue
        if len(fields) != 2:
            raise AvaFileError(file, line, ",".join(fields), "video,timestamp")
        found.add(_frame(fields, file, line))
    return found


def _frame(fields: list[str], file: str, line: int) -> Frame:
    if not fields[0]:
        raise AvaFileError(file, line, ",".join(fields), "a video in the first column")
    return fields[0], round(1000 * _number(fields[1], file, line))


def _number(text: str, file: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AvaFileError(file, line, text, "a finite number")
    return value


def as_boxes(true: AvaRows, found: AvaRows, index_of: Mapping[int, int]) -> tuple[Boxes, Boxes]:
    """Both files with one numbering of frames, and class indices for action ids; (true, found)."""
    number = {frame: place for place, frame in enumerate(sorted({*true.frames, *found.frames}))}

    def columns(rows: AvaRows, scored: bool) -> Boxes:
        scores = [1.0 if mark is None else mark for mark in rows.marks] if scored else None
        return boxes_of(
            [number[frame] for frame in rows.frames],
            [index_of[action] for action in rows.actions],
            rows.boxes,
            scores,
        )

    return columns(true, False), columns(found, True)
