"""ActivityNet json: labelled segments of untrimmed videos, in seconds. THUMOS14 is distributed in
the same form.

Form: `{"database": {video: {"subset": str, "duration": s, "fps": f, "annotations": [{"label": str,
"segment": [start_s, end_s]}]}}}`; the inner mapping alone is read too (`duration_second`,
`duration_frame` are its authors' names). Every listed video becomes an entry, also one without
annotations (the testing subset, a background video). `segment(frames)` is not read, and `label_id`
only where this file is named as the vocabulary: ids are then the file's own, or the sorted labels
of all its videos, as ActionFormer takes them.

The config's `subset` reads the videos of one subset only, so that THUMOS14's "Validation" and
"Test" can be given the splits that the field uses them for. A video without a `subset` needs the
split in the config, or in other files of the dataset. A csv with the columns `video,subset` and,
optionally, `seconds` and `fps` (as BSN's authors give them beside a json without subsets) is read
too: entries alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from configs.schema import TableName
from ops.annotations.json_text import load
from ops.annotations.lines import records
from ops.annotations.rows import (
    Context,
    Entry,
    Fault,
    Problem,
    Read,
    Rows,
    interval_fault,
    number,
    shorten,
    split_name,
)
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names, parse
from ops.store.tables import SEGMENTS

TABLE: TableName = "segments"
FOLDER = False
OPTIONS = ("subset",)
EXPECTED = (
    '{"database": {video: {"subset": "training", "annotations": [{"label": "...", "segment":'
    " [start_s, end_s]}]}}}"
)
FIELDS = {
    "database",
    "subset",
    "duration",
    "duration_second",
    "fps",
    "annotations",
    "label",
    "segment",
}


def sniff(name: str, data: bytes) -> bool:
    """Whether the file begins like this form, or like its csv of subsets."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"{"):
        return b'"annotations"' in data and (b'"segment"' in data or b'"subset"' in data)
    return _is_info(start)


def _is_info(start: bytes) -> bool:
    return {b"video", b"subset"} <= set(start[:2000].split(b"\n", 1)[0].strip().split(b","))


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """Labels of an annotation file of this form (all subsets), of a csv with the header `action`,
    or of a text file of one label a line.

    Raises AnnotationError, also when one label has two ids.
    """
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _own_vocabulary(_database(load(data, file)[0], file), file)
    return parse(data, file, own_ids=False)


def _own_vocabulary(database: dict[str, Any], file: str) -> Vocabulary:
    ids = dict[str, set[int | None]]()
    for entry in database.values():
        annotations = entry.get("annotations") if isinstance(entry, dict) else None
        for item in annotations if isinstance(annotations, list) else ():
            if isinstance(item, dict) and isinstance(item.get("label"), str):
                given = item.get("label_id")
                ids.setdefault(item["label"], set()).add(
                    given if isinstance(given, int) and not isinstance(given, bool) else None
                )
    if not ids:
        raise AnnotationError(file, "labels", "no label", EXPECTED)
    several = next((label for label, found in ids.items() if len(found) > 1), None)
    if several is not None:
        raise AnnotationError(
            file,
            "label_id",
            f"{sorted(map(str, ids[several]))} for '{several}'",
            "one id for each label",
        )
    numbers = {label: found.pop() for label, found in ids.items()}
    if set(numbers.values()) == set(range(len(numbers))):
        return from_names(sorted(numbers, key=lambda label: numbers[label] or 0))
    return from_names(sorted(numbers))


def read(data: bytes, context: Context) -> Read:
    """Segments of one file. Raises AnnotationError when it is not of this form and when it has
    neither a good segment nor a video.
    """
    if _is_info(data.removeprefix(b"\xef\xbb\xbf")):
        return _read_info(data, context)
    content, repeated = load(data, context.file)
    context.check_template({"video": "text", "subset": "text"})
    database = _database(content, context.file)
    rows, problems, entries = (Rows(SEGMENTS, context.dataset), list[Problem](), list[Entry]())
    subsets = set[str]()
    if twice := sorted(FIELDS & repeated):
        problems.append(
            Fault(
                "(whole file)",
                ", ".join(twice),
                "contradiction",
                "a field given twice in one place",
            ).at(context.file, 0)
        )
    for video, entry in database.items():
        subset = entry.get("subset") if isinstance(entry, dict) else None
        subsets.add(str(subset))
        if context.subset is not None and str(subset).lower() != context.subset.lower():
            continue
        if video in repeated:  # json keeps the last of two; which one is meant is not for us to say
            problems.append(
                Fault("video", video, "contradiction", "video given twice").at(context.file, 0)
            )
        else:
            problems.extend(_video(rows, entries, video, entry, context))
    if context.subset is not None and not rows.count and not entries and not problems:
        raise AnnotationError(
            context.file,
            "subset",
            context.subset,
            f"a subset of the file: {shorten(', '.join(sorted(subsets)))}",
        )
    return rows.finish(context, problems, EXPECTED, entries=entries)


def _database(content: Any, file: str) -> dict[str, Any]:
    database = content.get("database", content) if isinstance(content, dict) else None
    if not isinstance(database, dict) or not any(
        isinstance(entry, dict) and "annotations" in entry for entry in database.values()
    ):
        found = (
            f"keys {', '.join(list(content)[:5])}"
            if isinstance(content, dict)
            else type(content).__name__
        )
        raise AnnotationError(file, "(whole file)", shorten(found), EXPECTED)
    return database


def _video(
    rows: Rows, entries: list[Entry], video: str, entry: Any, context: Context
) -> list[Problem]:
    """Adds one video and its good segments; gives the problems of the others."""
    fault, facts = _entry(video, entry, context)
    if facts is None:
        return [fault.at(context.file, 0, video)]
    entries.append(facts)
    problems = []
    for index, annotation in enumerate(entry["annotations"]):
        place = f"{video}.annotations[{index}]"
        fault_or_none = _add(rows, facts, annotation, context, f"{context.file}:{place}")
        if fault_or_none is not None:
            problems.append(fault_or_none.at(context.file, 0, place))
    return problems


def _entry(video: str, entry: Any, context: Context) -> tuple[Fault, Entry | None]:
    """The video as the file lists it; None, and what is wrong, when it cannot be used."""
    if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), list):
        return (
            Fault(
                "annotations", entry, "structure", "a video is a mapping with a list of annotations"
            ),
            None,
        )
    facts = {
        "duration": entry.get("duration", entry.get("duration_second")),
        "fps": entry.get("fps"),
    }
    for name, value in facts.items():
        if value is not None and (number(value) or 0) <= 0:
            unit = "seconds" if name == "duration" else "frames a second"
            return Fault(name, value, "value", f"not a positive number of {unit}"), None
    subset = entry.get("subset")
    video_id = context.video.format(video=video, subset=subset)
    split = context.split or (
        context.splits.get(video_id) if subset is None else split_name(str(subset))
    )
    fault = Fault(
        "subset", subset, "unknown_split", "unknown split; known: training, validation, testing"
    )
    return fault, (
        None
        if split is None
        else Entry(video_id, split, number(facts["duration"]), number(facts["fps"]))
    )


