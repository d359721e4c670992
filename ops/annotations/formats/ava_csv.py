"""AVA csv: labelled person boxes on key frames.

Form, without header: `video,timestamp,x1,y1,x2,y2,action_id,person_id`, one row per action of a person; the timestamp is in seconds of the
video (AVA writes whole seconds, padded: 0902), boxes are fractions of the image. Actions are ids of the vocabulary file: label_id is the
id as the file gives it, from 1, with gaps where the vocabulary has them. An exclusion list has rows of `video,timestamp`; the boxes of
those key frames are left out and counted.
"""

from __future__ import annotations

import math
from typing import Any

from ops.annotations.lines import records
from ops.annotations.rows import Context, Problem, Read, Rows, box_fault, number, shorten
from ops.annotations.vocabulary import AnnotationError, Vocabulary
from ops.store.tables import BOXES

FIELDS = ("video", "timestamp", "x1", "y1", "x2", "y2", "action_id", "person_id")
COLUMNS = ("video_id", "split", "timestamp_s", "x1", "y1", "x2", "y2", "label", "label_id", "person_id", "source")
EXPECTED = "rows of video,timestamp,x1,y1,x2,y2,action_id,person_id, without a header"


def read(data: bytes, context: Context) -> Read:
    """Boxes of one file. Needs a vocabulary. Raises AnnotationError when no row is good."""
    if context.vocabulary is None:
        raise AnnotationError(context.file, "labels", None, "a vocabulary in the dataset's config: the rows hold ids only")
    context.check_template({"video": "text", "timestamp": "0902"})
    rows, problems, excluded = Rows(BOXES, COLUMNS, context.dataset), list[Problem](), 0
    for line, fields in records(data, context.file):
        if isinstance(fields, Problem):
            problems.append(fields)
            continue
        row = _row(fields, context, context.vocabulary)
        if row is None:
            field, found, reason = _fault(fields, context, context.vocabulary)
            problems.append(Problem(context.file, line, field, shorten(found), reason))
        elif (fields[0], row[2]) in context.excluded:
            excluded += 1
        else:
            rows.add(*row, f"{context.file}:{line}")
    return rows.finish(context, problems, EXPECTED, excluded)


def _row(fields: list[str], context: Context, words: Vocabulary) -> tuple[Any, ...] | None:
    """The good row of these fields, without its source; None for a bad one. A file has a million: one look at all fields at once."""
    numbers = "".join(fields[1:])
    if len(fields) != len(FIELDS) or not fields[0] or "_" in numbers or not numbers.isascii():  # as `number` has it
        return None
    try:
        timestamp, x1, y1, x2, y2, action, person = map(float, fields[1:])
    except ValueError:
        return None
    # NaN fails every comparison
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 and 0 <= timestamp < math.inf and 0 <= person < 2**31 and person.is_integer()):
        return None
    label = words.name_of.get(action)  # type: ignore[call-overload]  # 12.0 finds 12
    video_id = context.video.format(video=fields[0], timestamp=fields[1])
    split = context.split or context.splits.get(video_id)
    if label is None or split is None:
        return None
    return video_id, split, timestamp, x1, y1, x2, y2, label, int(action), int(person)


def _fault(fields: list[str], context: Context, words: Vocabulary) -> tuple[str, object, str]:
    """What is wrong with a row that `_row` refused, as (field, found, reason)."""
    if len(fields) != len(FIELDS):
        return "(line)", f"{len(fields)} instead of {len(FIELDS)}: {','.join(fields)}", "wrong number of columns"
    if not fields[0]:
        return "video", "", "empty"
    timestamp = number(fields[1])
    if timestamp is None or timestamp < 0:
        return "timestamp", fields[1], "not a finite number" if timestamp is None else "negative time"
    box = box_fault(fields[2:6], 1.0)
    if box is not None:
        return "box", ",".join(fields[2:6]), box[1]
    for name, text in zip(FIELDS[6:], fields[6:], strict=True):
        value = number(text)
        if value is None or not value.is_integer() or not 0 <= value < 2**31:
            return name, text, "not a whole number from 0"
    if int(float(fields[6])) not in words.name_of:
        return "label", fields[6], "unknown label"
    return "video", fields[0], "no split: the config names none, and no clip has this video"


def exclusions(data: bytes, file: str) -> tuple[frozenset[tuple[str, float]], list[Problem]]:
    """Key frames to leave out, as (video as the file names it, timestamp in s). An empty list is a good list."""
    found, problems = set[tuple[str, float]](), list[Problem]()
    for line, fields in records(data, file) if data.strip() else ():
        if isinstance(fields, Problem):
            problems.append(fields)
            continue
        timestamp = number(fields[1]) if len(fields) == 2 else None
        if timestamp is None or timestamp < 0 or not fields[0]:
            problems.append(Problem(file, line, "(line)", shorten(",".join(fields)), "not video,timestamp"))
        else:
            found.add((fields[0], timestamp))
    return frozenset(found), problems
