"""Rows of clips: what a path gives a template, and the checks that all formats share."""

import pytest

from ops.annotations.clips import Clips, path_columns, whole_number
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names

WORDS = from_names(["run", "swim"])


def test_a_path_gives_its_parts():
    assert path_columns("./a/b/c.d.MP4") == {
        "path": "./a/b/c.d.MP4", "video": "a/b/c.d", "name": "c.d", "folder": "a/b", "parent": "b",
    }  # fmt: skip
    assert path_columns("v.2") == {
        "path": "v.2",
        "video": "v.2",
        "name": "v.2",
        "folder": "",
        "parent": "",
    }


@pytest.mark.parametrize(
    "text, number",
    [
        ("0", 0),
        ("007", 7),
        ("-1", None),
        ("1.0", None),
        ("1_0", None),
        ("\u0661", None),
        ("", None),
        (" 1", None),
    ],
)
def test_whole_numbers_are_decimal_digits(text: str, number: int | None):
    assert whole_number(text) == number


def test_a_clip_inside_a_video_and_its_labels():
    clips = Clips(
        Context("d", "f", multi_label=True, target="verb", vocabulary=WORDS), {"video": "x"}
    )
    clips.add({"video": "a"}, ["swim", 0], "train", 3, span_s=(1.0, 2.5), mark="@1-2.5")
    clips.add({"video": "b"}, [1], "val", place="[4]")
    table = clips.finish("rows").table.select(
        ["clip_id", "target", "label", "label_id", "start_s", "end_s", "source"]
    )
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("a@1-2.5", "verb", "swim", 1, 1.0, 2.5, "f:3"),
        ("a@1-2.5", "verb", "run", 0, 1.0, 2.5, "f:3"),
        ("b", "verb", "swim", 1, None, None, "f:[4]"),
    ]


def test_every_fault_of_a_row_is_told_and_the_row_left_out():
    clips = Clips(Context("d", "f", video="{number:03d}", vocabulary=WORDS), {"number": 1})
    clips.add({"number": "x"}, ["fly", 2, "fly"], None, 7)
    clips.add({"number": 5}, ["run"], "train", 8)
    answer = clips.finish("rows")
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (7, "label", "unknown_label"),
        (7, "label", "unknown_label"),
        (7, "label", "unknown_label"),
        (7, "split", "unknown_split"),
        (7, "label", "columns"),
        (7, "label", "duplicate"),
        (7, "video", "value"),
    ]
    assert answer.table["video_id"].to_pylist() == ["005"]


def test_the_configs_split_goes_before_the_files():
    clips = Clips(Context("d", "f", split="val"), {"video": "x"})
    clips.add({"video": "a"}, ["run"], "train", 1)
    assert clips.finish("rows").table["split"].to_pylist() == ["val"]


def test_a_template_that_does_not_fit_is_named_before_any_row():
    with pytest.raises(AnnotationError, match="^f: video: found '{other}'"):
        Clips(Context("d", "f", video="{other}"), {"video": "x"})
