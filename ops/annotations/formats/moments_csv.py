"""Moments in Time and Multi-Moments in Time csv, without header.

Form of Moments in Time: `dancing/yt-5of6ffo6-Bw_205.mp4,dancing,6,0`: path, label, workers who
agree and who disagree (these two may be missing). The label must be the path's first folder. Form
of Multi-Moments (the config says `multi_label: true`): `path,12,45`: ids that count from 0 in the
vocabulary. `moments_categories.txt` has lines of `clapping,0`; the lists of version 2 have the name
alone. The config names the split. Files lie in `training/` and `validation/`, which the video
template adds: `training/{video}`.
"""

from __future__ import annotations

from dataclasses import replace

from configs.schema import TableName
from ops.annotations.clips import Clips, path_columns, whole_number
from ops.annotations.formats.video_list import ids
from ops.annotations.lines import records, text_lines
from ops.annotations.rows import Context, Fault, Problem, Read
from ops.annotations.vocabulary import (
    INVISIBLE,
    AnnotationError,
    Vocabulary,
    from_names,
    is_header,
    unquoted,
)

TABLE: TableName = "clips"
FOLDER = False
OPTIONS = ("first_id",)
EXPECTED = (
    "rows of path,label,agree,disagree without a header (multi_label: path,label_id,label_id,...)"
)


def sniff(name: str, data: bytes) -> bool:
    """Whether the first lines are a path, the name of its folder and two numbers."""
    rows = [
        line.strip().split(",")
        for line in data.decode("utf-8", "replace").splitlines()[:20]
        if line.strip()
    ]
    return bool(rows) and all(
        len(row) == 4
        and row[0].startswith(f"{row[1]}/")
        and all(whole_number(field) is not None for field in row[2:])
        for row in rows
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
    for line, fields in records(data, context.file):
        if isinstance(fields, Problem):
            clips.refuse(fields)
            continue
        labels = _several(fields) if context.multi_label else _one(fields)
        if isinstance(labels, Fault):
            clips.refuse(labels, line)
        else:
            clips.add(path_columns(fields[0].strip()), labels, context.split, line)
    return clips.finish(EXPECTED)


def _one(fields: list[str]) -> list[str | int] | Fault:
    """The label of a row of Moments in Time."""
    if len(fields) not in (2, 4):
        return Fault(
            "(line)",
            f"{len(fields)} instead of 4: {','.join(fields)}",
            "columns",
            "wrong number of columns",
        )
    path, label = fields[0].strip(), fields[1].strip()
    if not path or not label:
        return Fault("label" if path else "path", "", "empty", "empty")
    for name, text in zip(("agree", "disagree"), fields[2:], strict=False):
        if whole_number(text.strip()) is None:
            return Fault(name, text, "value", "not a number of workers")
    folder = path.removeprefix("./").partition("/")[0]
    if folder != label:
        return Fault(
            "label",
            f"{label} for {path}",
            "contradiction",
            "the label is not the folder of the video",
        )
    return [label]


def _several(fields: list[str]) -> list[str | int] | Fault:
    """The label ids of a row of Multi-Moments."""
    if not fields[0].strip():
        return Fault("path", "", "empty", "empty")
    return ids([field.strip() for field in fields[1:]])


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The classes of `moments_categories.txt`. Raises AnnotationError unless the ids are 0, 1, 2
    ... and every name is given once.
    """
    names, known, word = dict[int, str](), set[str](), ""
    for line, text in text_lines(data, file):
        if isinstance(text, Problem):
            raise AnnotationError(f"{file}:{line}", "class", text.found, f"name,id ({text.reason})")
        if not names and is_header(text.split(",")):
            word = f"the first line, '{text.strip()[:80]}', is taken for a header"
            continue
        name, comma, number = text.strip(INVISIBLE).rpartition(",")
        place = whole_number(number.strip(INVISIBLE)) if comma else len(names)
        name = unquoted((name if comma else number).strip(INVISIBLE) or " ", file, line).strip()
        if place is None or place in names or not name or name in known:
            raise AnnotationError(
                f"{file}:{line}",
                "class",
                text[:80],
                "name,id (or a name alone), each name and each id once",
            )
        names[place] = name
        known.add(name)
    if not names or sorted(names) != list(range(len(names))):
        raise AnnotationError(
            file,
            "class",
            f"{len(names)} classes, ids up to {max(names, default=0)}",
            "ids from 0 without a gap",
        )
    return replace(from_names([names[place] for place in sorted(names)]), word=word)
