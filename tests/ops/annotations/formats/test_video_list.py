"""Lists of paths and label ids: what ends a path, ids and vocabularies, and every way a line can be
wrong.
"""

import pytest

from ops.annotations.formats.video_list import EXPECTED, FOLDER, TABLE, read, sniff, split_line
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names, parse

WORDS = from_names(["dance", "run", "swim"])
CONTEXT = Context("k", "train.txt", split="train", vocabulary=WORDS)


@pytest.mark.parametrize(
    "line, path, fields",
    [
        ("some/path/000.mp4 1", "some/path/000.mp4", ["1"]),
        ("a b/c d.mp4 1", "a b/c d.mp4", ["1"]),
        ("a,b.mp4,12", "a,b.mp4", ["12"]),
        ("a.mp4, 1", "a.mp4", ["1"]),
        ("a.mp4\t1 ", "a.mp4", ["1"]),
        ("a.mp4 1 5 7", "a.mp4", ["1", "5", "7"]),
        ("a.MKV 1", "a.MKV", ["1"]),
        ("a.mp4", "a.mp4", []),
        ("a b.mp4", "a b.mp4", []),
        ("a.mp4.webm 3", "a.mp4.webm", ["3"]),
        ("a.mp4 dancing", "a.mp4", ["dancing"]),
        ('"a,b c.mp4",4', "a,b c.mp4", ["4"]),
        ("no_extension_000001_000011 4", "no_extension_000001_000011", ["4"]),
        ("a video of 2 people 4", "a video of 2 people", ["4"]),
        ("a 3 4", "a", ["3", "4"]),
        ("7", "7", []),
        ("7 8", "7", ["8"]),
    ],
)
def test_a_path_ends_at_its_extension_or_at_the_last_numbers(
    line: str, path: str, fields: list[str]
):
    assert split_line(line) == (path, fields)


def test_good_lines_become_whole_clips():
    rows = read(b"run/v 1.mp4 1\n\nx.y/z.avi,2\r\n", CONTEXT).table.to_pylist()
    assert rows[0] == {
        "clip_id": "run/v 1",
        "video_id": "run/v 1",
        "dataset": "k",
        "split": "train",
        "target": "label",
        "label": "run",
        "label_id": 1,
        "start_s": None,
        "end_s": None,
        "source": "train.txt:1",
    }
    assert (rows[1]["video_id"], rows[1]["label"], rows[1]["source"]) == (
        "x.y/z",
        "swim",
        "train.txt:3",
    )


@pytest.mark.parametrize(
    "template, video_id",
    [
        ("{video}", "data/k/val/x"),
        ("{name}", "x"),
        ("{parent}/{name}", "val/x"),
        ("{path}", "./data/k/val/x.mp4"),
        ("k/{folder}", "k/data/k/val"),
    ],
)
def test_the_template_takes_what_a_path_has(template: str, video_id: str):
    answer = read(
        b"./data/k/val/x.mp4 1\n", Context("k", "f", video=template, split="val", vocabulary=WORDS)
    )
    assert answer.table["video_id"].to_pylist() == [video_id]


def test_without_a_vocabulary_labels_are_the_ids_as_text():
    rows = read(b"a.mp4 10\nb.mp4 2\n", Context("k", "f", split="train")).table.to_pylist()
    assert [(row["label"], row["label_id"]) for row in rows] == [("10", -1), ("2", -1)]
    # as a first pass found them
    known = Context("k", "f", split="train", vocabulary=from_names(["10", "2"]))
    rows = read(b"a.mp4 10\nb.mp4 2\n", known).table.to_pylist()
    assert [(row["label"], row["label_id"]) for row in rows] == [("10", 0), ("2", 1)]


def test_several_labels_need_leave_and_give_a_row_each():
    context = Context("k", "f", split="train", multi_label=True, vocabulary=WORDS)
    answer = read(b"a.mp4 0 2\nb.mp4 1\nc.mp4 0 9 8\nd.mp4 1 1\n", context)
    assert [(row["clip_id"], row["label"]) for row in answer.table.to_pylist()] == [
        ("a", "dance"),
        ("a", "swim"),
        ("b", "run"),
    ]
    assert [(p.line, p.kind, p.found) for p in answer.problems] == [
        (3, "unknown_label", "9"),
        (3, "unknown_label", "8"),
        (4, "duplicate", "1 1"),
    ]
    answer = read(b"a.mp4 0 2\nb.mp4 1\n", CONTEXT)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (1, "label", "columns")
    ] and "multi_label" in answer.problems[0].reason


