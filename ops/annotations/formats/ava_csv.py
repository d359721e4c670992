"""AVA csv (2.1, 2.2, AVA-Kinetics): labelled person boxes on key frames.

Form, without header: `video,timestamp,x1,y1,x2,y2,action_id,person_id`, one row per action of a
person; the timestamp is in seconds of the video (AVA writes whole seconds, padded: 0902;
AVA-Kinetics has fractions), boxes are fractions of the image. AVA-Kinetics knows no persons: its
rows end with the action (7 columns), and person_id is null. Rows of `video,timestamp` alone (its
test list) and rows whose other columns are all empty are key frames on which nobody is labelled:
the video becomes an entry, without a box.

Actions are ids of the vocabulary file: label_id is the id as the file gives it, from 1, with gaps
where the vocabulary has them (the challenges score 60 of the 80). An exclusion list has rows of
`video,timestamp`; the boxes of those key frames are left out and counted, and the key frames of
this file's videos are delivered with the rows, since an evaluation must leave out predictions on
them too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from configs.schema import TableName
from ops.annotations.lines import records
from ops.annotations.names import bare as plain_name
from ops.annotations.rows import (
    Context,
    Entry,
    Fault,
    Problem,
    Read,
    Rows,
    box_fault,
    number,
    shorten,
)
from ops.annotations.vocabulary import AnnotationError, Vocabulary
from ops.store.tables import BOXES

TABLE: TableName = "boxes"
FOLDER = False
FIELDS = ("video", "timestamp", "x1", "y1", "x2", "y2", "action_id", "person_id")
EXPECTED = "rows of video,timestamp,x1,y1,x2,y2,action_id,person_id, without a header"
PERSONS = 2**31


def sniff(name: str, data: bytes) -> bool:
    """Whether the first line is a row of this form; a list of `video,timestamp` alone is told by
    its name.
    """
    fields = (
        data.removeprefix(b"\xef\xbb\xbf")[:2000]
        .split(b"\n", 1)[0]
        .decode("latin-1")
        .strip()
        .split(",")
    )
    if len(fields) == 2:
        return "ava" in name.lower() and number(fields[1]) is not None
    numbers = fields[1:7]
    return (
        len(fields) in (7, 8)
        and number(fields[1]) is not None
        and (not any(numbers[1:]) or all(map(_is_number, numbers)))
    )


def _is_number(text: str) -> bool:
    return number(text) is not None


def read(data: bytes, context: Context) -> Read:
    """Boxes of one file. Needs a vocabulary. Raises AnnotationError when no row is good."""
    if context.vocabulary is None:
        raise AnnotationError(
            context.file,
            "labels",
            None,
            "a vocabulary in the dataset's config: the rows hold ids only",
        )
    context.check_template({"video": "text", "timestamp": "0902"})
    rows, problems, excluded = Rows(BOXES, context.dataset), list[Problem](), 0
    videos, bare = dict[tuple[str, str], str](), dict[tuple[str, str], None]()
    for line, fields in records(data, context.file):
        if isinstance(fields, Problem):
            problems.append(fields)
            continue
        row = _row(fields, context, context.vocabulary)
        if row is None:
            empty = _empty_frame(fields, context)
            if empty is None:
                problems.append(_fault(fields, context, context.vocabulary).at(context.file, line))
            else:
                videos[empty] = fields[0]
                bare[empty] = None
            continue
        videos[row[0], row[1]] = fields[0]
        if (fields[0], row[2]) in context.excluded:
            excluded += 1
            bare[row[0], row[1]] = None  # a video may have no other row
        else:
            rows.add(*row, f"{context.file}:{line}")
    _check_spelling(set(videos.values()), context)
    entries = (Entry(*key) for key in bare)
    return rows.finish(
        context, problems, EXPECTED, excluded, entries, _excluded_frames(videos, context)
    )


def _row(fields: list[str], context: Context, words: Vocabulary) -> tuple[Any, ...] | None:
    """The good row of these fields, without its source; None for a bad one. A file has a million:
    one look at all fields at once.
    """
    numbers = "".join(fields[1:])
    # as `number` has it
    if not 7 <= len(fields) <= 8 or not fields[0] or "_" in numbers or not numbers.isascii():
        return None
    try:
        timestamp, x1, y1, x2, y2, action = map(float, fields[1:7])
        person = float(fields[7]) if len(fields) == 8 else 0.0
    except ValueError:
        return None
    # NaN fails every comparison
    if not (
        0 <= x1 < x2 <= 1
        and 0 <= y1 < y2 <= 1
        and 0 <= timestamp < math.inf
        and 0 <= person < PERSONS
        and person.is_integer()
    ):
        return None
    label = words.name_of.get(action)  # type: ignore[call-overload]  # 12.0 finds 12
    video_id = context.video.format(video=fields[0], timestamp=fields[1])
    split = context.split or context.splits.get(video_id)
    if label is None or split is None:
        return None
    return (
        video_id,
        split,
        timestamp,
        None,
        x1,
        y1,
        x2,
        y2,
        label,
        int(action),
        int(person) if len(fields) == 8 else None,
    )


def _empty_frame(fields: list[str], context: Context) -> tuple[str, str] | None:
    """(video_id, split) of a row that is a key frame without a labelled person; None for any other
    row.
    """
    if len(fields) not in (2, 7, 8) or any(fields[2:]) or not fields[0]:
        return None
    timestamp = number(fields[1])
    if timestamp is None or timestamp < 0:
        return None
    video_id = context.video.format(video=fields[0], timestamp=fields[1])
    split = context.split or context.splits.get(video_id)
    return None if split is None else (video_id, split)


def _fault(fields: list[str], context: Context, words: Vocabulary) -> Fault:
    """What is wrong with a row that `_row` refused."""
    if len(fields) not in (2, 7, 8):
        return Fault(
            "(line)",
            f"{len(fields)} instead of 8, 7 or 2: {','.join(fields)}",
            "columns",
            "wrong number of columns",
        )
    if not fields[0]:
        return Fault("video", "", "empty", "empty")
    timestamp = number(fields[1])
    if timestamp is None:
        return Fault("timestamp", fields[1], "value", "not a finite number")
    if timestamp < 0:
        return Fault("timestamp", fields[1], "negative_time", "negative time")
    if any(fields[2:]):
        box = box_fault(fields[2:6], 1.0)
        if box is not None:
            return box._replace(found=",".join(fields[2:6]))
        for name, text in zip(FIELDS[6:], fields[6:], strict=False):
            value = number(text)
            if value is None or not value.is_integer() or not 0 <= value < PERSONS:
                return Fault(name, text, "value", "not a whole number from 0")
        if int(float(fields[6])) not in words.name_of:
            return Fault("label", fields[6], "unknown_label", "unknown label")
    return Fault(
        "video",
        fields[0],
        "unknown_split",
        "no split: the config names none, and no clip has this video",
    )


def _check_spelling(videos: set[str], context: Context) -> None:
    """Raises AnnotationError where the exclusion list spells a video otherwise than the rows do: it
    would leave nothing out, in silence.
    """
    strange = {video for video, _ in context.excluded} - videos
    known = {plain_name(video): video for video in videos} if strange else {}
    for name in sorted(strange):
        if plain_name(name) in known:
            expected = f"the rows' spelling of this video, {known[plain_name(name)]!r}"
            raise AnnotationError(context.file, "exclusions", name, expected)


def _excluded_frames(
    videos: dict[tuple[str, str], str], context: Context
) -> list[tuple[str, str, float]]:
    """The exclusion list's key frames of these videos, as (video_id, split, timestamp in s)."""
    times = dict[str, list[float]]()
    for video, timestamp in context.excluded:
        times.setdefault(video, []).append(timestamp)
    return sorted((*key, time) for key, video in videos.items() for time in times.get(video, ()))


