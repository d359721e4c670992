"""Label vocabularies from text files and protobuf text (.pbtxt)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MOST_CLASSES = 1_000_000  # a class number beyond is no class number
ITEM = re.compile(r"\b(?:item|label)\s*\{([^{}]*)\}")
NAME = re.compile(r"""\bname\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
ID = re.compile(r"\b(?:label_)?id\s*:\s*(\d+)\b")
NUMBERED = re.compile(r"(\d+)\s*:\s*(.+)")


class AnnotationError(ValueError):
    """An annotation file that cannot be used: names the file, the field, what was found and what is expected."""

    def __init__(self, file: str, field: str, found: object, expected: str) -> None:
        self.file, self.field, self.found, self.expected = file, field, found, expected
        super().__init__(f"{file}: {field}: found {found!r}; expected: {expected}")

    def __reduce__(self) -> tuple[type[AnnotationError], tuple[str, str, object, str]]:
        return type(self), (self.file, self.field, self.found, self.expected)


@dataclass(frozen=True)
class Vocabulary:
    """Label names in id order, with their ids.

    Ids are positions 0..n-1 for vocabularies of clips, segments and parts. For boxes they are the ids of the file, which start
    at 1 and may have gaps (60 of AVA's 80 ids are scored), so that predictions and official evaluators speak of the same ids.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    id_of: Mapping[str, int] = field(init=False, repr=False, compare=False)
    name_of: Mapping[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id_of", dict(zip(self.names, self.ids, strict=True)))
        object.__setattr__(self, "name_of", dict(zip(self.ids, self.names, strict=True)))


def from_names(names: list[str]) -> Vocabulary:
    """Vocabulary whose ids are the positions of the names."""
    return Vocabulary(tuple(names), tuple(range(len(names))))


def from_found(found: Iterable[str], where: str) -> Vocabulary:
    """Vocabulary of the labels that a train split holds, sorted. Raises AnnotationError when there are none.

    Labels that are all whole numbers are class numbers already: each is its own id, and a number that no row has keeps its place.
    """
    names = sorted(found)
    if not names:
        raise AnnotationError(where, "labels", None, "a vocabulary file in the config, since no labelled row is in the train split")
    if all(re.fullmatch(r"0|[1-9]\d{0,8}", name, re.ASCII) for name in names) and max(map(int, names)) < MOST_CLASSES:
        return from_names([str(number) for number in range(max(map(int, names)) + 1)])
    return from_names(names)


def parse(data: bytes, file: str, own_ids: bool) -> Vocabulary:
    """A vocabulary file; `.pbtxt` by its name, else text.

    `own_ids` (boxes): the ids of the file; a text file then has lines of `id: name`. Otherwise a text file has one label a line, and
    ids are positions. Raises AnnotationError on wrong encoding, an empty file, a missing id, or a name or id given twice.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(file, "encoding", f"byte {data[error.start]:#04x} at {error.start}", "UTF-8 text") from error
    if ".pbtxt" in file.rsplit("/", 1)[-1]:
        pairs = _pbtxt(text, file)
    elif own_ids:
        pairs = _numbered(text, file)
    else:
        pairs = [(index, line.strip()) for index, line in enumerate(line for line in text.splitlines() if line.strip())]
    if not pairs:
        raise AnnotationError(file, "(whole file)", "no labels", "at least one label")
    pairs.sort(key=lambda pair: pair[0])
    ids, names = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    _refuse_repeats(ids, file, "id")
    if not own_ids:  # rows name their label by id in the box formats, so one name may stand for two ids there
        _refuse_repeats(names, file, "name")
        ids = list(range(len(names)))
    return Vocabulary(tuple(names), tuple(ids))


def _pbtxt(text: str, file: str) -> list[tuple[int, str]]:
    pairs = []
    for item in ITEM.finditer(text):
        name = NAME.search(item[1])
        number = ID.search(NAME.sub("", item[1]))  # a name may itself hold 'id: 7'
        if name is None or number is None:
            line = text.count("\n", 0, item.start()) + 1
            raise AnnotationError(f"{file}:{line}", "item", " ".join(item[0].split()), 'item { name: "..." id: N }')
        pairs.append((int(number[1]), re.sub(r"\\(.)", r"\1", name[1][1:-1])))
    rest = ITEM.sub("", text).strip()
    if rest and not all(line.lstrip().startswith("#") for line in rest.splitlines() if line.strip()):
        raise AnnotationError(file, "(whole file)", rest[:80], 'only items: item { name: "..." id: N }')
    return pairs


def _numbered(text: str, file: str) -> list[tuple[int, str]]:
    pairs = []
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        match = NUMBERED.fullmatch(content.strip())
        if match is None:
            raise AnnotationError(f"{file}:{line}", "label", content[:80], "id: name (or a .pbtxt file)")
        pairs.append((int(match[1]), match[2]))
    return pairs


def _refuse_repeats(values: list, file: str, field: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise AnnotationError(file, field, value, f"each {field} once")
        seen.add(value)
