"""Diving48 lists, their vocabulary, and every way an entry can be wrong."""

import json

import pytest

from ops.annotations.formats.diving48_json import EXPECTED, FOLDER, TABLE, read, sniff, vocabulary
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names

WORDS = from_names(["Back+15som+05Twis+FREE", "Forward+Dive+NoTwis+STR"])
CONTEXT = Context("diving48", "train.json", split="train", vocabulary=WORDS)
ENTRY = {"vid_name": "_8Vy3dlHg2w_00000", "label": 1, "start_frame": 0, "end_frame": 80}


def test_good_entries_become_whole_clips():
    rows = read(
        json.dumps([ENTRY, {"vid_name": "b", "label": 0}]).encode(), CONTEXT
    ).table.to_pylist()
    assert rows[0] == {
        "clip_id": "_8Vy3dlHg2w_00000",
        "video_id": "_8Vy3dlHg2w_00000",
        "dataset": "diving48",
        "split": "train",
        "target": "label",
        "label": "Forward+Dive+NoTwis+STR",
        "label_id": 1,
        "start_s": None,
        "end_s": None,
        "source": "train.json:[0]",
    }
    assert rows[1]["label_id"] == 0


def test_all_bad_entries_come_together_and_the_good_ones_are_read():
    bad: list = [
        "x",
        {"label": 1},
        {"vid_name": "a"},
        {**ENTRY, "vid_name": ""},
        {**ENTRY, "vid_name": 3},
        {**ENTRY, "label": 2},
        {**ENTRY, "label": -1},
        {**ENTRY, "label": 1.0},
        {**ENTRY, "label": True},
        {**ENTRY, "start_frame": -1},
        {**ENTRY, "start_frame": float("nan")},
        {**ENTRY, "end_frame": None},
        {**ENTRY, "start_frame": 80},
        {**ENTRY, "start_frame": 90},
        {**ENTRY, "end_frame": "80"},
    ]
    answer = read(json.dumps([*bad, ENTRY]).encode(), CONTEXT)
    assert [(p.found.split(":")[0], p.field, p.kind) for p in answer.problems] == [
        ("[0]", "(entry)", "structure"),
        ("[1]", "(entry)", "structure"),
        ("[2]", "(entry)", "structure"),
        ("[3]", "vid_name", "empty"),
        ("[4]", "vid_name", "value"),
        ("[5]", "label", "unknown_label"),
        ("[6]", "label", "value"),
        ("[7]", "label", "value"),
        ("[8]", "label", "value"),
        ("[9]", "start_frame", "negative_time"),
        ("[10]", "start_frame", "value"),
        ("[11]", "end_frame", "value"),
        ("[12]", "end_frame", "end_before_start"),
        ("[13]", "end_frame", "end_before_start"),
        ("[14]", "end_frame", "value"),
    ]
    assert answer.table["video_id"].to_pylist() == ["_8Vy3dlHg2w_00000"]


@pytest.mark.parametrize(
    "data, split, says",
    [
        (b"", "train", "an empty file"),
        (b"[]", "train", "an empty list"),
        (b'{"a": 1}', "train", "dict"),
        (b"[{]", "train", "column"),
        (b"\xff\xfe", "train", "UTF-8 text"),
        (b'[{"label": 1, "label": 2}]', "train", "the same key twice"),
        (json.dumps([ENTRY]).encode(), None, "a split in the dataset's config"),
        (b'[{"vid_name": "a", "label": 9}]', "train", "no good row"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(data: bytes, split: str | None, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, Context("diving48", "train.json", split=split, vocabulary=WORDS))
    assert caught.value.file.startswith("train.json") and says in str(caught.value)


def test_the_vocabulary_joins_four_words():
    assert vocabulary(b'[["Back", "15som", "05Twis", "FREE"]]', "v.json", "label").names == (
        "Back+15som+05Twis+FREE",
    )
    for bad in (
        b"[]",
        b"{}",
        b'[["Back"]]',
        b'["Back"]',
        b'[["a", "b", "c", 4]]',
        b'[["a", "b", "c", "d"], ["a", "b", "c", "d"]]',
    ):
        with pytest.raises(AnnotationError, match="^v.json: "):
            vocabulary(bad, "v.json", "label")


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", False) and "vid_name" in EXPECTED
    assert sniff("x.json", json.dumps([ENTRY]).encode())
    for other in (
        b"",
        b"[]",
        b'[{"id": "1"}]',
        b'[["Back", "15som", "05Twis", "FREE"]]',
        b"\xff\x00",
    ):
        assert not sniff("x.json", other)


def test_the_published_label_map_is_the_joined_vocabulary(shared):
    names = (shared / "annotations/mmaction2/diving48_label_map.txt").read_text().split("\n")
    names = [name for name in names if name]
    words = vocabulary(json.dumps([name.split("+") for name in names]).encode(), "v.json", "label")
    assert list(words.names) == names and len(names) == 48
