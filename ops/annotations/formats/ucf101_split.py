"""UCF101's official splits: the folder `ucfTrainTestlist` with three pairs of lists and the names
of the 101 classes.

Form: `trainlist01.txt` has lines of `Class/v_Class_g08_c01.avi 1`, the class id counting from 1;
`testlist01.txt` has the path alone, whose folder is the class; `classInd.txt` has lines of `1
ApplyEyeMakeup` and serves as the vocabulary. The config's `fold` (1, 2 or 3) chooses the pair. The
field reports accuracy on the test lists: their clips are the split "val". Lists of the other folds
are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from configs.schema import TableName
from ops.annotations.clips import Clips, path_columns, whole_number
from ops.annotations.lines import LINE_LIMIT, text_lines
from ops.annotations.rows import Context, Fault, Problem, Read
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names

TABLE: TableName = "clips"
FOLDER = True
OPTIONS = ("fold",)
EXPECTED = (
    "a folder with trainlist01.txt (lines of 'Class/video.avi 1') and testlist01.txt (lines of"
    " 'Class/video.avi')"
)
LIST = re.compile(r"(?:.*/)?(train|test)list([0-9]{2})\.txt")
LINE = re.compile(r"([^/]+)/(.*?\.[A-Za-z0-9]{1,5})(?:\s+(\S+))?")


def sniff(name: str, data: bytes) -> bool:
    """Whether it is one of the lists, by name and first line."""
    first = data.decode("utf-8", "replace").split("\n", 1)[0].strip()
    return LIST.fullmatch(name) is not None and LINE.fullmatch(first) is not None


def read(files: Iterable[tuple[str, bytes | None]], context: Context) -> Read:
    """Clips of one fold. Raises AnnotationError when the config names no fold, when a list is
    missing and when no row is good.
    """
    if context.fold is None:
        raise AnnotationError(context.file, "fold", None, "fold: 1, 2 or 3 in the dataset's config")
    clips, found = Clips(context, path_columns("Class/name.avi")), set[str]()
    for path, data in files:
        match = LIST.fullmatch(path)
        if match is None or int(match[2]) != context.fold:
            continue
        found.add(match[1])
        if data is None:
            clips.refuse(
                Problem(
                    f"{context.file}/{path}",
                    0,
                    "(whole file)",
                    "",
                    "long_line",
                    f"more than {LINE_LIMIT} bytes",
                )
            )
        else:
            _add_list(clips, f"{context.file}/{path}", data, match[1])
    missing = ", ".join(
        f"{name}list{context.fold:02d}.txt" for name in ("train", "test") if name not in found
    )
    if missing:
        raise AnnotationError(context.file, "fold", f"no {missing}", EXPECTED)
    return clips.finish(EXPECTED)


def _add_list(clips: Clips, file: str, data: bytes, kind: str) -> None:
    split = "train" if kind == "train" else "val"
    for line, text in text_lines(data, file):
        if isinstance(text, Problem):
            clips.refuse(text)
            continue
        match = LINE.fullmatch(text.strip())
        if match is None:
            clips.refuse(
                Fault(
                    "(line)",
                    text,
                    "columns",
                    "not Class/video.avi and, in a train list, the class id",
                ).at(file, line)
            )
            continue
        fault = _id_fault(clips.context, match[1], match[3], kind)
        if fault is not None:
            clips.refuse(fault.at(file, line))
        else:
            clips.add(path_columns(f"{match[1]}/{match[2]}"), [match[1]], split, line, file=file)


def _id_fault(context: Context, label: str, text: str | None, kind: str) -> Fault | None:
    """What is wrong with the class id of a row: it must be there in train lists, and say the same
    as the folder.
    """
    if text is None:
        return (
            Fault("label", "", "columns", "no class id in a train list")
            if kind == "train"
            else None
        )
    number, known = whole_number(text), context.label_id(label)
    if number is None or number == 0:
        return Fault("label", text, "value", "not a class id, a whole number from 1")
    if context.vocabulary is not None and known is not None and number != known + 1:
        return Fault(
            "label",
            f"{text} for {label}",
            "contradiction",
            f"the class list gives {label} the id {known + 1}",
        )
    return None


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The classes of `classInd.txt`, lines of `1 ApplyEyeMakeup`. Raises AnnotationError unless ids
    are 1, 2, 3 ... and names differ.
    """
    names = dict[str, int]()
    for line, text in text_lines(data, file):
        number, _, name = ("", "", "") if isinstance(text, Problem) else text.strip().partition(" ")
        if whole_number(number) != len(names) + 1 or not name.strip() or name.strip() in names:
            found = text.found if isinstance(text, Problem) else text
            raise AnnotationError(
                f"{file}:{line}",
                "class",
                found[:80],
                f"'{len(names) + 1} ClassName', each name once",
            )
        names[name.strip()] = len(names)
    if not names:
        raise AnnotationError(file, "(whole file)", "no labels", "at least one label")
    return from_names(list(names))
