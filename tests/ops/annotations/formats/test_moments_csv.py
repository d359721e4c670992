"""Moments in Time and Multi-Moments lists, their categories, and every way a line can be wrong."""

import pytest

from ops.annotations.formats.moments_csv import EXPECTED, FOLDER, TABLE, read, sniff, vocabulary
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names

WORDS = from_names(["clapping", "adult+female+singing", "blocking"])
CONTEXT = Context(
    "mit", "trainingSet.csv", video="training/{video}", split="train", vocabulary=WORDS
)


def test_good_lines_become_clips():
    text = b"blocking/getty-karate-video-id635808620_4.mp4,blocking,6,0\nadult+female+singing/0P3XG_vf91c_35.mp4,adult+female+singing,3,2\n"  # noqa: E501
    rows = read(text, CONTEXT).table.to_pylist()
    assert rows[0] == {
        "clip_id": "training/blocking/getty-karate-video-id635808620_4",
        "video_id": "training/blocking/getty-karate-video-id635808620_4",
        "dataset": "mit",
        "split": "train",
        "target": "label",
        "label": "blocking",
        "label_id": 2,
        "start_s": None,
        "end_s": None,
        "source": "trainingSet.csv:1",
    }
    assert (rows[1]["label_id"], rows[1]["video_id"]) == (
        1,
        "training/adult+female+singing/0P3XG_vf91c_35",
    )
    assert read(b"blocking/a.mp4,blocking\n", CONTEXT).table.num_rows == 1  # without the workers


def test_several_labels_are_ids():
    context = Context("mmit", "f", split="train", multi_label=True, vocabulary=WORDS)
    answer = read(b"a/x.mp4,0,2\nb/y.mp4,1\nc/z.mp4,3\nd/w.mp4,clapping\ne/v.mp4\n", context)
    assert [(row["video_id"], row["label"]) for row in answer.table.to_pylist()] == [
        ("a/x", "clapping"), ("a/x", "blocking"), ("b/y", "adult+female+singing"),
    ]  # fmt: skip
    assert [(p.line, p.kind) for p in answer.problems] == [
        (3, "unknown_label"),
        (4, "value"),
        (5, "empty"),
    ]


def test_all_bad_lines_come_together_and_the_good_ones_are_read(monkeypatch):
    monkeypatch.setattr("ops.annotations.lines.LINE_LIMIT", 100)
    lines = [
        b"path,label,agree,disagree",
        b"clapping/a.mp4,blocking,3,0",
        b"clapping/a.mp4,clapping,3",
        b"clapping/a.mp4,clapping,nan,0",
        b"clapping/a.mp4,clapping,3,-1",
        b"flying/a.mp4,flying,3,0",
        b"clapping/a.mp4,,3,0",
        b",clapping,3,0",
        b"d\xe9,d\xe9,1,1",
        b"y" * 101,
        b"a.mp4",
        b"clapping/good.mp4,clapping,3,0",
    ]
    answer = read(b"\n".join(lines), CONTEXT)
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (1, "agree", "value"),
        (2, "label", "contradiction"),
        (3, "(line)", "columns"),
        (4, "agree", "value"),
        (5, "disagree", "value"),
        (6, "label", "unknown_label"),
        (7, "label", "empty"),
        (8, "path", "empty"),
        (9, "(line)", "text"),
        (10, "(line)", "long_line"),
        (11, "(line)", "columns"),
    ]
    assert answer.table["video_id"].to_pylist() == ["training/clapping/good"]


@pytest.mark.parametrize(
    "data, split, says",
    [
        (b"", "train", "an empty file"),
        ("a/b.mp4,a,1,1".encode("utf-16"), "train", "UTF-8 text"),
        (b"clapping/a.mp4,clapping,3,0\n", None, "a split in the dataset's config"),
        (b"flying/a.mp4,flying,3,0\n", "train", "no good row"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(data: bytes, split: str | None, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, Context("mit", "trainingSet.csv", split=split, vocabulary=WORDS))
    assert caught.value.file == "trainingSet.csv" and says in str(caught.value)


def test_the_categories():
    assert vocabulary(b"praying,1\nclapping,0\n", "c.txt", "label").names == ("clapping", "praying")
    assert vocabulary(b"clapping\ndropping\n", "c.txt", "label").names == ("clapping", "dropping")
    for bad in (
        b"a,0\na,1\n",
        b"a,0\nb,0\n",
        b"a,x\n",
        b"a,-1\n",
        b",0\n",
        b"a,0\nb,2\n",
        b"d\xe9,0\n",
    ):
        with pytest.raises(AnnotationError, match="^c.txt"):
            vocabulary(bad, "c.txt", "label")


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", False) and "agree" in EXPECTED
    assert sniff("trainingSet.csv", b"blocking/a.mp4,blocking,6,0\n")
    for other in (
        b"",
        b"blocking/a.mp4,3\n",
        b"blocking/a.mp4,clapping,6,0\n",
        b"a.mp4 1\n",
        b"\xff\x00",
    ):
        assert not sniff("trainingSet.csv", other)
