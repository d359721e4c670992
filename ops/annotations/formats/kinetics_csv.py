"""Kinetics csv: one labelled clip a row.

Form (Kinetics-400/600/700): header `label,youtube_id,time_start,time_end,split`, in any order, further columns allowed (`is_cc`). The
official test lists have no label column: rows without a label are good only in the test split, and have null label and label_id.

Times are seconds of the original upload. When the dataset's video template uses `time_start` or `time_end`, each clip is its own
file, cut at those times: the clip is then the whole file, and start_s and end_s are null. Otherwise they are seconds of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

from ops.annotations.lines import records
from ops.annotations.rows import Context, Problem, Read, Rows, interval_fault, shorten, split_name
from ops.annotations.vocabulary import AnnotationError
from ops.store.tables import CLIPS

COLUMNS = ("clip_id", "video_id", "split", "label", "label_id", "start_s", "end_s", "source")
EXPECTED = "a header with label,youtube_id,time_start,time_end,split (label may be missing in a list of the test split)"


def read(data: bytes, context: Context) -> Read:
    """Clips of one file. Raises AnnotationError for a wrong header and when no row is good."""
    lines = records(data, context.file)
    header = _header(lines, context)
    context.check_template({name: 1 if name.startswith("time_") else "text" for name in header})
    whole_file = "{time_start" in context.video or "{time_end" in context.video
    rows, problems = Rows(CLIPS, COLUMNS, context.dataset), list[Problem]()
    for line, fields in lines:
        if isinstance(fields, Problem):
            problems.append(fields)
            continue
        if len(fields) != len(header):
            found = f"{len(fields)} instead of {len(header)}: {','.join(fields)}"
            problems.append(Problem(context.file, line, "(line)", shorten(found), "wrong number of columns"))
            continue
        values: dict[str, object] = dict(zip(header, fields, strict=True))
        fault = _add(rows, values, context, whole_file, f"{context.file}:{line}")
        if fault is not None:
            problems.append(Problem(context.file, line, fault[0], shorten(fault[1]), fault[2]))
    return rows.finish(context, problems, EXPECTED)


def _header(lines: Iterator[tuple[int, list[str] | Problem]], context: Context) -> list[str]:
    _, first = next(lines)
    if isinstance(first, Problem):
        raise AnnotationError(context.file, "header", first.found, f"{EXPECTED}; {first.reason}")
    header = [name.strip() for name in first]
    required = {"youtube_id", "time_start", "time_end"} | (set() if context.split else {"split"})
    if not required <= set(header) or len(set(header)) != len(header):
        raise AnnotationError(context.file, "header", shorten(",".join(first)), EXPECTED)
    return header


def _add(rows: Rows, values: dict[str, object], context: Context, whole_file: bool, source: str) -> tuple[str, object, str] | None:
    """Adds the row, or says what is wrong with it: (field, found, reason)."""
    fault = interval_fault(values["time_start"], values["time_end"], ("time_start", "time_end"))
    if fault is not None:
        return fault
    if not values["youtube_id"]:
        return "youtube_id", "", "empty"
    split = context.split or split_name(str(values["split"]))
    if split is None:
        return "split", values["split"], "unknown split; known: train, val (validate), test"
    label = str(values.get("label", "")) or None
    if label is None and split != "test":
        return "label", "", f"no label in the {split} split"
    label_id = None if label is None else context.label_id(label)
    if label is not None and label_id is None:
        return "label", label, "unknown label"
    start, end = float(str(values["time_start"])), float(str(values["time_end"]))
    values["time_start"], values["time_end"] = (int(start) if start.is_integer() else start), (int(end) if end.is_integer() else end)
    try:
        video_id = context.video.format(**values)
    except ValueError:  # an integer format code on a fraction of a second
        return "time_start", f"{start:g}", f"does not fit the video template {context.video!r}"
    if whole_file:
        rows.add(video_id, video_id, split, label, label_id, None, None, source)
    else:
        rows.add(f"{video_id}@{values['time_start']}-{values['time_end']}", video_id, split, label, label_id, start, end, source)
    return None