def _add(rows: Rows, video: Entry, annotation: Any, context: Context, source: str) -> Fault | None:
    """Adds the row, or says what is wrong with it."""
    if not isinstance(annotation, dict):
        return Fault(
            "annotation",
            annotation,
            "structure",
            "an annotation is a mapping with label and segment",
        )
    label, segment = annotation.get("label"), annotation.get("segment")
    if not isinstance(label, str) or not label:
        return Fault("label", label, "value", "not a label")
    label_id = context.label_id(label)
    if label_id is None:
        return Fault("label", label, "unknown_label", "unknown label")
    if not isinstance(segment, list) or len(segment) != 2:
        return Fault("segment", segment, "structure", "a segment is [start_s, end_s]")
    fault = interval_fault(segment[0], segment[1], ("segment", "segment"))
    if fault is None:
        rows.add(
            video.video_id,
            video.split,
            context.target,
            label,
            label_id,
            float(segment[0]),
            float(segment[1]),
            source,
        )
    return fault


def _read_info(data: bytes, context: Context) -> Read:
    """Entries of a csv with the subset of each video."""
    lines = records(data, context.file)
    header = next(lines)[1]
    context.check_template({"video": "text", "subset": "text"})
    problems, entries = list[Problem](), list[Entry]()
    for line, fields in lines:
        if isinstance(fields, Problem) or isinstance(header, Problem):
            problems += [item for item in (fields, header) if isinstance(item, Problem)]
            continue
        if len(fields) != len(header):
            found = f"{len(fields)} instead of {len(header)}: {','.join(fields)}"
            problems.append(
                Fault("(line)", found, "columns", "wrong number of columns").at(context.file, line)
            )
            continue
        values = dict(zip((name.strip() for name in header), fields, strict=True))
        if context.subset is not None and values["subset"].lower() != context.subset.lower():
            continue
        fault, entry = _entry(values["video"], _as_entry(values), context)
        if entry is None or not values["video"]:
            fault = fault if entry is None else Fault("video", "", "empty", "empty")
            problems.append(fault.at(context.file, line))
        else:
            entries.append(entry)
    return Rows(SEGMENTS, context.dataset).finish(context, problems, EXPECTED, entries=entries)


def _as_entry(values: Mapping[str, str]) -> dict[str, Any]:
    facts = {"duration": values.get("seconds") or None, "fps": values.get("fps") or None}
    return {"subset": values["subset"], "annotations": [], **facts}


def write_results(results: Mapping[str, Iterable[tuple[str, float, float, float]]]) -> bytes:
    """The segments of videos, (label, start_s, end_s, score) each, as the challenge's results file
    has them.

    Raises ValueError for a number that is not finite.
    """
    rows = {
        video: [
            {"label": label, "segment": [start, end], "score": score}
            for label, start, end, score in found
        ]
        for video, found in results.items()
    }
    content = {"version": "VERSION 1.3", "results": rows, "external_data": {}}
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
