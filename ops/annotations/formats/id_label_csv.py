"""Lists of `id;label` without header: Something-Something V1 and Jester.

Form: lines of `34870;Drumming Fingers`; test lists have the id alone. The vocabulary file has one
label a line; its order gives the ids. The config names the split, since the list does not. Both
datasets are published as folders of frames at 12 per second, named by id: they have to be joined to
one video file a folder first.
"""

from __future__ import annotations

from configs.schema import TableName
from ops.annotations.clips import Clips
from ops.annotations.lines import records, text_lines
from ops.annotations.rows import Context, Fault, Problem, Read
from ops.annotations.vocabulary import AnnotationError, Vocabulary, parse

TABLE: TableName = "clips"
FOLDER = False
EXPECTED = "lines of 'id;label' without a header (test lists: the id alone)"


def sniff(name: str, data: bytes) -> bool:
    """Whether the first lines have one semicolon between two fields, or (a csv file) are bare
    numbers.
    """
    lines = [
        line.strip() for line in data.decode("utf-8", "replace").splitlines()[:20] if line.strip()
    ]
    pairs = [line.split(";") for line in lines]
    labelled = all(len(pair) == 2 and pair[0] and not pair[1].isdigit() for pair in pairs)
    return bool(lines) and (labelled or (name.endswith(".csv") and all(map(str.isdigit, lines))))


def read(data: bytes, context: Context) -> Read:
    """Clips of one list. Raises AnnotationError when the config names no split and when no row is
    good.
    """
    if context.split is None:
        raise AnnotationError(
            context.file, "split", None, "a split in the dataset's config: the list names none"
        )
    clips = Clips(context, {"video": "text", "id": "text"})
    for line, fields in records(data, context.file, ";"):
        if isinstance(fields, Problem):
            clips.refuse(fields)
        elif len(fields) > 2:
            clips.wrong_columns(line, ";".join(fields), len(fields), "2")
        elif not fields[0].strip():
            clips.refuse(Fault("id", "", "empty", "empty"), line)
        else:
            name = fields[0].strip()
            clips.add(
                {"video": name, "id": name},
                [label for label in map(str.strip, fields[1:]) if label],
                context.split,
                line,
            )
    return clips.finish(EXPECTED)


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The labels, one a line. Raises AnnotationError for a line that is not text and for a label
    given twice.
    """
    names = dict[str, int]()
    for line, text in text_lines(data, file):
        if isinstance(text, Problem):
            raise AnnotationError(
                f"{file}:{line}", "label", text.found, f"one label a line ({text.reason})"
            )
        if names.setdefault(text.strip(), line) != line:
            raise AnnotationError(f"{file}:{line}", "label", text.strip(), "each label once")
    return parse(data, file, own_ids=False)
