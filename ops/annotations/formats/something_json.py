"""Something-Something V2 json: one list for each split, and the map of its 174 labels.

Form: `[{"id": "78687", "label": "holding potato next to vicks bottle", "template": "Holding
[something] next to [something]", "placeholders": [...]}]`; the class is the template without its
brackets. Entries of the test list have an id alone. The label map is `{"Approaching something with
your camera": "0", ...}`. The config names the split, since the list does not. Videos are
`<id>.webm`. Version 1 comes as csv: see `id_label_csv`.
"""

from __future__ import annotations

from typing import Any

from configs.schema import TableName
from ops.annotations.clips import Clips, whole_number
from ops.annotations.json_text import load
from ops.annotations.rows import Context, Fault, Read, shorten
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names

TABLE: TableName = "clips"
FOLDER = False
EXPECTED = (
    '[{"id": "78687", "template": "Holding [something] next to [something]", ...}] (test lists:'
    ' [{"id": "1420"}])'
)
BRACKETS = str.maketrans("", "", "[]")


def sniff(name: str, data: bytes) -> bool:
    """Whether it is a json list whose first entry has an id, and a template unless it is the only
    key.
    """
    start = data.lstrip(b"\xef\xbb\xbf \r\n\t")
    first = start.split(b"}", 1)[0]
    return (
        start.startswith(b"[")
        and b'"id"' in first
        and (b'"template"' in first or first.count(b":") == 1)
    )


def read(data: bytes, context: Context) -> Read:
    """Clips of one list. Raises AnnotationError when it is not of this form, when the config names
    no split and when no row is good.
    """
    if context.split is None:
        raise AnnotationError(
            context.file, "split", None, "a split in the dataset's config: the list names none"
        )
    content, repeated = load(data, context.file)
    if not isinstance(content, list) or not content:
        found = "an empty list" if content == [] else type(content).__name__
        raise AnnotationError(context.file, "(whole file)", found, EXPECTED)
    if repeated:  # json keeps the last of two; which one is meant is not for us to say
        raise AnnotationError(
            context.file, sorted(repeated)[0], "the same key twice in one entry", EXPECTED
        )
    clips = Clips(context, {"video": "text", "id": "text"})
    for index, entry in enumerate(content):
        _add(clips, entry, f"[{index}]")
    return clips.finish(EXPECTED)


def _add(clips: Clips, entry: Any, place: str) -> None:
    if not isinstance(entry, dict) or "id" not in entry:
        clips.refuse(
            Fault("(entry)", shorten(entry), "structure", "not a mapping with id and template"),
            place=place,
        )
        return
    name, template = entry["id"], entry.get("template", "")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name.strip():
        clips.refuse(
            Fault("id", name, "empty" if name == "" else "value", "not the name of a video"),
            place=place,
        )
    elif not isinstance(template, str):
        clips.refuse(Fault("template", template, "value", "not the text of a label"), place=place)
    else:
        label = template.translate(BRACKETS)
        clips.add(
            {"video": name, "id": name}, [label] if label else [], clips.context.split, place=place
        )


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The labels of the json map from name to id. Raises AnnotationError unless the ids are 0, 1, 2
    ... once each, in any order.
    """
    content, repeated = load(data, file)
    expected = '{"label": "0", ...}, ids from 0, each once'
    if not isinstance(content, dict) or not content:
        raise AnnotationError(file, "(whole file)", shorten(content), expected)
    if repeated:
        raise AnnotationError(file, "label", sorted(repeated)[0], "each label once")
    named = dict[int, str]()
    for label, text in content.items():
        number = whole_number(str(text)) if not isinstance(text, bool) else None
        if number is None or number >= len(content) or number in named:
            raise AnnotationError(file, label, text, expected)
        named[number] = label
    return from_names([named[number] for number in range(len(named))])
