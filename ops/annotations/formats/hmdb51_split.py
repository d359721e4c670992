"""HMDB51's official splits: a folder with one list for each class and fold,
`brush_hair_test_split1.txt`.

Form: lines of `name.avi 1`, where 1 is training, 2 testing and 0 neither. The class is the name of
the list. The config's `fold` (1, 2 or 3) chooses the lists. The field reports accuracy on the
testing clips: they are the split "val". Lines with 0 give no rows and are counted as excluded.
`{video}` is `class/name` without extension, as the archives of the classes unpack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from configs.schema import TableName
from ops.annotations.clips import Clips, path_columns
from ops.annotations.lines import LINE_LIMIT, text_lines
from ops.annotations.rows import Context, Fault, Problem, Read
from ops.annotations.vocabulary import AnnotationError

TABLE: TableName = "clips"
FOLDER = True
OPTIONS = ("fold",)
EXPECTED = (
    "a folder with <class>_test_split1.txt for every class, lines of 'name.avi 1' (0 unused, 1"
    " training, 2 testing)"
)
LIST = re.compile(r"(?:.*/)?([^/]+)_test_split([0-9]+)\.txt")
SPLIT_OF = {"1": "train", "2": "val"}


def sniff(name: str, data: bytes) -> bool:
    """Whether it is the list of a class, by name and first line."""
    fields = data.decode("utf-8", "replace").split("\n", 1)[0].split()
    return LIST.fullmatch(name) is not None and len(fields) == 2 and fields[1] in ("0", "1", "2")


def read(files: Iterable[tuple[str, bytes | None]], context: Context) -> Read:
    """Clips of one fold. Raises AnnotationError when the config names no fold, when no list is of
    it and when no row is good.
    """
    if context.fold is None:
        raise AnnotationError(context.file, "fold", None, "fold: 1, 2 or 3 in the dataset's config")
    clips, excluded, lists = (
        Clips(context, path_columns("class/name.avi") | {"label": "class"}),
        0,
        0,
    )
    for path, data in files:
        match = LIST.fullmatch(path)
        if match is None or int(match[2]) != context.fold:
            continue
        lists += 1
        if data is None or not data.strip():
            kind, reason = (
                ("empty", "an empty list")
                if data is not None
                else ("long_line", f"more than {LINE_LIMIT} bytes")
            )
            clips.refuse(Problem(f"{context.file}/{path}", 0, "(whole file)", "", kind, reason))  # type: ignore[arg-type]
        else:
            excluded += _add_list(clips, f"{context.file}/{path}", data, match[1])
    if not lists:
        raise AnnotationError(context.file, "fold", f"no *_test_split{context.fold}.txt", EXPECTED)
    return clips.finish(EXPECTED, excluded)


def _add_list(clips: Clips, file: str, data: bytes, label: str) -> int:
    """Adds the clips of a class; gives the number of those in neither split."""
    unused = 0
    try:
        lines = text_lines(data, file)
    except AnnotationError as error:  # one list of 51 that is not text: a problem among others
        clips.refuse(Fault(error.field, error.found, "text", f"not {error.expected}").at(file, 0))
        return 0
    for line, text in lines:
        if isinstance(text, Problem):
            clips.refuse(text)
            continue
        name, *marks = text.strip().rsplit(None, 1)
        mark = "".join(marks)
        if not mark:
            clips.refuse(Fault("(line)", text, "columns", "not 'name.avi 1'").at(file, line))
        elif mark == "0":
            unused += 1
        elif mark not in SPLIT_OF:
            reason = "unknown split; known: 0 (unused), 1 (training), 2 (testing)"
            clips.refuse(Fault("split", mark, "unknown_split", reason).at(file, line))
        else:
            columns = path_columns(f"{label}/{name}") | {"label": label}
            clips.add(columns, [label], SPLIT_OF[mark], line, file=file)
    return unused
