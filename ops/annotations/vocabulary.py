"""Label vocabularies from text files, json and protobuf text (.pbtxt)."""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from configs.errors import KinographError

MOST_CLASSES = 1_000_000  # a class number beyond is no class number
ITEM = re.compile(r"\b(?:item|label)\s*\{([^{}]*)\}")
NAME = re.compile(r"""\bname\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
ID = re.compile(r"\b(?:label_)?id\s*:\s*(\d+)\b")
ESCAPED = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
NUMBERED = re.compile(r"(\d+)\s*:\s*(.+)")
NUMBER = re.compile(r"[0-9]{1,9}")
LINE_END = re.compile(r"\r\n|\n|\r")
# What a person does not see at the ends of a label: blanks of any script, the zero-width ones, a
# byte order mark, bidi marks.
INVISIBLE = (
    " \t\r\n\v\f\x1c\x1d\x1e\x1f\x85\xa0\xad\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff"
    + "".join(map(chr, [*range(0x2000, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)]))
)
# a label and its number; where a blank alone parts them, the number may be a word of the label
NUMBERINGS = (
    (re.compile(r"(?P<number>[0-9]{1,9})\s*[:,;=|\t]\s*(?P<name>\S.*)"), "number,name"),
    (re.compile(r"(?P<name>.*?\S)\s*[,;=|\t]\s*(?P<number>[0-9]{1,9})"), "name,number"),
    (re.compile(r"(?P<number>[0-9]{1,9})\s+(?P<name>\S.*)"), "number name"),
    (re.compile(r"(?P<name>.*?\S)\s+(?P<number>[0-9]{1,9})"), "name number"),
)
DRESSED = (
    re.compile(r"^\W*(\d{1,6})(?:\.0+)?(?=\W)"),
    re.compile(r"(?<=\W)(\d{1,6})(?:\.0+)?\W*$"),
)
COLUMN = re.compile(r"[,;\t|](?=\S)")
NAME_WORDS = frozenset(
    (
        "label",
        "labels",
        "label_name",
        "label name",
        "name",
        "names",
        "class",
        "classes",
        "class_name",
        "classname",
        "class name",
    )
    + (
        "category",
        "categories",
        "category_name",
        "action",
        "actions",
        "action_name",
        "display_name",
        "key",
        "verb",
        "noun",
        "text",
    )
)
ID_WORDS = frozenset(
    (
        "",
        "id",
        "ids",
        "idx",
        "index",
        "no",
        "nr",
        "number",
        "label_id",
        "label id",
        "label_idx",
        "label_index",
        "class_id",
        "class id",
    )
    + ("class_idx", "classid", "class_index", "category_id", "action_id", "unnamed: 0")
)


class AnnotationError(KinographError, ValueError):
    """An annotation file that cannot be used: names the file, the field, what was found and what is
    expected.
    """

    def __init__(self, file: str, field: str, found: object, expected: str) -> None:
        self.file, self.field, self.found, self.expected = file, field, found, expected
        super().__init__(f"{file}: {field}: found {found!r}; expected: {expected}")

    def __reduce__(self) -> tuple[type[AnnotationError], tuple[str, str, object, str]]:
        return type(self), (self.file, self.field, self.found, self.expected)


@dataclass(frozen=True)
class Vocabulary:
    """Label names in id order, with their ids.

    Ids are positions 0..n-1 for vocabularies of clips, segments and parts. For boxes they are the
    ids of the file, which start at 1 and may have gaps (60 of AVA's 80 ids are scored), so that
    predictions and official evaluators speak of the same ids.

    `numbers` are those that the file gives its names, None where it gives none: rows that name a
    label by its number mean these. `word` says how the file was read where there is something to
    say.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    numbers: tuple[int, ...] | None = field(default=None, compare=False)
    word: str = field(default="", compare=False)
    id_of: Mapping[str, int] = field(init=False, repr=False, compare=False)
    name_of: Mapping[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id_of", dict(zip(self.names, self.ids, strict=True)))
        object.__setattr__(self, "name_of", dict(zip(self.ids, self.names, strict=True)))

    def numbered(self, number: int, first: int | None = None) -> str | None:
        """The name that a row means by a number; None where there is none.

        Args:
            number: as the row has it.
            first: number of the first name; None is as the file numbers its names, else their ids.
        """
        if first is None and self.numbers is not None:
            place = bisect_left(self.numbers, number)
            return (
                self.names[place]
                if place < len(self.numbers) and self.numbers[place] == number
                else None
            )
        return self.name_of.get(number - (first or 0))


def from_names(names: list[str]) -> Vocabulary:
    """Vocabulary whose ids are the positions of the names."""
    return Vocabulary(tuple(names), tuple(range(len(names))))


def from_found(found: Iterable[str], where: str, first: int = 0) -> Vocabulary:
    """Vocabulary of the labels that a train split holds, sorted. Raises AnnotationError when there
    are none.

    Labels that are all whole numbers are class numbers already: each is its own id, counted from
    `first`, and a number that no row has keeps its place.
    """
    names = sorted(found)
    if not names:
        raise AnnotationError(
            where,
            "labels",
            None,
            "a vocabulary file in the config, since no labelled row is in the train split",
        )
    if (
        all(re.fullmatch(r"0|[1-9]\d{0,8}", name, re.ASCII) for name in names)
        and max(map(int, names)) < MOST_CLASSES
    ):
        return from_names([str(number) for number in range(first, max(map(int, names)) + 1)])
    return from_names(names)


def parse(data: bytes, file: str, own_ids: bool) -> Vocabulary:
    """A vocabulary file.

    Ids are positions, but with `own_ids`: of a text file's lines, or of its labels in the order of
    the numbers beside them (`3,run`, `run;3`, `3 run`; columns by their names where a header has
    some). Json is a list of labels, or a map between labels and numbers.

    Args:
        data: content of the file.
        file: its name; `.pbtxt` and `.json` tell the form, else it is text.
        own_ids: the ids are those of the file (boxes); a text file then has lines of `id: name`.

    Raises:
        AnnotationError: wrong encoding, an empty file, a comment, a missing id, or a name or id
            given twice.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(
            file, "encoding", f"byte {data[error.start]:#04x} at {error.start}", "UTF-8 text"
        ) from error
    name, word = file.rsplit("/", 1)[-1], ""
    if ".pbtxt" in name:
        pairs: list[tuple[int | None, str]] = [*_pbtxt(text, file)]
    elif own_ids:
        pairs = [*_numbered(text, file)]
    elif name.lower().endswith(".json"):
        pairs = _of_json(text, file)
    else:
        pairs, word = (_of_json(text, file), "") if _is_json(text) else _of_text(text, file)
    if not pairs:
        raise AnnotationError(file, "(whole file)", "no labels", "at least one label")
    numbers = [pair[0] for pair in pairs if pair[0] is not None]
    if numbers:
        pairs.sort(key=lambda pair: pair[0] or 0)
        _refuse_repeats(numbers, file, "id")
    names = [pair[1] for pair in pairs]
    # rows name their label by id in the box formats, so one name may stand for two ids there
    if own_ids:
        return Vocabulary(tuple(names), tuple(sorted(numbers)))
    _refuse_repeats(names, file, "name")
    return replace(from_names(names), numbers=tuple(sorted(numbers)) or None, word=word)


def _of_json(text: str, file: str) -> list[tuple[int | None, str]]:
    expected = 'a list of labels, or {"label": 0} or {"0": "label"}'
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(file, "(whole file)", str(error)[:80], expected) from error
    if isinstance(content, list) and all(isinstance(name, str) and name for name in content):
        return [(None, name) for name in content]
    pairs = list(content.items()) if isinstance(content, dict) else [(content, None)]
    if len(pairs) > 1 and all(
        _is_number(value) and _is_number(name) and name != str(value) for name, value in pairs
    ):
        raise AnnotationError(
            file,
            "(whole file)",
            text.strip()[:80],
            "a list of labels: which side has the numbers shows for words alone",
        )
    if not all(_is_number(value) and name for name, value in pairs):
        pairs = [(name, number) for number, name in pairs]
    if not all(isinstance(name, str) and name and _is_number(number) for name, number in pairs):
        raise AnnotationError(file, "(whole file)", text.strip()[:80], expected)
    return [(int(str(number)), name) for name, number in pairs]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A mapping of json. Raises ValueError for a key given twice, of which json would keep the
    last.
    """
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"key '{next(key for key in keys if keys.count(key) > 1)}' given twice")
    return dict(pairs)


def _is_json(text: str) -> bool:
    """Whether a text file is json after all: a label may begin with a bracket too."""
    if not text.lstrip().startswith(("[", "{")):
        return False
    try:
        return isinstance(json.loads(text), (list, dict))
    except (ValueError, RecursionError):
        return False


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and NUMBER.fullmatch(str(value)) is not None


def _of_text(text: str, file: str) -> tuple[list[tuple[int | None, str]], str]:
    """(number beside it or None, label) of each line, and a word where it is more than one label a
    line.
    """
    rows = [
        (line, row.strip(INVISIBLE))
        for line, row in enumerate(LINE_END.split(text), 1)
        if row.strip(INVISIBLE)
    ]
    for line, row in rows:
        if re.match(r"#(\s|$)", row):
            raise AnnotationError(
                f"{file}:{line}", "label", row[:80], "labels alone, without comments"
            )
    columns = _with_header(rows, file) if len(rows) > 1 else None
    if columns is not None:
        return columns, f"the first line, '{rows[0][1][:80]}', is taken for a header"
    for pattern, word in NUMBERINGS:
        found = [pattern.fullmatch(row) for _, row in rows] if len(rows) > 1 else []
        if found and all(found):
            pairs = [
                (int(match["number"]), unquoted(match["name"], file, 0)) for match in found if match
            ]
            if all(
                COLUMN.search(match["name"]) and match["name"][0] != '"' for match in found if match
            ):
                raise AnnotationError(
                    file,
                    "label",
                    rows[0][1][:80],
                    "a label and its number in every line, without a further column",
                )
            if _is_numbering(pairs, file, rows[0][1], sure=" " not in word):
                span = f"{min(pairs)[0]} to {max(pairs)[0]}"
                return (
                    [*pairs],
                    (
                        f"the labels have numbers, {span}, which give their order"
                        f" ({rows[0][1][:80]!r})"
                    ),
                )
    _refuse_dressed_numbers([row for _, row in rows], file)
    return [(None, unquoted(row, file, line)) for line, row in rows], ""


def _refuse_dressed_numbers(rows: list[str], file: str) -> None:
    """Raises AnnotationError where lines have numbers that are not read as ids (`1. run`, `run
    (1)`) and speak of another order.
    """
    for pattern in DRESSED:
        found = [pattern.search(row) for row in rows if not row.startswith('"')]
        numbers = [int(match[1]) for match in found if match]
        whole = len(numbers) == len(rows) > 1 and sorted(numbers) in (
            list(range(len(rows))),
            list(range(1, len(rows) + 1)),
        )
        # level 2, level 1: there the numbers are all that tells labels apart
        names = {pattern.sub("", row) for row in rows}
        if whole and numbers != sorted(numbers) and len(names) == len(rows):
            expected = (
                "plain numbers (3,run) or lines in the order of the numbers; labels in quotes where"
                " the number is a part of them"
            )
            raise AnnotationError(file, "label", rows[0][:80], expected)


def _is_numbering(pairs: list[tuple[int, str]], file: str, first: str, sure: bool) -> bool:
    """Whether numbers beside names are ids. Raises AnnotationError where nobody can know: `2 point
    shot` may be a label's own words.
    """
    numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
    if len(names) < len(pairs):  # level 1, level 2: the numbers are a part of the labels
        return False
    if sure or (
        len(numbers) == len(pairs)
        and max(numbers) - min(numbers) == len(pairs) - 1
        and min(numbers) in (0, 1)
    ):
        return True
    if first[0].isdigit():
        expected = (
            "numbers from 0 or 1, each once, before the labels; or labels in quotes where the"
            ' number is a part: "2 point shot"'
        )
        raise AnnotationError(file, "label", first[:80], expected)
    return False


def _with_header(rows: list[tuple[int, str]], file: str) -> list[tuple[int | None, str]] | None:
    """The labels of a file whose first line names its columns, with the numbers of its id column;
    None for one without such a line.
    """
    delimiter = next((mark for mark in "\t;," if mark in rows[0][1]), ",")
    header = [
        field.strip(INVISIBLE).lower() for field in rows[0][1].replace('"', "").split(delimiter)
    ]
    if len(header) == 1:
        alone = header[0] in NAME_WORDS - {"key", "verb", "noun", "text"} and (
            rows[0][1][0] != '"' or rows[1][1][0] == '"'
        )
        return [(None, unquoted(row, file, line)) for line, row in rows[1:]] if alone else None
    table = [_cells(row, delimiter) for _, row in rows[1:]]
    wide = all(
        len(fields) == len(header) and fields[0].strip().lower() != header[0] for fields in table
    )
    known = NAME_WORDS | ID_WORDS
    if not is_header(header) and not (
        wide and header[0] in known and any(word in NAME_WORDS for word in header)
    ):
        return None
    name = next(index for index, field in enumerate(header) if field in NAME_WORDS)
    number = next((index for index, field in enumerate(header) if field in ID_WORDS), None)
    found = list[tuple[int | None, str]]()
    for (line, row), fields in zip(rows[1:], table, strict=True):
        text = (
            "" if number is None or len(fields) != len(header) else fields[number].strip(INVISIBLE)
        )
        if len(fields) != len(header) or (number is not None and not NUMBER.fullmatch(text)):
            raise AnnotationError(
                f"{file}:{line}",
                "label",
                row[:80],
                f"the columns {delimiter.join(header)}, with whole numbers for ids",
            )
        label = unquoted(fields[name].strip(INVISIBLE), file, line)
        if not label:
            raise AnnotationError(f"{file}:{line}", "label", row[:80], "a label in every line")
        found.append((int(text) if text else None, label))
    return found


def _cells(row: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([row], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a field beyond csv's limit
        return [row]


def is_header(fields: Iterable[str]) -> bool:
    """Whether these are names of columns, a label's among them, rather than a label or a label and
    its number.
    """
    words = [field.strip(INVISIBLE).lower() for field in fields]
    named = any(word in NAME_WORDS for word in words)
    return named and (
        any(word in ID_WORDS for word in words) or all(word in NAME_WORDS for word in words)
    )


def unquoted(label: str, file: str, line: int) -> str:
    """A label without the quotes around it. Raises AnnotationError for quotes that do not close and
    for a second column.
    """
    if label.startswith('"'):
        quoted = re.fullmatch(r'"((?:[^"]|"")+)"', label)
        if quoted is None:
            raise AnnotationError(
                f"{file}:{line}" if line else file,
                "label",
                label[:80],
                "a label whose quotes close at its end",
            )
        label = quoted[1].replace('""', '"').strip(INVISIBLE)
    if "\t" in label or not label:
        raise AnnotationError(
            f"{file}:{line}" if line else file,
            "label",
            label[:80],
            "one label a line, without a tab or a second column",
        )
    return label


def _pbtxt(text: str, file: str) -> list[tuple[int, str]]:
    pairs = []
    for item in ITEM.finditer(text):
        name = NAME.search(item[1])
        number = ID.search(NAME.sub("", item[1]))  # a name may itself hold 'id: 7'
        if name is None or number is None:
            line = text.count("\n", 0, item.start()) + 1
            raise AnnotationError(
                f"{file}:{line}", "item", " ".join(item[0].split()), 'item { name: "..." id: N }'
            )
        pairs.append((int(number[1]), _unescaped(name[1][1:-1])))
    rest = ITEM.sub("", text).strip()
    if rest and not all(
        line.lstrip().startswith("#") for line in rest.splitlines() if line.strip()
    ):
        raise AnnotationError(
            file, "(whole file)", rest[:80], 'only items: item { name: "..." id: N }'
        )
    return pairs


def _unescaped(text: str) -> str:
    """A string of protobuf text, which writes bytes beyond ASCII as `\\303\\251` or
    `\\xc3\\xa9`.
    """  # noqa: D301

    def byte(match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, other = match.groups()
        number = int(octal, 8) if octal else int(hexadecimal, 16) if hexadecimal else None
        return bytes([number & 255]) if number is not None else ESCAPES.get(other, other)

    return ESCAPED.sub(byte, text.encode()).decode("utf-8", "backslashreplace").strip(INVISIBLE)


def _numbered(text: str, file: str) -> list[tuple[int, str]]:
    pairs = []
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        match = NUMBERED.fullmatch(content.strip())
        if match is None:
            raise AnnotationError(
                f"{file}:{line}", "label", content[:80], "id: name (or a .pbtxt file)"
            )
        pairs.append((int(match[1]), match[2].strip(INVISIBLE)))
    return pairs


def _refuse_repeats(values: list, file: str, field: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise AnnotationError(file, field, value, f"each {field} once")
        seen.add(value)
