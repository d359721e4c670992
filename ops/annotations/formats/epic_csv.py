"""EPIC-Kitchens-100 csv: one narrated action a row, as labelled clips (recognition) or as segments
of its video (localization).

Form: a header with at least `narration_id,video_id,start_timestamp,stop_timestamp` and, but for the
test list, `verb_class,noun_class`. Timestamps are HH:MM:SS.ss of the video. The config's table says
what rows become, and its `target` (verb, noun or action) which class they have; `verb` and `noun`
beside the class numbers are the narrator's words, not classes, and are not read.

The label of a verb or noun is its `key` in the class file (columns `id,key`), the label_ids are in
the order of `id`. An action is the pair of its classes, written "verb,noun" as the challenge's
results file does; its vocabulary is any csv with the columns `verb_class,noun_class` (so also one
that holds all annotated rows), whose pairs are numbered in order. Without a vocabulary file a label
is the number itself.

The video template may use every column, and `video` for `video_id`. A clip is a place inside its
video; where the video template uses `narration_id`, each clip is its own file, and has no start and
end. The test list has no classes: its clips have null label and label_id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from configs.schema import TableName
from ops.annotations.lines import records
from ops.annotations.rows import Context, Fault, Problem, Read, Rows, interval_fault, shorten
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names
from ops.store.tables import CLIPS, SEGMENTS

TABLE: TableName = "clips"
TABLES: tuple[TableName, ...] = ("clips", "segments")
FOLDER = False
TARGETS = ("verb", "noun", "action")
PLACE = {"narration_id", "video_id", "start_timestamp", "stop_timestamp"}
CLASSES = {"verb": ("verb_class",), "noun": ("noun_class",), "action": ("verb_class", "noun_class")}
EXPECTED = (
    "a header with narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class (no"
    " classes in a list of the test split)"
)
TIME = re.compile(r"(-?)(\d{1,3}):([0-5]?\d):([0-5]?\d(?:\.\d{1,9})?)", re.ASCII)
NUMBER = re.compile(r"\d{1,6}", re.ASCII)


def sniff(name: str, data: bytes) -> bool:
    """Whether the header is EPIC's."""
    header = data.removeprefix(b"\xef\xbb\xbf")[:2000].split(b"\n", 1)[0].decode("latin-1")
    return PLACE <= {field.strip().strip('"') for field in header.split(",")}


def seconds(text: str) -> float | None:
    """Seconds of HH:MM:SS.ss, also negative ones; None for any other text."""
    match = TIME.fullmatch(text.strip())
    if match is None:
        return None
    value = int(match[2]) * 3600 + int(match[3]) * 60 + float(match[4])
    return -value if match[1] else value


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """Classes of a class file (`id,key`), or for actions the pairs of a csv with
    `verb_class,noun_class`. Raises AnnotationError.
    """
    needed = ("verb_class", "noun_class") if target == "action" else ("id", "key")
    found = dict[tuple[int, ...], str]()
    for line, values in _table(
        data, file, set(needed), f"a csv with the columns {','.join(needed)}"
    ):
        if isinstance(values, Problem):
            raise AnnotationError(f"{file}:{line}", values.field, values.found, values.reason)
        numbers = [values[name] for name in needed if name != "key"]
        if not all(NUMBER.fullmatch(number) for number in numbers) or (
            "key" in needed and not values["key"]
        ):
            raise AnnotationError(
                f"{file}:{line}",
                ",".join(needed),
                shorten(",".join(values[name] for name in needed)),
                "numbers from 0, and names",
            )
        key = tuple(map(int, numbers))
        if key in found and target != "action":
            raise AnnotationError(f"{file}:{line}", "id", numbers[0], "each id once")
        found[key] = ",".join(map(str, key)) if target == "action" else values["key"]
    names = tuple(found[key] for key in sorted(found))
    if not names or len(set(names)) != len(names):
        raise AnnotationError(
            file, "key", "no class" if not names else "a name twice", "each class name once"
        )
    words = from_names(list(names))
    # of a part of them, with gaps
    return (
        words
        if target == "action"
        else replace(words, numbers=tuple(key[0] for key in sorted(found)))
    )


