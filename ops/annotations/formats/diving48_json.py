"""Diving48 json: one list for each split, and the vocabulary of 48 dives.

Form: `[{"vid_name": "_8Vy3dlHg2w_00000", "label": 26, "start_frame": 0, "end_frame": 80}]`, label
ids from 0; the vocabulary is a list of four words for each id, `["Back", "15som", "05Twis",
"FREE"]`, joined to `Back+15som+05Twis+FREE`. The video files are cut to the dive already
(`vid_name` ends in the number of the cut), so that a clip is the whole file; the frame numbers are
checked and not used. The config names the split; the field reports accuracy on the test list, which
is the split "val".
"""

from __future__ import annotations

from typing import Any

from configs.schema import TableName
from ops.annotations.clips import Clips
from ops.annotations.json_text import load
from ops.annotations.rows import Context, Fault, Read, shorten
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names

TABLE: TableName = "clips"
FOLDER = False
OPTIONS = ("first_id",)
EXPECTED = '[{"vid_name": "_8Vy3dlHg2w_00000", "label": 26, "start_frame": 0, "end_frame": 80}]'


def sniff(name: str, data: bytes) -> bool:
    """Whether it is a json list whose first entry has a vid_name and a label."""
    start = data.lstrip(b"\xef\xbb\xbf \r\n\t")
    first = start.split(b"}", 1)[0]
    return start.startswith(b"[") and b'"vid_name"' in first and b'"label"' in first


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
    clips = Clips(context, {"video": "text", "vid_name": "text"})
    for index, entry in enumerate(content):
        fault = _fault(entry)
        if fault is not None:
            clips.refuse(fault, place=f"[{index}]")
        else:
            name = entry["vid_name"].strip()
            clips.add(
                {"video": name, "vid_name": name},
                [entry["label"]],
                context.split,
                place=f"[{index}]",
            )
    return clips.finish(EXPECTED)


def _fault(entry: Any) -> Fault | None:
    if not isinstance(entry, dict) or "vid_name" not in entry or "label" not in entry:
        return Fault(
            "(entry)", shorten(entry), "structure", "not a mapping with vid_name and label"
        )
    name, label = entry["vid_name"], entry["label"]
    if not isinstance(name, str) or not name.strip():
        return Fault(
            "vid_name", name, "empty" if name == "" else "value", "not the name of a video"
        )
    if not _is_whole(label):
        return Fault("label", label, "value", "not the id of a label, a whole number from 0")
    for field in ("start_frame", "end_frame"):
        number = entry.get(field, 0)
        if not _is_whole(number):
            negative = isinstance(number, (int, float)) and number < 0
            reason = "a negative frame number" if negative else "not a frame number"
            return Fault(field, number, "negative_time" if negative else "value", reason)
    start, end = entry.get("start_frame", 0), entry.get("end_frame")
    if end is not None and end <= start:
        return Fault("end_frame", f"{start} to {end}", "end_before_start", "end is not after start")
    return None


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**31


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The dives of `Diving48_vocab.json`, each with its four words joined by '+'. Raises
    AnnotationError for another shape.
    """
    content, _ = load(data, file)
    expected = '[["Back", "15som", "05Twis", "FREE"], ...]'
    if not isinstance(content, list) or not content:
        raise AnnotationError(file, "(whole file)", shorten(content), expected)
    names = dict[str, int]()
    for index, words in enumerate(content):
        if (
            not isinstance(words, list)
            or len(words) != 4
            or not all(isinstance(word, str) and word for word in words)
        ):
            raise AnnotationError(file, f"[{index}]", shorten(words), expected)
        if names.setdefault("+".join(words), index) != index:
            raise AnnotationError(file, f"[{index}]", "+".join(words), "each dive once")
    return from_names(list(names))
