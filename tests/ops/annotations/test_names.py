"""Rows whose video has not quite the name of its file."""

import pytest

from configs.schema import Dataset
from ops.annotations.check import hint
from ops.annotations.join import Videos, videos_of
from ops.annotations.names import bare, difference, matches, renamed, told
from ops.annotations.rows import Entry
from ops.store.tables import BOXES, CLIPS, VIDEOS, from_rows

DATASET = Dataset(name="d", title="t", licence="none", root="/r")


def videos(*names: str) -> Videos:
    rows = [
        {name: None for name in VIDEOS.names} | {"video_id": video, "status": "ok"}
        for video in names
    ]
    return videos_of(DATASET, from_rows(rows, VIDEOS))


def clips(*names: str, mark: str = ""):
    rows = [
        {name: None for name in CLIPS.names}
        | {"video_id": video, "clip_id": video + mark, "source": "f:1"}
        for video in names
    ]
    return from_rows(rows, CLIPS)


@pytest.mark.parametrize(
    "row, file, says",
    [
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("x\\a", "x/a", "blanks or slashes"),
        ("./x//a", "x/a", "blanks or slashes"),
        ("Film", "film", "case"),
        ("film ", "film", "blanks or slashes"),
        ("a.avi", "a", "file ending"),
        ("a", "a.mp4", "file ending"),  # the file is a.mp4.mp4
        (
            "X\\Caf\u00e9.MP4",
            "x/cafe\u0301",
            "case and Unicode form and blanks or slashes and file ending",
        ),
    ],
)
def test_a_name_that_one_file_fits_is_matched_and_told(row: str, file: str, says: str):
    there = videos(file, "other")
    found, words = matches({"clips": clips(row, "other")}, [], there)
    assert found == {row: file} and not words and difference(row, file) == says
    (note,) = told(found, there)
    assert note.kind == "matched_name" and says in note.reason
    assert ("\\u0301" in note.found) == ("Unicode" in says)  # what looks the same is escaped
    table = renamed(clips(row, "other", mark="@0-1"), found)
    assert table["video_id"].to_pylist() == [file, "other"] and table["clip_id"].to_pylist() == [
        f"{file}@0-1",
        "other@0-1",
    ]
    assert table.schema.equals(CLIPS)


@pytest.mark.parametrize(
    "rows, files",
    [
        (["A"], ["a", "a.mp4"]),  # two files
        (["A", "a.avi"], ["a"]),  # two rows
        (["A", "a"], ["a"]),  # a row that means the file is there
    ],
)
def test_where_more_than_one_fits_none_is_matched(rows: list[str], files: list[str]):
    found, words = matches({"clips": clips(*rows)}, [], videos(*files))
    assert found == {} and "'A' is one of several that differ in their" in words["A"]


def test_an_exact_name_is_never_touched():
    assert matches({"clips": clips("a", "A")}, [], videos("a", "A")) == ({}, {})
    assert matches({"clips": clips("gone")}, [("clips", Entry("B", "val"))], videos("b")) == (
        {"B": "b"},
        {},
    )
    assert bare("no.dot") == "no.dot" and bare(".mp4") == ".mp4"


def test_tables_without_clips_are_renamed_too():
    boxes = from_rows(
        [{name: None for name in BOXES.names} | {"video_id": "A", "source": "f:1"}], BOXES
    )
    assert renamed(boxes, {"A": "a"})["video_id"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    "row, file, says",
    [
        ("123", "000123", "zeros in front"), ("1.00E+05", "100000", "a spreadsheet"), ("#NAME?", "-abc", "a spreadsheet"),  # noqa: E501
        ("1-Mar", "MAR1", "a spreadsheet"),
    ],
)  # fmt: skip
def test_names_that_a_spreadsheet_has_rewritten_are_told(row: str, file: str, says: str):
    assert says in hint([row], [file])