def _table(
    data: bytes, file: str, required: set[str], expected: str
) -> Iterator[tuple[int, dict[str, str] | Problem]]:
    """(line, values by column) of a csv with a header that has the required columns. Raises
    AnnotationError for another header.
    """
    lines = records(data, file)
    _, first = next(lines)
    if isinstance(first, Problem):
        raise AnnotationError(file, "header", first.found, f"{expected}; {first.reason}")
    header = [name.strip() for name in first]
    if not required <= set(header) or len(set(header)) != len(header):
        raise AnnotationError(file, "header", shorten(",".join(first)), expected)
    for line, fields in lines:
        if isinstance(fields, Problem):
            yield line, fields
        elif len(fields) != len(header):
            found = f"{len(fields)} instead of {len(header)}: {','.join(fields)}"
            yield line, Fault("(line)", found, "columns", "wrong number of columns").at(file, line)
        else:
            yield line, dict(zip(header, fields, strict=True))


def read(data: bytes, context: Context) -> Read:
    """Clips or segments of one file. Raises AnnotationError for a wrong header or target, and when
    no row is good.
    """
    if context.target not in TARGETS:
        raise AnnotationError(
            context.file,
            "target",
            context.target,
            f"target: {', '.join(TARGETS)} in the dataset's config",
        )
    clips, unlabelled = (
        context.table != "segments",
        context.split == "test" and context.table != "segments",
    )
    required = PLACE | (set() if unlabelled else set(CLASSES[context.target]))
    rows = Rows(CLIPS, context.dataset) if clips else Rows(SEGMENTS, context.dataset)
    problems, checked = list[Problem](), False
    for line, values in _table(data, context.file, required, EXPECTED):
        if isinstance(values, Problem):
            problems.append(values)
            continue
        if not checked:
            context.check_template({"video": "text"} | values)
            checked = True
        fault = _add(rows, values, context, clips, f"{context.file}:{line}")
        if fault is not None:
            problems.append(fault.at(context.file, line))
    return rows.finish(context, problems, EXPECTED)


def _add(
    rows: Rows, values: Mapping[str, str], context: Context, clips: bool, source: str
) -> Fault | None:
    """Adds the row, or says what is wrong with it."""
    for name in ("narration_id", "video_id"):
        if not values[name]:
            return Fault(name, "", "empty", "empty")
    times = {name: seconds(values[name]) for name in ("start_timestamp", "stop_timestamp")}
    for name, time in times.items():
        if time is None:
            return Fault(name, values[name], "value", "not HH:MM:SS.ss")
    start_s, end_s = times.values()
    fault = interval_fault(start_s, end_s, ("start_timestamp", "stop_timestamp"))
    if fault is not None:
        return fault
    video_id = context.video.format(**{"video": values["video_id"], **values})
    split = context.split or context.splits.get(video_id)
    if split is None:
        return Fault(
            "video_id",
            values["video_id"],
            "unknown_split",
            "no split: name one in the dataset's config",
        )
    label = _label(values, context)
    if isinstance(label, Fault):
        return label
    whole_file = "{narration_id" in context.video
    place = (None, None) if whole_file and clips else (start_s, end_s)
    row = (video_id, split, context.target, *label, *place, source)
    if clips:
        rows.add(video_id if whole_file else values["narration_id"], *row)
    else:
        rows.add(*row)
    return None


def _label(values: Mapping[str, str], context: Context) -> tuple[str | None, int | None] | Fault:
    """(label, label_id) of a row; (None, None) in a list without classes."""
    columns = CLASSES[context.target]
    if any(column not in values for column in columns):
        return None, None
    for column in columns:
        if not NUMBER.fullmatch(values[column]):
            return Fault(
                column,
                values[column],
                "empty" if not values[column] else "value",
                "not a class number from 0",
            )
    numbers = [int(values[column]) for column in columns]
    name, words = ",".join(map(str, numbers)), context.vocabulary
    if words is None:
        return name, -1
    if name in words.id_of:  # pairs, and numbers of a vocabulary that was collected from rows
        return name, words.id_of[name]
    if len(numbers) == 1 and (label := words.numbered(numbers[0])) is not None:
        return label, words.id_of[label]
    return Fault("label", name, "unknown_label", "unknown label")
