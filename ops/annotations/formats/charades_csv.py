"""Charades csv: one video a row, with all its actions, as segments or as the labels of the whole
video (multi-label clips).

Form: a header with at least `id,actions,length`; `actions` is `c092 11.90 21.20;c147 0.00 12.60`:
class, start and end in seconds, or empty for a video in which nothing of the 157 classes happens
(it becomes an entry). `length` is the video's duration in seconds.

The vocabulary is the official class file, lines of `c000 Holding some clothes`: labels are the
texts, in the order of the numbers. Without it a label is its code. As clips (which need
`multi_label: true`) every distinct class of a video is one row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from configs.schema import TableName
from ops.annotations.lines import records, text_lines
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
)
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names
from ops.store.tables import CLIPS, SEGMENTS

TABLE: TableName = "segments"
TABLES: tuple[TableName, ...] = ("segments", "clips")
FOLDER = False
REQUIRED = {"id", "actions"}
EXPECTED = "a header with id,actions,length, and actions like 'c092 11.90 21.20;c147 0.00 12.60'"
CODE = re.compile(r"c(\d{3})", re.ASCII)
CLASS = re.compile(r"c(\d{3})\s+(\S.*)", re.ASCII)


def sniff(name: str, data: bytes) -> bool:
    """Whether the header is that of Charades."""
    header = data.removeprefix(b"\xef\xbb\xbf")[:2000].split(b"\n", 1)[0].decode("latin-1")
    return REQUIRED | {"length"} <= {field.strip() for field in header.split(",")}


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The class file. Raises AnnotationError for a line of another form, and for a code or text
    given twice.
    """
    found = dict[int, str]()
    for line, text in text_lines(data, file):
        match = None if isinstance(text, Problem) else CLASS.fullmatch(text.strip())
        if match is None or int(match[1]) in found or match[2] in found.values():
            shown = text.found if isinstance(text, Problem) else text
            raise AnnotationError(
                f"{file}:{line}",
                "class",
                shorten(shown),
                "'c000 Holding some clothes', each code and text once",
            )
        found[int(match[1])] = match[2]
    ids = sorted(found)
    # a part of the classes has gaps in its numbers
    return replace(from_names([found[key] for key in ids]), numbers=tuple(ids))


def read(data: bytes, context: Context) -> Read:
    """Segments or clips of one file. Raises AnnotationError for a wrong header, and when there is
    neither a good action nor a video.
    """
    clips = context.table == "clips"
    if clips and not context.multi_label:
        raise AnnotationError(
            context.file,
            "multi_label",
            False,
            "multi_label: true in the dataset's config, since a video has several actions",
        )
    rows = Rows(CLIPS, context.dataset) if clips else Rows(SEGMENTS, context.dataset)
    problems, entries = list[Problem](), dict[str, Entry]()
    for line, values in _table(data, context):
        if isinstance(values, Problem):
            problems.append(values)
            continue
        source = f"{context.file}:{line}"
        entry = _entry(values, context, entries)
        if isinstance(entry, Fault):
            problems.append(entry.at(context.file, line))
            continue
        entries[entry.video_id] = entry
        labels = dict[str, int]()
        for text in values["actions"].split(";"):
            action = _action(text, context) if text.strip() else None
            if isinstance(action, Fault):
                problems.append(action.at(context.file, line))
            elif action is not None and clips:
                labels[action[0]] = action[1]
            elif action is not None:
                rows.add(entry.video_id, entry.split, context.target, *action, source)
        for label, label_id in labels.items():
            rows.add(
                entry.video_id,
                entry.video_id,
                entry.split,
                context.target,
                label,
                label_id,
                None,
                None,
                source,
            )
    return rows.finish(context, problems, EXPECTED, entries=entries.values())


def _table(data: bytes, context: Context) -> Iterator[tuple[int, dict[str, str] | Problem]]:
    """(line, values by column) of each row. Raises AnnotationError for a wrong header."""
    lines = records(data, context.file)
    _, first = next(lines)
    header = [] if isinstance(first, Problem) else [name.strip() for name in first]
    if not REQUIRED <= set(header) or len(set(header)) != len(header):
        found = first.found if isinstance(first, Problem) else shorten(",".join(first))
        raise AnnotationError(context.file, "header", found, EXPECTED)
    context.check_template({name: "text" for name in header} | {"video": "text"})
    for line, fields in lines:
        if isinstance(fields, Problem):
            yield line, fields
        elif len(fields) != len(header):
            found = f"{len(fields)} instead of {len(header)}: {','.join(fields)}"
            yield (
                line,
                Fault("(line)", found, "columns", "wrong number of columns").at(context.file, line),
            )
        else:
            yield line, dict(zip(header, fields, strict=True))


def _entry(
    values: Mapping[str, str], context: Context, entries: Mapping[str, Entry]
) -> Entry | Fault:
    """The video of a row, or what is wrong with it."""
    if not values["id"]:
        return Fault("id", "", "empty", "empty")
    length = number(values["length"]) if values.get("length") else None
    if values.get("length") and (length or 0) <= 0:
        return Fault("length", values["length"], "value", "not a positive number of seconds")
    video_id = context.video.format(**{**values, "video": values["id"]})
    if video_id in entries:
        return Fault("id", values["id"], "duplicate", "the video has a row above")
    split = context.split or context.splits.get(video_id)
    if split is None:
        return Fault(
            "id", values["id"], "unknown_split", "no split: name one in the dataset's config"
        )
    return Entry(video_id, split, length)


def _action(text: str, context: Context) -> tuple[str, int, float, float] | Fault:
    """(label, label_id, start_s, end_s) of one action, or what is wrong with it."""
    fields = text.split()
    if len(fields) != 3:
        return Fault("actions", text, "structure", "not 'c092 11.90 21.20'")
    match, words = CODE.fullmatch(fields[0]), context.vocabulary
    if match is None:
        return Fault("label", fields[0], "value", "not a class code like c092")
    fault = interval_fault(fields[1], fields[2], ("actions", "actions"))
    if fault is not None:
        return fault._replace(found=text)
    times = float(fields[1]), float(fields[2])
    # codes of a vocabulary that was collected from rows
    if words is None or fields[0] in words.id_of:
        return fields[0], -1 if words is None else words.id_of[fields[0]], *times
    label = words.numbered(int(match[1]))
    return (
        Fault("label", fields[0], "unknown_label", "unknown label")
        if label is None
        else (label, words.id_of[label], *times)
    )
