"""Charades csv: videos with all their actions, as segments and as labels, and every way a row or an
action can be wrong.
"""

import pytest

from ops.annotations.formats.charades_csv import TABLES, read, sniff, vocabulary
from ops.annotations.rows import Context, Entry
from ops.annotations.vocabulary import AnnotationError

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
CLASSES = (
    b"c000 Holding some clothes\nc001 Putting clothes somewhere\nc092 Watching/Looking at"
    b" something, outside\n"
)
WORDS = vocabulary(CLASSES, "classes.txt", "label")
SEGMENTS = Context("charades", "t.csv", table="segments", split="train", vocabulary=WORDS)
CLIPS = Context("charades", "t.csv", table="clips", split="val", multi_label=True, vocabulary=WORDS)


def _row(actions: str, video: str = "46GP8", length: str = "24.83") -> str:
    return (
        f'{video},HR43,Kitchen,6,7,Yes,"He said ""hi"", and'
        f' left.",food;mug,a;b,{actions},{length}\n'
    )


def _file(*rows: str) -> bytes:
    return (HEADER + "".join(rows)).encode()


def test_actions_become_segments():
    answer = read(_file(_row("c092 11.90 21.20;c000 0.00 12.60"), _row("", "N11GT", "9")), SEGMENTS)
    assert TABLES == ("segments", "clips") and not answer.problems
    assert answer.table.to_pylist()[0] == {
        "video_id": "46GP8",
        "dataset": "charades",
        "split": "train",
        "target": "label",
        "label": "Watching/Looking at something, outside",
        "label_id": 2,
        "start_s": 11.9,
        "end_s": 21.2,
        "source": "t.csv:2",
    }
    # the second shows none of the actions
    assert answer.entries == (Entry("46GP8", "train", 24.83), Entry("N11GT", "train", 9.0))


def test_distinct_actions_become_the_labels_of_one_clip():
    answer = read(_file(_row("c092 1 2;c000 0 3;c092 4 5")), CLIPS)
    rows = [
        (row["clip_id"], row["video_id"], row["label_id"], row["start_s"], row["end_s"])
        for row in answer.table.to_pylist()
    ]
    assert rows == [("46GP8", "46GP8", 2, None, None), ("46GP8", "46GP8", 0, None, None)]
    with pytest.raises(AnnotationError, match="multi_label: true"):
        read(
            _file(_row("c092 1 2")),
            Context("charades", "t.csv", table="clips", split="val", vocabulary=WORDS),
        )


def test_without_a_vocabulary_a_label_is_its_code():
    answer = read(
        _file(_row("c092 1 2")), Context("charades", "t.csv", split="train", video="all/{id}")
    )
    assert [
        (row["video_id"], row["label"], row["label_id"]) for row in answer.table.to_pylist()
    ] == [("all/46GP8", "c092", -1)]


@pytest.mark.parametrize(
    "action, field, kind",
    [
        ("c092 1", "actions", "structure"),
        ("c092 1 2 3", "actions", "structure"),
        ("92 1 2", "label", "value"),
        ("c156 1 2", "label", "unknown_label"),
        ("c092 nan 2", "actions", "value"),
        ("c092 1 inf", "actions", "value"),
        ("c092 1_0 20", "actions", "value"),
        ("c092 -1 2", "actions", "negative_time"),
        ("c092 3 2", "actions", "end_before_start"),
        ("c092 2 2", "actions", "end_before_start"),
    ],
)
def test_a_bad_action_is_a_problem_and_the_others_are_read(action: str, field: str, kind: str):
    for context in (SEGMENTS, CLIPS):
        answer = read(_file(_row(f"{action};c001 5 6"), _row("c000 1 2", "other")), context)
        assert [(p.file, p.line, p.field, p.kind) for p in answer.problems] == [
            ("t.csv", 2, field, kind)
        ]
        assert answer.table["label_id"].to_pylist() == [1, 0]


@pytest.mark.parametrize(
    "row, field, kind",
    [
        ("46GP9,x\n", "(line)", "columns"),
        (_row("c000 1 2", ""), "id", "empty"),
        (_row("c000 1 2", "v", "-3"), "length", "value"),
        (_row("c000 1 2", "v", "nan"), "length", "value"),
        (_row("c000 1 2", "good"), "id", "duplicate"),
        (_row("c000 1 2", "v").replace('""hi""', '"hi"'), "(line)", "text"),
    ],
)
def test_a_bad_row_is_a_problem_and_the_others_are_read(row: str, field: str, kind: str):
    answer = read(_file(_row("c000 1 2", "good"), row, _row("c000 1 2", "last")), SEGMENTS)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [(3, field, kind)]
    assert answer.table["video_id"].to_pylist() == ["good", "last"]


def test_a_row_without_a_split_is_a_problem():
    answer = read(
        _file(_row("c000 1 2"), _row("c000 1 2", "v")),
        Context("charades", "t.csv", vocabulary=WORDS, splits={"v": "val"}),
    )
    assert answer.table["split"].to_pylist() == ["val"] and [p.kind for p in answer.problems] == [
        "unknown_split"
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER.encode(),
        b"id,length\na,3\n",
        _file(_row("c000 1 2")).decode().encode("utf-16"),
        b"{}",
        b'"id,actions\n',
        _file("x\n"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes):
    with pytest.raises(AnnotationError, match="^t.csv: "):
        read(data, SEGMENTS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Holding some clothes\n",
        b"c000 a\nc000 b\n",
        b"c000 a\nc001 a\n",
        b"c000\n",
        b"c000 \xff\n",
    ],
)
def test_a_wrong_class_file_is_named(data: bytes):
    with pytest.raises(AnnotationError, match="^classes.txt"):
        vocabulary(data, "classes.txt", "label")


def test_vocabulary_and_sniffing():
    assert (
        WORDS.ids == (0, 1, 2)
        and WORDS.numbers == (0, 1, 92)
        and WORDS.name_of[1] == "Putting clothes somewhere"
    )
    assert sniff("x", HEADER.encode()) and not any(
        sniff("x", data) for data in (b"", b"\xff\xfe", b"narration_id,video_id\n")
    )
