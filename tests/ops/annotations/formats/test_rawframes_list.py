"""Lists of frame folders: the two forms, their numbers, and every way a line can be wrong."""

import pytest

from ops.annotations.formats.rawframes_list import EXPECTED, FOLDER, TABLE, read, sniff
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names

WORDS = from_names(["dance", "run", "swim"])
CONTEXT = Context("s", "train.txt", split="train", vocabulary=WORDS)


def test_good_lines_become_clips_of_the_videos_that_the_frames_came_from():
    rows = read(b"something/v1/img/100218 42 1\nVideo 2.5/x 29 2\n", CONTEXT).table.to_pylist()
    assert rows[0] == {
        "clip_id": "something/v1/img/100218",
        "video_id": "something/v1/img/100218",
        "dataset": "s",
        "split": "train",
        "target": "label",
        "label": "run",
        "label_id": 1,
        "start_s": None,
        "end_s": None,
        "source": "train.txt:1",
    }
    assert (rows[1]["video_id"], rows[1]["label"]) == ("Video 2.5/x", "swim")


@pytest.mark.parametrize(
    "template, video_id",
    [("{name}", "x.ts"), ("mp4/{video}", "mp4/a/b/x.ts"), ("{parent}-{num_frames}", "b-7")],
)
def test_the_template_names_the_video_of_a_folder(template: str, video_id: str):
    answer = read(
        b"a/b/x.ts/ 7 1\n" if template == "{name}" else b"a/b/x.ts 7 1\n",
        Context("s", "f", video=template, split="train"),
    )
    assert answer.table["video_id"].to_pylist() == [video_id]  # a folder has no extension


def test_clips_inside_a_folder_need_a_file_each():
    context = Context("s", "f", video="{video}_{offset:06d}", split="train", vocabulary=WORDS)
    rows = read(b"a 12 163 2\na 213 122 1\n", context).table.to_pylist()
    assert [(row["video_id"], row["label"], row["start_s"]) for row in rows] == [
        ("a_000012", "swim", None),
        ("a_000213", "run", None),
    ]
    answer = read(b"b 10 1\na 12 163 2\na 0 163 2\n", CONTEXT)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (2, "offset", "structure"),
        (3, "offset", "structure"),
    ]
    assert answer.table["video_id"].to_pylist() == ["b"]


def test_several_labels_and_test_lists():
    answer = read(
        b"a 163 1 2\nb 122 0\n",
        Context("s", "f", split="train", multi_label=True, vocabulary=WORDS),
    )
    assert [(row["clip_id"], row["label"]) for row in answer.table.to_pylist()] == [
        ("a", "run"),
        ("a", "swim"),
        ("b", "dance"),
    ]
    answer = read(b"a 163\nb 122 -1\n", Context("s", "f", split="test"))
    assert answer.table["label"].to_pylist() == [None, None] and answer.table[
        "video_id"
    ].to_pylist() == ["a", "b"]


def test_all_bad_lines_come_together_and_the_good_ones_are_read(monkeypatch):
    monkeypatch.setattr("ops.annotations.lines.LINE_LIMIT", 100)
    lines = [
        b"folder,frames,label",
        b"a 163",
        b"a -5 1",
        b"a 0 1",
        b"a nan 1",
        b"a 163 3",
        b"a 163 -1",
        b"a 10 20 30 1",
        b"d\xe9 1 1",
        b"y" * 101,
        b"good 3 1",
        b"a",
    ]
    answer = read(b"\n".join(lines), CONTEXT)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (1, "(line)", "columns"),
        (2, "(line)", "columns"),
        (3, "num_frames", "negative_time"),
        (4, "num_frames", "end_before_start"),
        (5, "(line)", "columns"),
        (6, "label", "unknown_label"),
        (7, "label", "empty"),
        (8, "label", "unknown_label"),
        (8, "label", "unknown_label"),
        (8, "label", "columns"),
        (9, "(line)", "text"),
        (10, "(line)", "long_line"),
        (12, "(line)", "columns"),
    ]
    assert answer.table["video_id"].to_pylist() == ["good"]


@pytest.mark.parametrize(
    "data, context, says",
    [
        (b" \n", CONTEXT, "an empty file"),
        (b"\x1f\x8b\x08", CONTEXT, "UTF-8 text"),
        (b"a 1 1\n", Context("s", "train.txt"), "split"),
        (
            b"a 1 1\n",
            Context("s", "train.txt", video="{id}", split="train"),
            "template over the columns path, video",
        ),
        (b"a 1 7\n", CONTEXT, "no good row"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(data: bytes, context: Context, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, context)
    assert caught.value.file == "train.txt" and says in str(caught.value)


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", False) and "num_frames" in EXPECTED
    assert sniff("t.txt", b"a/b 10 2\nc 20 1\n") and sniff("t.txt", b"a/b 0 10 2\n")
    for other in (
        b"",
        b"a.mp4 1\n",
        b"a.mp4 1 2\n",
        b"a 10\n",
        b"34870;Drumming Fingers\n",
        b"\x00\xff",
    ):
        assert not sniff("t.txt", other)