def test_test_lists_have_no_labels():
    context = Context("k", "f", split="test", vocabulary=WORDS)
    answer = read(b"a.mp4\nb.mp4 -1\nc d.mp4\n", context)
    assert [
        (row["video_id"], row["label"], row["label_id"]) for row in answer.table.to_pylist()
    ] == [("a", None, None), ("b", None, None), ("c d", None, None)]


def test_all_bad_lines_come_together_and_the_good_ones_are_read(monkeypatch):
    monkeypatch.setattr("ops.annotations.lines.LINE_LIMIT", 100)
    lines = [
        b"path,label",
        b"a.mp4",
        b"a.mp4 -1",
        b"a.mp4 run",
        b"a.mp4 1.0",
        b"a.mp4 nan",
        b"a.mp4 3",
        b"a.mp4 -2",
        b"a.mp4 99999999999999999999",
        b"d\xe9j\xe0.mp4 1",
        b"y" * 101,
        b"good.mp4 1",
        "a.mp4 \u0661".encode(),
    ]
    answer = read(b"\n".join(lines), CONTEXT)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (1, "label", "empty"),
        (2, "label", "empty"),
        (3, "label", "empty"),
        (4, "label", "value"),
        (5, "label", "value"),
        (6, "label", "value"),
        (7, "label", "unknown_label"),
        (8, "label", "value"),
        (9, "label", "value"),
        (10, "(line)", "text"),
        (11, "(line)", "long_line"),
        (13, "label", "value"),
    ]
    assert answer.problems[6].reason == "the vocabulary's ids are 0 to 2"
    assert answer.table["video_id"].to_pylist() == ["good"]


@pytest.mark.parametrize(
    "data, context, says",
    [
        (b"", CONTEXT, "an empty file"),
        ("a.mp4 1\n".encode("utf-16"), CONTEXT, "UTF-8 text"),
        (b"a.mp4 1\n", Context("k", "train.txt", vocabulary=WORDS), "split"),
        (
            b"a.mp4 1\n",
            Context("k", "train.txt", video="{youtube_id}", split="train"),
            "template over the columns path, video, name, folder, parent",
        ),
        (b"a.mp4 7\nb.mp4 8\n", CONTEXT, "no good row; first of 2 problems"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(data: bytes, context: Context, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, context)
    assert caught.value.file == "train.txt" and says in str(caught.value)


def test_long_lines_take_no_long_time():
    for filler in (b"1 ", b" ", b",", b"a.mp4", b"a 1 ", b'"'):
        line = filler * (900_000 // len(filler))
        read(line + b"x 1\nb.mp4 1\n", Context("k", "f", split="train"))


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", False) and "label_id" in EXPECTED
    assert (
        sniff("train.txt", b"a/b.mp4 1\nc d.mp4 2\n")
        and sniff("t.csv", b"a.mp4,1 2\n")
        and sniff("test.txt", b"a.mp4\nb.mp4\n")
    )
    for other in (
        b"",
        b"a.mp4 dancing\n",
        b"folder 100 2\n",
        b"a.mp4 1\nb.mp4\n",
        b"dancing/a.mp4,dancing,3,1\n",
        b"\xff\xfe\x00",
    ):
        assert not sniff("train.txt", other)
    # their numbers are no ids from 0
    for name in (
        "trainlist01.txt",
        "ucfTrainTestlist/testlist03.txt",
        "brush_hair_test_split1.txt",
    ):
        assert not sniff(name, b"a/b.avi 1\n")


@pytest.mark.parametrize(
    "labels, classes",
    [
        ("kinetics_label_map_k400.txt", 400),
        ("kinetics_label_map_k700.txt", 700),
        ("mmit_label_map.txt", 313),
    ],
)
def test_published_label_maps_are_vocabularies(shared, labels: str, classes: int):
    words = parse((shared / "annotations/mmaction2" / labels).read_bytes(), labels, own_ids=False)
    lines = "".join(f"v_{index}.mp4 {index}\n" for index in range(classes))
    answer = read(lines.encode(), Context("k", "f", split="val", vocabulary=words))
    assert answer.table["label"].to_pylist() == list(words.names) and len(words.names) == classes
