"""Lists of id;label: Something-Something V1 and Jester, and every way a line can be wrong."""

import pytest

from ops.annotations.formats.id_label_csv import EXPECTED, FOLDER, TABLE, read, sniff, vocabulary
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names

WORDS = from_names(["Drumming Fingers", "Putting something, something and something on the table"])
CONTEXT = Context("jester", "train.csv", video="{id}", split="train", vocabulary=WORDS)


def test_good_lines_become_clips():
    rows = read(
        b"34870;Drumming Fingers\r\n\n7;Putting something, something and something on the table\n",
        CONTEXT,
    ).table.to_pylist()
    assert rows[0] == {
        "clip_id": "34870",
        "video_id": "34870",
        "dataset": "jester",
        "split": "train",
        "target": "label",
        "label": "Drumming Fingers",
        "label_id": 0,
        "start_s": None,
        "end_s": None,
        "source": "train.csv:1",
    }
    assert (rows[1]["video_id"], rows[1]["label_id"], rows[1]["source"]) == ("7", 1, "train.csv:3")


def test_test_lists_have_ids_alone():
    table = read(
        b"109621\n145149;\n",
        Context("jester", "f", video="mkv/{video}", split="test", vocabulary=WORDS),
    ).table
    assert table["video_id"].to_pylist() == ["mkv/109621", "mkv/145149"] and table[
        "label"
    ].to_pylist() == [None, None]


def test_all_bad_lines_come_together_and_the_good_ones_are_read(monkeypatch):
    monkeypatch.setattr("ops.annotations.lines.LINE_LIMIT", 100)
    lines = [
        b"1;Flying",
        b"2",
        b"3;",
        b";Drumming Fingers",
        b"4;a;b",
        b"5,Drumming Fingers",
        b"6;d\xe9",
        b"y" * 101,
        b'7;"broken',
        b"8;Drumming Fingers",
    ]
    answer = read(b"\n".join(lines), CONTEXT)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (1, "label", "unknown_label"),
        (2, "label", "empty"),
        (3, "label", "empty"),
        (4, "id", "empty"),
        (5, "(line)", "columns"),
        (6, "label", "empty"),
        (7, "(line)", "text"),
        (8, "(line)", "long_line"),
        (9, "(line)", "text"),
    ]
    assert answer.table["video_id"].to_pylist() == ["8"]


@pytest.mark.parametrize(
    "data, split, says",
    [
        (b"", "train", "an empty file"),
        ("1;Drumming Fingers".encode("utf-16"), "train", "UTF-8 text"),
        (b"1;Drumming Fingers\n", None, "a split in the dataset's config"),
        (
            b"id;label\n",
            "train",
            "no good row; first of 1 problems: train.csv:1: label 'label': unknown label",
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_named(data: bytes, split: str | None, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, Context("jester", "train.csv", split=split, vocabulary=WORDS))
    assert caught.value.file == "train.csv" and says in str(caught.value)


def test_the_label_list():
    assert vocabulary(b"Swiping Left\nPutting a, b\r\n", "labels.csv", "label").names == (
        "Swiping Left",
        "Putting a, b",
    )
    for bad in (b"a\na\n", b"a\nd\xe9\n"):
        with pytest.raises(AnnotationError, match="^labels.csv:2: label"):
            vocabulary(bad, "labels.csv", "label")


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", False) and "id;label" in EXPECTED
    assert sniff("train.csv", b"34870;Drumming Fingers\n1;No gesture\n") and sniff(
        "test.csv", b"109621\n145149\n"
    )
    for other in (b"", b"a.mp4 1\n", b"1;2\n", b"Swiping Left\n", b"\xff\x00"):
        assert not sniff("train.csv", other)
