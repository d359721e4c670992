"""Video lists of MMAction2 (`path label`) and PySlowFast (csv files with a space or a comma between
path and label), without header.

A line is a path, then its label ids, with spaces, tabs or commas between them: one id, none in a
test list (-1 says none too), several where the config says `multi_label: true`. A path may hold
spaces and commas: it ends at the extension of a video file that a separator or the end of the line
follows; where there is none, at the numbers that end the line. Ids count from 0 and are positions
in the vocabulary file; without one, a label is the id's decimal text. The config names the split,
since the list does not.

Kinetics-710 is published in this form only: one list for each source and split, with ids of a map
of 710 labels.
"""

from __future__ import annotations

import re

from configs.schema import TableName
from ops.annotations.clips import EXTENSION, Clips, path_columns, whole_number
from ops.annotations.lines import text_lines
from ops.annotations.rows import Context, Fault, Problem, Read
from ops.annotations.vocabulary import AnnotationError

TABLE: TableName = "clips"
FOLDER = False
OPTIONS = ("first_id",)
EXPECTED = "lines of 'path label_id' (space, tab or comma between them), without a header"
SEPARATORS = re.compile(r"[\s,]+")
PATH_END = re.compile(rf"{EXTENSION.pattern.removesuffix('$')}\"?(?=[\s,]|$)", re.IGNORECASE)

# their numbers are no ids from 0
OTHERS = re.compile(r"(?:^|/)(?:train|test)list\d\d\.txt$|_test_split\d\.txt$")


def sniff(name: str, data: bytes) -> bool:
    """Whether the first lines are paths of video files, all with ids of labels or all without; not
    the lists of UCF101 and HMDB51.
    """
    if OTHERS.search(name):
        return False
    lines = [
        line.strip() for line in data.decode("utf-8", "replace").splitlines()[:20] if line.strip()
    ]
    fields = [split_line(line)[1] for line in lines if PATH_END.search(line)]
    ids_alone = all(
        whole_number(field) is not None or field == "-1" for row in fields for field in row
    )
    return (
        bool(lines) and len(fields) == len(lines) and ids_alone and (all(fields) or not any(fields))
    )


def read(data: bytes, context: Context) -> Read:
    """Clips of one list. Raises AnnotationError when the config names no split and when no row is
    good.
    """
    if context.split is None:
        raise AnnotationError(
            context.file, "split", None, "a split in the dataset's config: the list names none"
        )
    clips = Clips(context, path_columns("folder/name.mp4"))
    for line, text in text_lines(data, context.file):
        if isinstance(text, Problem):
            clips.refuse(text)
            continue
        path, fields = split_line(text)
        labels = ids(fields)
        if isinstance(labels, Fault):
            clips.refuse(labels, line)
        else:
            clips.add(path_columns(path), labels, context.split, line)
    return clips.finish(EXPECTED)


def split_line(text: str) -> tuple[str, list[str]]:
    """(path, the fields after it)."""
    text = text.strip()
    end = PATH_END.search(text)
    if end is None:
        return ending_numbers(text)
    return text[: end.end()].strip('"'), [
        field for field in SEPARATORS.split(text[end.end() :]) if field
    ]


def ending_numbers(text: str) -> tuple[str, list[str]]:
    """(what stands before, the whole numbers that end a line); a number that is all of the line is
    a name.
    """
    # fields at even places, what separates them at odd ones
    parts = re.split(r"([\s,]+)", text.strip(" \t\r,"))
    last = len(parts) - 1
    while last > 0 and whole_number(parts[last].removeprefix("-")) is not None:
        last -= 2
    return "".join(parts[: last + 1]), parts[last + 2 :: 2]


def ids(fields: list[str]) -> list[str | int] | Fault:
    """Ids of labels; none for a lone -1, by which lists say that a video has no label."""
    if fields == ["-1"]:
        return []
    found = [whole_number(field) for field in fields]
    if None in found:
        return Fault(
            "label", " ".join(fields), "value", "not the id of a label, a whole number from 0"
        )
    return [label for label in found if label is not None]