def exclusions(data: bytes, file: str) -> tuple[frozenset[tuple[str, float]], list[Problem]]:
    """Key frames to leave out, as (video as the file names it, timestamp in s). An empty list is a
    good list.
    """
    found, problems = set[tuple[str, float]](), list[Problem]()
    for line, fields in records(data, file) if data.strip() else ():
        if isinstance(fields, Problem):
            problems.append(fields)
            continue
        if len(fields) != 2 or not fields[0]:
            problems.append(
                Problem(
                    file,
                    line,
                    "(line)",
                    shorten(",".join(fields)),
                    "columns",
                    "not video,timestamp",
                )
            )
            continue
        timestamp = number(fields[1])
        if timestamp is None:
            problems.append(
                Problem(file, line, "timestamp", shorten(fields[1]), "value", "not a finite number")
            )
        elif timestamp < 0:
            problems.append(
                Problem(
                    file, line, "timestamp", shorten(fields[1]), "negative_time", "negative time"
                )
            )
        else:
            found.add((fields[0], timestamp))
    return frozenset(found), problems


def write(table: pa.Table, name: Callable[[str], str] = str) -> bytes:
    """Boxes as a csv of this form: ground truth, or detections where the table has a column
    `score`, which then stands last.

    `table` has the columns of BOXES that the form needs: video_id, timestamp_s, x1, y1, x2, y2,
    label_id, and person_id or score. `name` turns a video_id into the file's name of the video.
    Evaluators that take a frame's detections in the order of the file want the best first: rows are
    sorted by score within a key frame, equal ones keep their order. Raises ValueError for a row
    that the reader would refuse.
    """
    last, lines = (
        "score" if "score" in table.schema.names else "person_id",
        list[tuple[str, float, float, str]](),
    )
    for row in table.to_pylist():
        box = [row[side] for side in ("x1", "y1", "x2", "y2")]
        fault, time = box_fault(box, 1.0), number(row["timestamp_s"])
        value = number(row[last]) if last == "score" else 0.0
        if fault is not None or time is None or value is None:
            raise ValueError(
                f"box of {row['video_id']} at {row['timestamp_s']} s with {last} {row[last]}:"
                f" {fault.reason if fault else 'not a number'}"
            )
        stamp = f"{int(time):04d}" if time.is_integer() else repr(time)
        fields = [
            name(row["video_id"]),
            stamp,
            *(str(np.float32(side)) for side in box),
            str(row["label_id"]),
        ]
        text = ",".join(fields if row[last] is None else [*fields, str(row[last])])
        lines.append((fields[0], time, -value, text))
    lines.sort(key=lambda line: line[:3])
    return "".join(f"{line[3]}\n" for line in lines).encode()
