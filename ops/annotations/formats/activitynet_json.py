"""ActivityNet json: labelled segments of untrimmed videos, in seconds. THUMOS14 is distributed in the same form.

Form: `{"database": {video: {"subset": str, "duration": s, "annotations": [{"label": str, "segment": [start_s, end_s]}]}}}`; the inner
mapping alone is read too (`duration_second`, `duration_frame` are its authors' names). A video without a `subset` needs the split in the
dataset's config or in its clips. `label_id` and `segment(frames)` of the file are not read: ids come from the vocabulary.
Videos without annotations (the testing subset) give no rows.
"""

from __future__ import annotations

import json
from typing import Any

from ops.annotations.rows import Context, Problem, Read, Rows, interval_fault, number, shorten, split_name
from ops.annotations.vocabulary import AnnotationError
from ops.store.tables import SEGMENTS

COLUMNS = ("video_id", "split", "label", "label_id", "start_s", "end_s", "source")
EXPECTED = '{"database": {video: {"subset": "training", "annotations": [{"label": "...", "segment": [start_s, end_s]}]}}}'


def load(data: bytes, file: str) -> tuple[Any, set[str]]:
    """The parsed json and the keys that some mapping in it holds twice. Raises AnnotationError with line and column."""
    repeated = set[str]()

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen = set[str]()
            repeated.update(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return result

    if not data.strip():
        raise AnnotationError(file, "(whole file)", "an empty file", "json")
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=mapping)
        if b"\\u" in data:  # an escaped half of a surrogate pair is valid json, but not text that a table can hold
            json.dumps(content, ensure_ascii=False).encode()
        return content, repeated
    except UnicodeDecodeError as error:
        raise AnnotationError(file, "encoding", f"byte {data[error.start]:#04x} at {error.start}", "UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{file}:{error.lineno}", f"column {error.colno}", error.msg, "valid json") from error
    except UnicodeEncodeError as error:
        found = ascii(error.object[error.start : error.end])
        raise AnnotationError(file, "encoding", found, "whole characters, not half a surrogate pair") from error
    except ValueError as error:  # a number of thousands of digits
        raise AnnotationError(file, "(whole file)", str(error), "valid json") from error
    except RecursionError as error:
        raise AnnotationError(file, "(whole file)", "brackets nested too deeply", "json of a few levels") from error


def read(data: bytes, context: Context) -> Read:
    """Segments of one file. Raises AnnotationError when it is not of this form and when no segment is good."""
    content, repeated = load(data, context.file)
    context.check_template({"video": "text", "subset": "text"})
    database = content.get("database", content) if isinstance(content, dict) else None
    if not isinstance(database, dict) or not any(isinstance(entry, dict) and "annotations" in entry for entry in database.values()):
        found = f"keys {', '.join(list(content)[:5])}" if isinstance(content, dict) else type(content).__name__
        raise AnnotationError(context.file, "(whole file)", shorten(found), EXPECTED)
    rows, problems = Rows(SEGMENTS, COLUMNS, context.dataset), list[Problem]()
    for video, entry in database.items():
        if video in repeated:  # json keeps the last of two; which one is meant is not for us to say
            problems.append(Problem(context.file, 0, "video", shorten(video), "video given twice"))
        else:
            problems.extend(_video(rows, video, entry, context))
    return rows.finish(context, problems, EXPECTED)


def _video(rows: Rows, video: str, entry: Any, context: Context) -> list[Problem]:
    """Adds the good segments of one video; gives the problems of the others."""
    if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), list):
        return [Problem(context.file, 0, "annotations", shorten(f"{video}: {entry}"), "a video is a mapping with a list of annotations")]
    duration = entry.get("duration", entry.get("duration_second"))
    if duration is not None and (number(duration) or 0) <= 0:
        return [Problem(context.file, 0, "duration", shorten(f"{video}: {duration}"), "not a positive number of seconds")]
    subset = entry.get("subset")
    video_id = context.video.format(video=video, subset=subset)
    split = context.split or (context.splits.get(video_id) if subset is None else split_name(str(subset)))
    if split is None:
        return [Problem(context.file, 0, "subset", shorten(f"{video}: {subset}"), "unknown split; known: training, validation, testing")]
    problems = []
    for index, annotation in enumerate(entry["annotations"]):
        where = f"{video}.annotations[{index}]"
        fault = _add(rows, video_id, split, annotation, context, f"{context.file}:{where}")
        if fault is not None:
            problems.append(Problem(context.file, 0, fault[0], shorten(f"{where}: {fault[1]}"), fault[2]))
    return problems


def _add(rows: Rows, video_id: str, split: str, annotation: Any, context: Context, source: str) -> tuple[str, object, str] | None:
    """Adds the row, or says what is wrong with it: (field, found, reason)."""
    if not isinstance(annotation, dict):
        return "annotation", annotation, "an annotation is a mapping with label and segment"
    label, segment = annotation.get("label"), annotation.get("segment")
    if not isinstance(label, str) or not label:
        return "label", label, "not a label"
    label_id = context.label_id(label)
    if label_id is None:
        return "label", label, "unknown label"
    if not isinstance(segment, list) or len(segment) != 2:
        return "segment", segment, "a segment is [start_s, end_s]"
    fault = interval_fault(segment[0], segment[1], ("segment", "segment"))
    if fault is None:
        rows.add(video_id, split, label, label_id, float(segment[0]), float(segment[1]), source)
    return fault
